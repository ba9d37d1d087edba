//! A list that changes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use inotify::{Inotify, WatchMask};
use rustix::process::Signal;

use super::failing::WITHOUT_OVERRIDE;
use super::{ListFile, WITH_US, WITHOUT_US, expect_allowed, proxy_with, wait_allowed};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

const RELOADED: &str = "allowed subnets reloaded";
const KEPT: &str = "the old list of allowed subnets stays in force";
const UNWATCHED: &str = "cannot watch the file's folder for changes, only the file: write it in place, or send SIGHUP \
                         after replacing it";

/// A writer that has not closed the file may not be done, so only SIGHUP makes the proxy read it now.
#[test]
fn on_sighup() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let proxy = proxy_with(&list.path)?;
        expect_allowed(&proxy, false)?;
        let mut file = OpenOptions::new().append(true).open(&list.path)?;
        file.write_all(WITH_US.as_bytes())?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message(RELOADED)?;
        wait_allowed(&proxy, true)?;
        drop(file);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn when_it_is_rewritten_in_place() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let proxy = proxy_with(&list.path)?;
        for allowed in [true, false, true] {
            expect_allowed(&proxy, !allowed)?;
            list.write(if allowed { WITH_US } else { WITHOUT_US })?;
            wait_allowed(&proxy, allowed)?;
        }
        Ok(())
    })
}

#[test]
fn when_it_is_replaced() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let proxy = proxy_with(&list.path)?;
        // Each has to be noticed, although the file that was watched first is long gone.
        for allowed in [true, false, true] {
            expect_allowed(&proxy, !allowed)?;
            list.replace(if allowed { WITH_US } else { WITHOUT_US })?;
            wait_allowed(&proxy, allowed)?;
        }
        Ok(())
    })
}

/// `list` leads to `..data/list` and `..data` to a folder with a date for its name. An update makes a new folder, a new
/// link `..data_tmp`, renames that over `..data`, and removes the old folder (kubelet, `atomic_writer.go`).
#[test]
fn when_kubernetes_swaps_a_configmap() -> TestResult {
    isolated(|| {
        let volume = tempfile::tempdir()?;
        let at = |name: &str| volume.path().join(name);
        let publish = |date: &str, content: &str| -> TestResult {
            fs::create_dir(at(date))?;
            fs::write(at(date).join("list"), content)?;
            symlink(date, at("..data_tmp"))?;
            Ok(fs::rename(at("..data_tmp"), at("..data"))?)
        };
        publish("..2026_01", WITHOUT_US)?;
        symlink("..data/list", at("list"))?;
        let proxy = proxy_with(&at("list"))?;
        expect_allowed(&proxy, false)?;
        for (old, new, allowed) in [
            ("..2026_01", "..2026_02", true),
            ("..2026_02", "..2026_03", false),
            ("..2026_03", "..2026_04", true),
        ] {
            publish(new, if allowed { WITH_US } else { WITHOUT_US })?;
            fs::remove_dir_all(at(old))?;
            wait_allowed(&proxy, allowed)?;
        }
        Ok(())
    })
}

/// As Docker does with `-v FILE:FILE`: what happens to the file happens in a folder the proxy cannot see.
#[test]
fn when_it_is_a_bind_mount_and_rewritten() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let mounted = ListFile::new("")?;
        let mount = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server)
            .under(
                ["unshare", "--mount", "sh", "-c", mount, "sh"]
                    .map(Into::into)
                    .into_iter()
                    .chain([
                        list.path.clone().into_os_string(),
                        mounted.path.clone().into_os_string(),
                    ]),
            )
            .args(["--allowed-subnets"])
            .args([&mounted.path])
            .start()?;
        expect_allowed(&proxy, false)?;
        list.write(WITH_US)?;
        wait_allowed(&proxy, true)
    })
}

/// To watch a folder takes the right to read it, which its files do not.
#[test]
fn when_its_folder_may_not_be_read() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        fs::set_permissions(list.folder(), fs::Permissions::from_mode(0o311))?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .under(WITHOUT_OVERRIDE)
            .args(["--allowed-subnets".as_ref(), list.path.as_path()])
            .start()?;
        let warning = proxy.wait_for_message(UNWATCHED)?;
        assert_eq!(warning["level"], "WARN");
        for allowed in [true, false, true] {
            list.write(if allowed { WITH_US } else { WITHOUT_US })?;
            wait_allowed(&proxy, allowed)?;
        }
        let exit = proxy.stop()?;
        let warnings = exit.log.iter().filter(|line| line["level"] == "WARN");
        assert_eq!(warnings.count(), 1);
        exit.expect_success()
    })
}

#[test]
fn a_deleted_list_stays_in_force_until_it_is_back() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let proxy = proxy_with(&list.path)?;
        fs::remove_file(&list.path)?;
        let complaint = proxy.wait_for_message(KEPT)?;
        assert_eq!(complaint["level"], "WARN");
        expect_allowed(&proxy, false)?;
        list.write(WITH_US)?;
        wait_allowed(&proxy, true)
    })
}

#[test]
fn a_folder_that_was_moved_away_and_made_anew() -> TestResult {
    isolated(|| {
        let above = tempfile::tempdir()?;
        let folder = above.path().join("lists");
        fs::create_dir(&folder)?;
        fs::write(folder.join("list"), WITHOUT_US)?;
        let proxy = proxy_with(&folder.join("list"))?;
        fs::rename(&folder, above.path().join("old"))?;
        fs::create_dir(&folder)?;
        fs::write(folder.join("list"), WITH_US)?;
        wait_allowed(&proxy, true)
    })
}

#[test]
fn a_bad_new_list_keeps_the_old_one_and_is_complained_of_once() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let proxy = proxy_with(&list.path)?;
        let bad = "192.0.2.0/24\nnonsense\n";
        list.write(bad)?;
        let complaint = proxy.wait_for_message(KEPT)?;
        let error = complaint["error"].as_str().ok_or("no error")?;
        let place = format!("{}:2: ", list.path.display());
        assert!(error.starts_with(&place), "{error}");
        expect_allowed(&proxy, true)?;

        // Written again, it is read again: then it is closed by somebody who has not written.
        let mut reads = Inotify::init()?;
        reads.watches().add(&list.path, WatchMask::CLOSE_NOWRITE)?;
        list.write(bad)?;
        reads.read_events_blocking(&mut [0; 1024])?;
        let complaints = || {
            let log = proxy.log();
            log.iter().filter(|line| line["message"] == KEPT).count()
        };
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_logs(2, |line| line["message"] == KEPT)?;
        assert_eq!(complaints(), 2, "one, and one for the asking");
        expect_allowed(&proxy, true)?;

        list.write(WITHOUT_US)?;
        proxy.wait_for_message(RELOADED)?;
        assert_eq!(complaints(), 2);
        wait_allowed(&proxy, false)
    })
}

#[test]
fn thousands_of_rewrites_end_with_the_last() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let proxy = proxy_with(&list.path)?;
        for round in 0..5000 {
            let content = WITHOUT_US.repeat(round % 50 + 1);
            match round % 3 {
                0 => list.replace(&content)?,
                1 => list.write(&content)?,
                _ => {
                    fs::remove_file(&list.path)?;
                    File::create(&list.path)?.write_all(content.as_bytes())?;
                }
            }
        }
        list.replace(WITH_US)?;
        wait_allowed(&proxy, true)?;
        proxy.stop()?.expect_success()
    })
}
