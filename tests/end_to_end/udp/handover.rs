//! Pieces with datagrams of several shards' clients: these hand them over to each other.

use serde_json::Value;

use super::header_of;
use super::losses::wait_for_sum;
use crate::harness::{Header, Pieces, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const UPSTREAM: &str = "glommproxy_datagrams_total{direction=\"upstream\"}";
const LOST: &str = "glommproxy_datagrams_lost_total{direction=\"upstream\"}";

/// A datagram of this client, as a balancer sends it.
fn datagram(client: &str, payload: &[u8]) -> TestResult<Vec<u8>> {
    Ok([header_of(client)?.bytes(), payload].concat())
}

/// The first clients of the second of two listeners, beginning with 198.18.0.0. It is the same in every process.
fn clients_of_second_listener(server: &UdpServer, count: usize) -> TestResult<Vec<String>> {
    let scout = Proxy::udp(server.addr()?)
        .args(["--listeners", "2", "-v", "2"])
        .start()?;
    let balancer = UdpBalancer::bind("127.0.0.1")?;
    let mut clients = Vec::new();
    let mut seen = 0;
    while clients.len() < count {
        const AT_ONCE: usize = 50;
        for n in seen..seen + AT_ONCE {
            let client = format!("198.18.{}.{}:4000", n / 250, n % 250);
            balancer.send(&scout, &header_of(&client)?, b"who serves me?")?;
        }
        seen += AT_ONCE;
        let opened = scout.wait_for_logs(seen, |line| line["message"] == "flow opened")?;
        let its = opened.iter().filter(|line| line["listener"] == 1);
        let its = its.filter_map(|line| line["client_addr"].as_str());
        clients = its.map(str::to_owned).collect();
    }
    scout.stop()?.expect_success()?;
    server.drain()?;
    clients.truncate(count);
    Ok(clients)
}

/// Shards that are not given time fall behind by some hundred bundles, which is little.
#[test]
fn a_burst_of_pieces_with_many_clients_reaches_the_server_whole() -> TestResult {
    isolated(|| {
        const PIECES: usize = 200;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--admin", "127.0.0.1:0", "--listeners", "4"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (1..=32).map(|n| format!("192.0.2.{n}:4000")).collect();
        for client in &clients {
            balancer.send(&proxy, &header_of(client)?, b"first")?;
            server.expect(client, b"first")?;
        }
        let pieces = Pieces::of(balancer.socket())?;
        let datagrams = clients.iter().map(|client| datagram(client, &[7; 100]));
        let mut datagrams = datagrams.collect::<TestResult<Vec<_>>>()?;
        proxy.at_once(|| {
            (0..PIECES).try_for_each(|_| {
                // Each shard receives some, so that no receive buffer overflows.
                datagrams.rotate_left(1);
                pieces.send(proxy.addr(), &datagrams)
            })
        })?;
        let sent = (1 + PIECES) * clients.len();
        let counts = wait_for_sum(&proxy, &[UPSTREAM, LOST], sent)?;
        assert_eq!(counts, [sent, 0]);
        proxy.stop()?.expect_success()
    })
}

/// Who receives them hands them over much faster than flows can be made.
#[test]
fn made_up_clients_that_are_handed_over_come_last_where_many_wait() -> TestResult {
    isolated(|| {
        const OF_A_PIECE: usize = 50;
        /// Half of what may wait for a shard, several times.
        const PIECES: usize = 200;
        let server = UdpServer::bind("127.0.0.1")?;
        let made_up = clients_of_second_listener(&server, 1_000)?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "2", "-v", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let local = Header::v2_local()?;
        let pieces = Pieces::of(balancer.socket())?;
        let datagrams = made_up.iter().map(|client| datagram(client, &[7; 1_200]));
        let datagrams = datagrams.collect::<TestResult<Vec<_>>>()?;
        // What names no client is steered to the first listener.
        let first = [[local.bytes(), &[7; 1_200]].concat()];
        for clients in datagrams.chunks(OF_A_PIECE).cycle().take(PIECES) {
            let piece = [&first, clients].concat();
            pieces.send(proxy.addr(), &piece)?;
        }
        let dropped = |line: &Value| line["message"] == "datagrams of new clients dropped";
        let warning = proxy.wait_for_log(dropped)?;
        assert_eq!(
            (&warning["level"], &warning["listener"]),
            (&"WARN".into(), &1.into())
        );
        proxy.stop()?.expect_success()
    })
}
