//! A new list reaches every shard, in the midst of traffic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ListFile, WITH_US, WITHOUT_US};
use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const SHARDS: u64 = 4;

const RELOADED: &str = "allowed subnets reloaded";

/// Repeats something until each shard has logged this message after the first `skip` lines.
fn until_every_shard_says(
    proxy: &Proxy,
    skip: usize,
    message: &str,
    mut provoke: impl FnMut() -> TestResult,
) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = proxy.log();
        let said = |shard| {
            let by_it = |line: &&Value| line["message"] == message && line["listener"] == shard;
            log.iter().skip(skip).find(by_it).is_some()
        };
        if (0..SHARDS).all(said) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not every shard says \"{message}\"").into());
        }
        provoke()?;
        // What was provoked is not logged at once, and too many flows would end older ones.
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn of_tcp() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["-v", "2", "--listeners", &SHARDS.to_string()])
            .args(["--allowed-subnets"])
            .args([&list.path])
            .start()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        // One that is refused may notice while it sends.
        let connect = || {
            let _ = Balancer::default().connect(&proxy, &header);
            Ok(())
        };
        until_every_shard_says(&proxy, 0, "accepted", connect)?;

        let established: Vec<_> = (0..16)
            .map(|_| Balancer::default().connect(&proxy, &header))
            .collect::<Result<_, _>>()?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| -> TestResult {
            // Connections made before are not asked again.
            let traffic = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for connection in &established {
                        connection.expect_echo(b"still here")?;
                    }
                }
                TestResult::Ok(())
            });
            let changes = || -> TestResult {
                let refused = "connection refused: the peer is not in the allow list";
                for (round, (content, message)) in [(WITHOUT_US, refused), (WITH_US, "accepted")]
                    .into_iter()
                    .enumerate()
                {
                    list.replace(content)?;
                    proxy.wait_for_logs(round + 1, |line| line["message"] == RELOADED)?;
                    until_every_shard_says(&proxy, proxy.log().len(), message, connect)?;
                }
                Ok(())
            };
            let changed = changes();
            over.store(true, Ordering::Relaxed);
            let traffic = traffic.join().map_err(|_| "the traffic panicked")?;
            changed.and(traffic)
        })?;
        drop(established);
        proxy.stop()?.expect_success()
    })
}

/// Flows are asked with every datagram.
#[test]
fn of_udp() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["-v", "2", "--listeners", &SHARDS.to_string()])
            .args(["--allowed-subnets"])
            .args([&list.path])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let client = |port: u16| Header::v2_udp(&format!("192.0.2.1:{port}"), "203.0.113.1:443");
        let mut clients = 0;
        until_every_shard_says(&proxy, 0, "flow opened", || {
            clients += 1;
            balancer.send(&proxy, &client(clients)?, b"ping")?;
            balancer.receive()?;
            Ok(())
        })?;
        let old = 1..=clients;
        let ping = |port| balancer.send(&proxy, &client(port)?, b"ping");

        list.replace(WITHOUT_US)?;
        proxy.wait_for_message(RELOADED)?;
        let refused = "datagram dropped: the peer is not in the allow list";
        until_every_shard_says(&proxy, proxy.log().len(), refused, || {
            old.clone().try_for_each(ping)
        })?;

        list.replace(WITH_US)?;
        proxy.wait_for_logs(2, |line| line["message"] == RELOADED)?;
        until_every_shard_says(&proxy, proxy.log().len(), "flow opened", || {
            clients += 1;
            ping(clients)
        })?;
        // The old flows are served again: each answers to the socket that spoke last.
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for port in old {
            balancer.send(&proxy, &client(port)?, b"again")?;
            balancer.expect(format!("192.0.2.1:{port} again").as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}
