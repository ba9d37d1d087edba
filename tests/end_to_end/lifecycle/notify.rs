//! What systemd is told (sd_notify(3)).

use std::os::unix::net::UnixDatagram;

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
