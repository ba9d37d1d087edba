//! A list that changes under traffic.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::header_of;
use crate::harness::{PATIENCE, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const SHARDS: usize = 4;

/// Replaces a file in one go, as an operator should.
fn replace(path: &Path, text: &str) -> TestResult {
    let next = path.with_extension("next");
    fs::write(&next, text)?;
    Ok(fs::rename(&next, path)?)
}

/// Sends one datagram from each client until all have arrived once, and tells of any that should not have come.
fn expect_all(
    proxy: &Proxy,
    balancer: &UdpBalancer,
    server: &UdpServer,
    clients: &[String],
    payload: &str,
) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: HashSet<&str> = clients.iter().map(String::as_str).collect();
    server
        .socket()
        .set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = [0; 64];
    while !missing.is_empty() {
        if Instant::now() > deadline {
            return Err(format!("no \"{payload}\" comes from {missing:?}").into());
        }
        for client in &missing {
            balancer.send(proxy, &header_of(client)?, payload.as_bytes())?;
        }
        loop {
            match server.socket().recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let received = String::from_utf8_lossy(&buffer[..length]);
                    if received != payload {
                        return Err(format!("\"{received}\" came from {from}").into());
                    }
                    missing.remove(from.to_string().as_str());
                    if missing.is_empty() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    // Duplicates of those that were sent twice.
    server.drain()
}

#[test]
fn a_new_list_holds_on_all_shards_for_flows_that_are_there() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let list = folder.path().join("balancers.txt");
        fs::write(&list, "127.0.0.0/8\n")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", &SHARDS.to_string(), "-v", "2"])
            .args(["--allowed-subnets".as_ref(), list.as_path()])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (1..=64).map(|n| format!("192.0.2.{n}:4000")).collect();
        let reloads = |count: usize| {
            proxy.wait_for_logs(count, |line| line["message"] == "allowed subnets reloaded")
        };
        expect_all(&proxy, &balancer, &server, &clients, "allowed")?;
        let opened = proxy.wait_for_logs(clients.len(), |line| line["message"] == "flow opened")?;
        let shards: HashSet<_> = opened
            .iter()
            .map(|line| line["listener"].as_u64())
            .collect();
        assert_eq!(shards.len(), SHARDS);

        replace(&list, "198.51.100.0/24\n")?;
        reloads(1)?;
        // A shard learns of it between two batches. From the line on that tells so, nothing passes through it.
        let deadline = Instant::now() + PATIENCE;
        let refusing = || -> HashSet<_> {
            let log = proxy.log();
            let refused = log.iter().filter(|line| {
                line["message"] == "datagram dropped: the peer is not in the allow list"
            });
            refused.map(|line| line["listener"].as_u64()).collect()
        };
        while refusing().len() < SHARDS {
            if Instant::now() > deadline {
                return Err(format!("of the shards, only {:?} refuse", refusing()).into());
            }
            for client in &clients {
                balancer.send(&proxy, &header_of(client)?, b"between")?;
            }
            server.drain()?;
        }
        for client in &clients {
            balancer.send(&proxy, &header_of(client)?, b"denied")?;
        }

        // All that is behind "denied" would come after it.
        replace(&list, "127.0.0.0/8\n")?;
        reloads(2)?;
        expect_all(&proxy, &balancer, &server, &clients, "allowed again")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, clients.len() as u64);
        assert!(exit.total("peers_refused")? >= clients.len() as u64);
        exit.expect_success()
    })
}
