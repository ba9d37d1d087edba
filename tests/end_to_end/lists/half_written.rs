//! A list that somebody writes while its folder is busy: it is read at the end, as half of it could lock everybody out.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{ListFile, WITH_US, WITHOUT_US, expect_allowed, proxy_with, wait_allowed};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

const RELOADED: &str = "allowed subnets reloaded";
const KEPT: &str = "the old list of allowed subnets stays in force";
const EMPTY: &str = "the list of allowed subnets is empty now: nobody is allowed";

/// A proxy with two lists in one folder.
struct Lists {
    allowed: ListFile,
    proxy: Proxy,
    denied_reloads: usize,
}

// === impl Lists ===

impl Lists {
    fn start() -> TestResult<Self> {
        let allowed = ListFile::new(WITH_US)?;
        let denied = allowed.folder().join("denied");
        fs::write(&denied, "")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--listeners", "1"])
            .args(["--allowed-subnets".as_ref(), allowed.path.as_path()])
            .args(["--denied-clients".as_ref(), denied.as_path()])
            .start()?;
        Ok(Self {
            allowed,
            proxy,
            denied_reloads: 0,
        })
    }

    /// Writes the other list twice. Once it is reloaded, whatever happened in the folder before has been seen; by the second
    /// time also by one that was in no hurry, as it had read its list not long ago.
    fn write_neighbour(&mut self) -> TestResult {
        self.write_neighbour_once()?;
        self.write_neighbour_once()
    }

    fn write_neighbour_once(&mut self) -> TestResult {
        self.denied_reloads += 1;
        let content = "198.51.100.0/24\n".repeat(self.denied_reloads);
        fs::write(self.allowed.folder().join("denied"), content)?;
        let reloaded = "denied clients reloaded";
        let is_reloaded = |line: &serde_json::Value| line["message"] == reloaded;
        self.proxy.wait_for_logs(self.denied_reloads, is_reloaded)?;
        Ok(())
    }

    fn count(&self, message: &str) -> usize {
        let log = self.proxy.log();
        log.iter().filter(|line| line["message"] == message).count()
    }

    /// The old list is in force, and nothing else was read.
    #[track_caller]
    fn expect_old(&self) -> TestResult {
        assert_eq!(self.count(EMPTY), 0, "an empty list was read");
        assert_eq!(self.count(RELOADED), 0, "half a list was read");
        expect_allowed(&self.proxy, true)
    }

    /// Completes the list, and sees it in force with so many prefixes.
    fn finish(self, mut file: File, rest: &str, subnets: usize) -> TestResult {
        file.write_all(rest.as_bytes())?;
        drop(file);
        let line = self.proxy.wait_for_message(RELOADED)?;
        assert_eq!(line["subnets"], subnets);
        wait_allowed(&self.proxy, false)?;
        assert_eq!(self.count(EMPTY), 0);
        assert_eq!(self.count(RELOADED), 1);
        self.proxy.stop()?.expect_success()
    }
}

/// As `scp denied allowed host:/etc/glommproxy/` does.
#[test]
fn the_end_of_a_neighbour_is_not_its_own() -> TestResult {
    isolated(|| {
        let mut lists = Lists::start()?;
        let file = File::create(&lists.allowed.path)?;
        lists.write_neighbour()?;
        lists.expect_old()?;
        lists.finish(file, WITHOUT_US, 1)
    })
}

/// The line that is cut would be a prefix, too, and a wider one.
#[test]
fn a_new_file_counts_once_it_is_closed() -> TestResult {
    isolated(|| {
        let mut lists = Lists::start()?;
        fs::remove_file(&lists.allowed.path)?;
        lists.proxy.wait_for_message(KEPT)?;
        let mut file = File::create(&lists.allowed.path)?;
        file.write_all(b"192.0.2.0/24\n203.0.113.0/2")?;
        lists.write_neighbour()?;
        lists.expect_old()?;
        assert_eq!(lists.count(KEPT), 1);
        lists.finish(file, "4\n", 2)
    })
}

/// That the old file is gone is noticed when the new one is there already.
#[test]
fn a_new_file_at_once_after_the_old_one() -> TestResult {
    isolated(|| {
        let mut lists = Lists::start()?;
        fs::remove_file(&lists.allowed.path)?;
        let mut file = File::create(&lists.allowed.path)?;
        file.write_all(b"192.0.2.0/24\n203.0.113.0/2")?;
        lists.write_neighbour()?;
        lists.expect_old()?;
        // Another mode is not its end either.
        file.set_permissions(Permissions::from_mode(0o640))?;
        lists.write_neighbour()?;
        lists.expect_old()?;
        lists.finish(file, "4\n", 2)
    })
}

/// Nobody writes and closes what is only linked to another place.
#[test]
fn a_link_counts_at_once() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let other = list.folder().join("other");
        let proxy = proxy_with(&list.path)?;
        fs::write(&other, WITHOUT_US)?;
        fs::remove_file(&list.path)?;
        symlink("other", &list.path)?;
        wait_allowed(&proxy, false)?;

        fs::write(&other, WITH_US)?;
        wait_allowed(&proxy, true)?;

        fs::remove_file(&list.path)?;
        fs::write(&other, WITHOUT_US)?;
        fs::hard_link(&other, &list.path)?;
        wait_allowed(&proxy, false)?;
        proxy.stop()?.expect_success()
    })
}
