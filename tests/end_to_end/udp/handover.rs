//! Pieces with datagrams of several shards' clients: these hand them over to each other.

use super::header_of;
use super::losses::wait_for_sum;
use crate::harness::{Pieces, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const UPSTREAM: &str = "glommproxy_datagrams_total{direction=\"upstream\"}";
const LOST: &str = "glommproxy_datagrams_lost_total{direction=\"upstream\"}";

/// A datagram of this client, as a balancer sends it.
fn datagram(client: &str, payload: &[u8]) -> TestResult<Vec<u8>> {
    Ok([header_of(client)?.bytes(), payload].concat())
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
