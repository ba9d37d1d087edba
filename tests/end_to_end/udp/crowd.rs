//! Many clients at once.

use std::collections::{HashMap, HashSet};

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// Identity, order and number, for everybody, there and back.
#[test]
fn many_clients_get_their_own_replies_once_and_in_order() -> TestResult {
    isolated(|| {
        const CLIENTS: usize = 500;
        const DATAGRAMS: usize = 20;
        /// So many are on their way at once that batches form, and so few that no receive buffer overflows.
        const CLIENTS_AT_ONCE: usize = 20;
        const IN_A_ROW: usize = 4;

        let server = UdpServer::echo("127.0.0.1")?;
        let proxy = Proxy::udp(server).args(["--listeners", "4"]).start()?;
        let balancers: Vec<_> = (0..7)
            .map(|_| UdpBalancer::bind("127.0.0.1"))
            .collect::<TestResult<_>>()?;
        let client = |n: usize| format!("192.0.{}.{}:{}", n / 250, n % 250 + 1, 4000 + n % 3);
        let mut next = vec![0; CLIENTS];
        for _ in 0..DATAGRAMS / IN_A_ROW {
            for first in (0..CLIENTS).step_by(CLIENTS_AT_ONCE) {
                let crowd = first..first + CLIENTS_AT_ONCE;
                let mut expected = vec![0; balancers.len()];
                for ahead in 0..IN_A_ROW {
                    for n in crowd.clone() {
                        let payload = format!("{n} {}", next[n] + ahead);
                        let balancer = n % balancers.len();
                        let header = header_of(&client(n))?;
                        balancers[balancer].send(&proxy, &header, payload.as_bytes())?;
                        expected[balancer] += 1;
                    }
                }
                for (index, balancer) in balancers.iter().enumerate() {
                    for _ in 0..expected[index] {
                        let reply = String::from_utf8(balancer.receive()?.payload)?;
                        let words: Vec<_> = reply.split(' ').collect();
                        let [seen, n, sequence] = words[..] else {
                            return Err(format!("\"{reply}\" is no reply").into());
                        };
                        let n: usize = n.parse()?;
                        assert_eq!(seen, client(n), "the server saw another client");
                        assert_eq!(index, n % balancers.len(), "another balancer's reply");
                        assert_eq!(sequence.parse::<usize>()?, next[n], "of client {n}");
                        next[n] += 1;
                    }
                }
            }
        }
        assert!(next.iter().all(|&next| next == DATAGRAMS));
        for balancer in &balancers {
            balancer.expect_nothing()?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, CLIENTS as u64);
        exit.expect_success()
    })
}

#[test]
fn clients_of_one_balancer_socket_spread_over_shards_and_stay() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--listeners", "4", "-v", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (server, clients) in [
            (
                &server,
                (1..=100)
                    .map(|n| format!("192.0.2.{n}:4000"))
                    .collect::<Vec<_>>(),
            ),
            (
                &server_v6,
                (1..=100)
                    .map(|n| format!("[2001:db8::{n:x}]:4000"))
                    .collect(),
            ),
        ] {
            for client in clients.iter().chain(&clients) {
                balancer.send(&proxy, &header_of(client)?, b"question")?;
                server.expect(client, b"question")?;
            }
            let opened = |line: &serde_json::Value| {
                let client = line["client_addr"].as_str().unwrap_or_default();
                line["message"] == "flow opened" && clients.iter().any(|known| known == client)
            };
            let lines = proxy.wait_for_logs(clients.len(), opened)?;
            let mut on_shard = HashMap::new();
            for line in &lines {
                *on_shard.entry(line["listener"].as_u64()).or_insert(0) += 1;
            }
            assert_eq!(on_shard.len(), 4, "a shard has nobody: {on_shard:?}");
            assert!(on_shard.values().all(|&n| n >= 8), "uneven: {on_shard:?}");
            let once: HashSet<_> = lines
                .iter()
                .map(|line| line["client_addr"].as_str())
                .collect();
            assert_eq!(once.len(), clients.len(), "somebody moved");
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 200);
        exit.expect_success()
    })
}
