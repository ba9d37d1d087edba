//! Whoever reads the log cannot stop the proxy.

use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

/// Two lines each, `accepted` and `closed`: more than the 64 KiB of a pipe and the 16,384 lines that wait for it hold.
const CONNECTIONS: usize = 10_000;

/// A proxy whose log a test reads itself, or does not.
struct Unread {
    process: Child,
    addr: SocketAddr,
    log: BufReader<PipeReader>,
}

// === impl Unread ===

impl Unread {
    /// Starts it and reads its log until it is ready, and no further.
    fn start(server: SocketAddr) -> TestResult<Self> {
        let (log, writer) = pipe()?;
        let process = Proxy::tcp(server)
            .args(["-v", "2", "--listeners", "2"])
            .command()
            .stdout(writer)
            .stderr(Stdio::null())
            .spawn()?;
        let mut log = BufReader::new(log);
        loop {
            let mut line = String::new();
            log.read_line(&mut line)?;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            if line["message"] == "ready" {
                let addr = line["listen_addr"].as_str().ok_or("no address")?.parse()?;
                return Ok(Self { process, addr, log });
            }
        }
    }

    /// A connection whose every step is logged works.
    fn expect_service(&self) -> TestResult {
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let client = Balancer::default().connect_to(self.addr, &header)?;
        client.expect_echo(b"hello")
    }

    /// It ends when told to.
    fn stop(mut self) -> TestResult {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let (over, wait) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || over.send(self.process.wait()));
        let status = wait.recv_timeout(PATIENCE)??;
        waiting
            .join()
            .map_err(|_| "the waiting thread panicked")??;
        assert_eq!(status.code(), Some(0));
        drop(self.log);
        Ok(())
    }
}

#[test]
fn a_reader_that_stands_still_does_not_stall_traffic() -> TestResult {
    isolated(|| {
        let proxy = Unread::start(TcpServer::echo("127.0.0.1")?)?;
        for _ in 0..CONNECTIONS {
            drop(TcpStream::connect_timeout(&proxy.addr, PATIENCE)?);
        }
        proxy.expect_service()?;
        proxy.stop()
    })
}

#[test]
fn a_reader_that_is_gone_does_not_end_it() -> TestResult {
    isolated(|| {
        let mut proxy = Unread::start(TcpServer::echo("127.0.0.1")?)?;
        let (other, _) = pipe()?;
        drop(std::mem::replace(&mut proxy.log, BufReader::new(other)));
        for _ in 0..100 {
            proxy.expect_service()?;
        }
        proxy.stop()
    })
}
