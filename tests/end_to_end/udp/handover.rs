//! Pieces with datagrams of several shards' clients: these hand them over to each other.

use std::collections::HashSet;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use serde_json::Value;

use super::header_of;
use super::losses::wait_for_sum;
use crate::harness::{Header, Neighbour, Pieces, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const UPSTREAM: &str = "glommproxy_datagrams_total{direction=\"upstream\"}";
const LOST: &str = "glommproxy_datagrams_lost_total{direction=\"upstream\"}";

/// A datagram of this client, as a balancer sends it.
fn datagram(client: &str, payload: &[u8]) -> TestResult<Vec<u8>> {
    Ok([header_of(client)?.bytes(), payload].concat())
}

/// What a listener logs when it has met a mixed piece.
const MIXED: &str = "datagrams of clients of several listeners came in one piece: they are taken one by one from now on";

/// Waits until both listeners have heard of it.
fn expect_mixed(proxy: &Proxy) -> TestResult {
    proxy.wait_for_logs(2, |line| line["message"] == MIXED)?;
    Ok(())
}

/// A client of each of two listeners. They have flows then.
fn client_of_each(
    proxy: &Proxy,
    server: &UdpServer,
    balancer: &UdpBalancer,
) -> TestResult<[String; 2]> {
    let mut of_listener = [None, None];
    for n in 1.. {
        let client = format!("192.0.2.{n}:4000");
        balancer.send(proxy, &header_of(&client)?, b"who serves me?")?;
        server.expect(&client, b"who serves me?")?;
        let opened =
            |line: &Value| line["message"] == "flow opened" && line["client_addr"] == *client;
        let listener = proxy.wait_for_log(opened)?["listener"].as_u64();
        of_listener[usize::try_from(listener.ok_or("no number")?)?] = Some(client);
        if let [Some(first), Some(second)] = &of_listener {
            return Ok([first.clone(), second.clone()]);
        }
    }
    Err("all on one".into())
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

/// A balancer with one socket for many clients (dnsdist), whose datagrams a network card's driver merges.
#[test]
fn what_comes_over_a_network_and_is_merged_there_keeps_its_order() -> TestResult {
    isolated(|| {
        let neighbour = Neighbour::new()?;
        let (wire, their_wire) = ("198.51.100.1", "198.51.100.9");
        neighbour.connect(
            ("game0", &["198.51.100.1/24"]),
            ("peer0", &["198.51.100.9/24"]),
        )?;
        neighbour.tunnel(
            ("game1", wire, "203.0.113.1/24"),
            ("peer1", their_wire, "203.0.113.9/24"),
        )?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("203.0.113.1:0")
            .args(["--listeners", "2", "-v", "2"])
            .start()?;
        let balancer = neighbour.udp_balancer("203.0.113.9")?;
        let [first, second] = client_of_each(&proxy, &server, &balancer)?;
        // What is sent later is not to overtake in the kernel, from another CPU.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu());
        sched_setaffinity(None, &cpus)?;
        let pieces = Pieces::of(balancer.socket())?;
        pieces.send(
            proxy.addr(),
            &[datagram(&first, b"a")?, datagram(&second, b"0")?],
        )?;
        for _ in 0..2 {
            server.receive()?;
        }
        expect_mixed(&proxy)?;
        for _ in 0..100 {
            pieces.send(
                proxy.addr(),
                &[datagram(&first, b"a")?, datagram(&second, b"1")?],
            )?;
            pieces.send(
                proxy.addr(),
                &[datagram(&second, b"2")?, datagram(&second, b"3")?],
            )?;
            let mut of_second = Vec::new();
            for _ in 0..4 {
                let datagram = server.receive()?;
                if datagram.from == second.parse()? {
                    of_second.extend(datagram.payload);
                }
            }
            assert_eq!(of_second, b"123");
        }
        proxy.stop()?.expect_success()
    })
}

/// Whether a client's pieces come as such to this port: then more than a batch of datagrams comes at once, and leaves so.
fn come_in_pieces(
    proxy: &Proxy,
    port: u16,
    balancer: &UdpBalancer,
    client: &str,
    server: &Pieces,
) -> TestResult<bool> {
    let pieces = Pieces::of(balancer.socket())?;
    let piece = vec![datagram(client, &[7; 100])?; 50];
    let to = proxy.addr_on(port);
    proxy.at_once(|| {
        balancer.send_to(to, &header_of(client)?, b"first")?;
        pieces.send(to, &piece)?;
        pieces.send(to, &piece)
    })?;
    let received = server.receive_all(101)?;
    match received.iter().map(Vec::len).collect::<Vec<_>>()[..] {
        [1, 64, 36] => Ok(true),
        [1, 63, 37] => Ok(false),
        _ => Err(format!("{received:?}").into()),
    }
}

#[test]
fn datagrams_come_in_pieces_to_all_listeners_of_a_port_until_these_are_mixed() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("127.0.0.1:2001-2002")
            .args(["--listeners", "2", "-v", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients = client_of_each(&proxy, &server, &balancer)?;
        let taking = Pieces::of(server.socket())?;
        let expect_pieces = |port, expected| -> TestResult {
            for client in &clients {
                let found = come_in_pieces(&proxy, port, &balancer, client, &taking)?;
                assert_eq!(found, expected, "to port {port} from {client}");
            }
            Ok(())
        };
        expect_pieces(2001, true)?;
        let pieces = Pieces::of(balancer.socket())?;
        let [first, second] = &clients;
        let mixed = [datagram(second, b"2")?, datagram(first, b"1")?];
        pieces.send(proxy.addr_on(2001), &mixed)?;
        taking.receive_all(2)?;
        expect_mixed(&proxy)?;
        expect_pieces(2001, false)?;
        expect_pieces(2002, true)?;
        // What a sender on this host has mixed is taken apart, and finds its way.
        pieces.send(proxy.addr_on(2001), &mixed)?;
        taking.receive_all(2)?;
        let exit = proxy.stop()?;
        let opened = exit.log.iter();
        let opened = opened.filter(|line| line["message"] == "flow opened");
        let opened: HashSet<_> = opened.map(|line| line["client_addr"].as_str()).collect();
        assert_eq!(exit.total("flows")?, opened.len() as u64);
        exit.expect_success()
    })
}
