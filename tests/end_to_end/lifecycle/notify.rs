//! What systemd is told (sd_notify(3)).

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use super::FOREVER;
use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

/// systemd's end of the socket.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(folder.path().join("notify"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { folder, socket })
    }

    /// A proxy that knows of it.
    fn proxy(&self) -> TestResult<crate::harness::ProxyBuilder> {
        let path = self.folder.path().join("notify");
        Ok(Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--listeners", "2"])
            .env("NOTIFY_SOCKET", path))
    }

    /// The lines of the next message.
    fn receive(&self) -> TestResult<Vec<String>> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer)?;
        let text = String::from_utf8(buffer[..length].to_vec())?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The next message, which must begin with this line.
    fn expect(&self, first: &str) -> TestResult<Vec<String>> {
        let lines = self.receive()?;
        if lines.first().map(String::as_str) != Some(first) {
            return Err(format!("told {lines:?}, expected {first}").into());
        }
        Ok(lines)
    }
}

#[test]
fn it_is_told_of_start_reload_drain_and_end() -> TestResult {
    isolated(|| {
        let manager = Manager::new()?;
        let proxy = manager.proxy()?.args(FOREVER).start()?;
        assert_eq!(manager.expect("READY=1")?[1], "STATUS=listening");
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;

        proxy.signal(Signal::HUP)?;
        let reloading = manager.expect("RELOADING=1")?;
        let time = reloading[1]
            .strip_prefix("MONOTONIC_USEC=")
            .ok_or("no time")?;
        time.parse::<u64>()?;
        manager.expect("READY=1")?;

        proxy.signal(Signal::TERM)?;
        let stopping = manager.expect("STOPPING=1")?;
        // The drain, and five seconds.
        assert!(
            stopping.contains(&"EXTEND_TIMEOUT_USEC=3605000000".to_owned()),
            "{stopping:?}"
        );
        manager.expect("STATUS=draining 1 connections and 0 flows")?;
        // It would end the drain's state.
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_logs(2, |line| line["message"] == "reloading")?;
        drop(client);
        proxy.exit()?.expect_success()?;
        manager.socket.set_nonblocking(true)?;
        assert!(manager.receive().is_err());
        Ok(())
    })
}

#[test]
fn the_watchdog_hears_of_it_while_it_runs_and_while_it_drains() -> TestResult {
    isolated(|| {
        let manager = Manager::new()?;
        let proxy = manager
            .proxy()?
            .env("WATCHDOG_USEC", "200000")
            .args(FOREVER)
            .start()?;
        manager.expect("READY=1")?;
        for _ in 0..3 {
            manager.expect("WATCHDOG=1")?;
        }
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        proxy.signal(Signal::TERM)?;
        while manager.receive()?[0] != "STATUS=draining 1 connections and 0 flows" {}
        // One of the listeners has ended by now.
        for _ in 0..3 {
            manager.expect("WATCHDOG=1")?;
        }
        drop(client);
        proxy.exit()?.expect_success()
    })
}

/// A thread of the proxy's that does not run: this thread, its parent's, traces it (ptrace(2)).
struct Hung(Pid);

impl Hung {
    /// Stops a shard's thread: the first of those that have its name, as it has started the others.
    fn shard(proxy: &Proxy, index: usize) -> TestResult<Self> {
        let name = format!("shard-{index}-");
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", proxy.pid().as_raw_nonzero()))? {
            let task = task?;
            if fs::read_to_string(task.path().join("comm"))?.starts_with(&name) {
                threads.push(task.file_name().to_string_lossy().parse()?);
            }
        }
        let first = threads.into_iter().min().ok_or("no such thread")?;
        let thread = Pid::from_raw(first);
        ptrace::seize(thread, ptrace::Options::empty())?;
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(Self(thread))
    }
}

impl Drop for Hung {
    /// Lets it go on. Otherwise nobody could wait for the end of its process.
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn the_watchdog_hears_nothing_while_one_listener_hangs() -> TestResult {
    /// What systemd asks for; it is told twice in that time.
    const WATCHDOG: Duration = Duration::from_millis(200);
    isolated(|| {
        let manager = Manager::new()?;
        let proxy = manager
            .proxy()?
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .start()?;
        manager.expect("READY=1")?;
        for shard in 0..2 {
            manager.expect("WATCHDOG=1")?;
            let hung = Hung::shard(&proxy, shard)?;
            // What was told before, then at most what the listener has answered for, and then nothing for as long as
            // twenty more would take.
            manager.socket.set_nonblocking(true)?;
            while manager.receive().is_ok() {}
            manager.socket.set_nonblocking(false)?;
            manager.socket.set_read_timeout(Some(10 * WATCHDOG))?;
            let silence = match manager.socket.recv(&mut [0; 4096]) {
                Ok(_) => manager.socket.recv(&mut [0; 4096]),
                silence => silence,
            };
            let silence = silence.err().ok_or("told that all is well")?;
            assert_eq!(silence.kind(), io::ErrorKind::WouldBlock, "{silence}");
            drop(hung);
            manager.socket.set_read_timeout(Some(PATIENCE))?;
            manager.expect("WATCHDOG=1")?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_watchdog_for_another_process_and_a_socket_without_a_manager_are_no_matter() -> TestResult {
    isolated(|| {
        let manager = Manager::new()?;
        let proxy = manager
            .proxy()?
            .env("WATCHDOG_USEC", "1000")
            .env("WATCHDOG_PID", "1")
            .start()?;
        manager.expect("READY=1")?;
        proxy.signal(Signal::HUP)?;
        manager.expect("RELOADING=1")?;
        let Manager { folder, socket } = manager;
        drop((folder, socket));
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert!(
            exit.log
                .iter()
                .any(|line| line["message"] == "cannot tell systemd (NOTIFY_SOCKET)")
        );
        Ok(())
    })
}
