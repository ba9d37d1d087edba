//! List files that are gone, unreadable, endless, or never at rest: the old list stays in force.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use super::ADMIN;
use crate::harness::{Balancer, Header, Proxy, TcpServer, metric, wait_for};
use crate::lists::failing::WITHOUT_OVERRIDE;
use crate::namespace::{TestResult, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const DENIED: &str = "192.0.2.66:4000";

/// Flag, what the log calls the list, and what is in it.
const LISTS: [(&str, &str, &str); 3] = [
    ("allowed-subnets", "allowed subnets", "127.0.0.0/8\n"),
    ("denied-clients", "denied clients", "192.0.2.66\n"),
    (
        "allowed-destinations",
        "allowed destinations",
        "127.0.0.1\n",
    ),
];

/// Makes something at a path where nothing is.
type Make = fn(&Path) -> TestResult;

/// What a list may become, and what is said of it.
const SPOILT: [(&str, Make); 7] = [
    ("No such file or directory", |_| Ok(())),
    ("Permission denied", |path| {
        fs::write(path, "127.0.0.0/8\n")?;
        Ok(fs::set_permissions(
            path,
            fs::Permissions::from_mode(0o000),
        )?)
    }),
    ("Is a directory", |path| Ok(fs::create_dir(path)?)),
    LOOP,
    ("a pipe can be read only once", make_pipe),
    SOCKET,
    ("stream did not contain valid UTF-8", |path| {
        let program = std::env::current_exe()?;
        let mut beginning = [0; 100_000];
        File::open(program)?.read_exact(&mut beginning)?;
        Ok(fs::write(path, beginning)?)
    }),
];

const LOOP: (&str, Make) = ("Too many levels of symbolic links", |path| {
    Ok(symlink(path, path)?)
});

const SOCKET: (&str, Make) = ("No such device or address", |path| {
    UnixListener::bind(path)?;
    Ok(())
});

/// What takes time to find out.
const HUGE: [(&str, Make); 3] = [
    ("it is larger than 64 MiB", |path| {
        Ok(symlink("/dev/zero", path)?)
    }),
    ("it is larger than 64 MiB", |path| {
        Ok(File::create(path)?.set_len((64 << 20) + 1)?)
    }),
    ("a list has at most 1000000", |path| {
        Ok(fs::write(path, "10.0.0.0\n".repeat(1_000_001))?)
    }),
];

fn make_pipe(path: &Path) -> TestResult {
    run(&format!("mkfifo {}", path.display())).map(drop)
}

/// The three lists, in a folder of their own.
struct Lists(TempDir);

// === impl Lists ===

impl Lists {
    fn new() -> TestResult<Self> {
        let lists = Self(tempfile::tempdir()?);
        for (name, _, text) in LISTS {
            fs::write(lists.path(name), text)?;
        }
        Ok(lists)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts something else in the place of a list.
    fn put(&self, name: &str, make: impl Fn(&Path) -> TestResult) -> TestResult {
        let (path, new) = (self.path(name), self.path("new"));
        if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            fs::remove_dir(&path)?;
        } else {
            // It may be gone already.
            let _ = fs::remove_file(&path);
        }
        make(&new)?;
        // A link to itself is one by its name.
        if new.symlink_metadata().is_ok_and(|it| it.is_symlink()) && fs::read_link(&new)? == new {
            fs::remove_file(&new)?;
            return make(&path);
        }
        if new.symlink_metadata().is_ok() {
            fs::rename(&new, &path)?;
        }
        Ok(())
    }

    fn proxy(&self, server: SocketAddr) -> TestResult<Proxy> {
        let flags = LISTS.iter().flat_map(|(name, _, _)| {
            let flag = format!("--{name}");
            [flag.into(), self.path(name).into_os_string()]
        });
        Proxy::tcp(server)
            .under(WITHOUT_OVERRIDE)
            // It would refuse some of what the lists become before it is looked at.
            .args(["--dynamic-destination", "--listeners", "1", "--no-sandbox"])
            .args(ADMIN)
            .args(flags)
            .start()
    }
}

/// What the lists say is so.
fn expect_in_force(proxy: &Proxy, server: SocketAddr) -> TestResult {
    let destination = server.to_string();
    let client = Balancer::default().connect(proxy, &Header::v1(CLIENT, &destination)?)?;
    client.expect_echo(b"hello")?;
    // The client's port is free again when the server has let go of it.
    client.reset()?;
    let denied = Balancer::default().connect(proxy, &Header::v1(DENIED, &destination)?)?;
    denied.expect_reset()?;
    let elsewhere = format!("127.0.0.2:{}", server.port());
    let misled = Balancer::default().connect(proxy, &Header::v1(CLIENT, &elsewhere)?)?;
    misled.expect_reset()
}

/// Spoils these lists in each of these ways, and mends them again.
fn spoil(names: &[&str], ways: &[(&str, Make)]) -> TestResult {
    let lists = Lists::new()?;
    let server = TcpServer::echo("127.0.0.1")?;
    let proxy = lists.proxy(server)?;
    let admin = proxy.admin()?;
    let concerned = || LISTS.iter().filter(|(name, ..)| names.contains(name));
    let outdated = |name: &str| format!("glommproxy_list_outdated{{list=\"{name}\"}}");
    expect_in_force(&proxy, server)?;
    let files = proxy.open_files()?;
    for (at, &(said, make)) in ways.iter().enumerate() {
        let times = ways[..=at].iter().filter(|it| it.0 == said).count();
        for (name, ..) in concerned() {
            lists.put(name, make)?;
        }
        for (name, called, _) in concerned() {
            let kept = format!("the old list of {called} stays in force");
            let found = proxy.wait_for_logs(times, |line| {
                let error = line["error"].as_str().unwrap_or_default();
                line["message"] == kept.as_str() && error.contains(said)
            });
            found.map_err(|error| format!("{name}, {said}: {error:?}"))?;
            admin.wait_for_metric(&outdated(name), "1")?;
        }
        expect_in_force(&proxy, server)?;
        for (name, _, text) in concerned() {
            lists.put(name, |path| Ok(fs::write(path, text)?))?;
            admin.wait_for_metric(&outdated(name), "0")?;
        }
    }
    expect_in_force(&proxy, server)?;
    proxy.wait_for_open_files(&files)?;
    proxy.stop()?.expect_success()
}

#[test]
fn whatever_a_list_becomes_the_old_one_stays_in_force_until_it_is_back() -> TestResult {
    isolated(|| spoil(&LISTS.map(|(name, ..)| name), &SPOILT))
}

#[test]
fn a_list_that_has_no_end_or_a_late_one_does_not_replace_the_old_one() -> TestResult {
    isolated(|| spoil(&["denied-clients"], &HUGE))
}

#[test]
fn nothing_endless_is_waited_for_at_the_start() -> TestResult {
    isolated(|| {
        // Of a pipe, the deadline; of the others, the limits.
        for (at, (said, make)) in [
            ("nobody has written to it for 10 s", make_pipe as Make),
            LOOP,
            SOCKET,
            HUGE[0],
            HUGE[1],
            HUGE[2],
        ]
        .into_iter()
        .enumerate()
        {
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("list");
            make(&path)?;
            let (flag, _, _) = LISTS[at % 3];
            let exit = Proxy::builder()
                .args(["--dynamic-destination"])
                .args([format!("--{flag}").into(), path.clone().into_os_string()])
                .start_in_vain()?;
            exit.expect_failure(&[&path.display().to_string(), said])?;
        }
        Ok(())
    })
}

/// As with a shell's `<(command)`.
#[test]
fn a_pipe_gives_its_list_at_the_start_and_keeps_it() -> TestResult {
    isolated(|| {
        let lists = Lists::new()?;
        let path = lists.path("denied-clients");
        fs::remove_file(&path)?;
        make_pipe(&path)?;
        let pipe = path.clone();
        let writer = thread::spawn(move || fs::write(pipe, "192.0.2.66\n"));
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = lists.proxy(server)?;
        writer.join().map_err(|_| "the writer panicked")??;
        expect_in_force(&proxy, server)?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("the old list of denied clients stays in force")?;
        expect_in_force(&proxy, server)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_list_that_is_never_at_rest_is_read_now_and_then_and_the_last_one_counts() -> TestResult {
    const TIMES: usize = 3000;
    isolated(|| {
        let lists = Lists::new()?;
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = lists.proxy(server)?;
        let admin = proxy.admin()?;
        let began = Instant::now();
        for time in 0..TIMES {
            let others = "198.51.100.1\n".repeat(time % 100);
            let text = format!("192.0.2.66\n{others}");
            fs::write(lists.path("new"), text)?;
            fs::rename(lists.path("new"), lists.path("denied-clients"))?;
            if time % 100 == 0 {
                expect_in_force(&proxy, server)?;
            }
        }
        lists.put("denied-clients", |path| Ok(fs::write(path, "192.0.2.1\n")?))?;
        // The first client is denied now, and the second is not.
        wait_for(|| {
            let header = Header::v1(CLIENT, &server.to_string())?;
            let client = Balancer::default().connect(&proxy, &header)?;
            Ok(client.expect_reset().is_ok().then_some(()))
        })
        .ok();
        let header = Header::v1(DENIED, &server.to_string())?;
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_echo(b"hello")?;
        let metrics = admin.get("/metrics")?.body;
        let reloads = |result: &str| -> TestResult<usize> {
            let sample = format!(
                "glommproxy_list_reloads_total{{list=\"denied-clients\",result=\"{result}\"}}"
            );
            Ok(metric(&metrics, &sample).ok_or("no such metric")?.parse()?)
        };
        let (ok, failed) = (reloads("ok")?, reloads("failed")?);
        // Not more than five a second, however long all this has taken.
        let reloads_max = began.elapsed().as_millis() / 200 + 2;
        assert!(
            ok + failed <= usize::try_from(reloads_max)?,
            "{ok} and {failed} reloads, not {reloads_max}"
        );
        assert!(ok > 0);
        proxy.stop()?.expect_success()
    })
}
