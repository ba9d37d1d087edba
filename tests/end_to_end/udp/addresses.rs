//! Whom the server sees, and whom the reply reaches.

use std::collections::HashSet;
use std::net::IpAddr;

use super::header_of;
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

#[test]
fn the_server_sees_the_client_and_the_reply_reaches_the_balancer() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?).and(server_v6.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (server, client) in [
            (&server, "192.0.2.1:4000"),
            (&server_v6, "[2001:db8::1]:4000"),
        ] {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
            let question = server.expect(client, b"question")?;
            server.send(question.from, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, proxy.addr());
        }
        proxy.stop()?.expect_success()
    })
}

/// HAProxy writes IPv4 clients as `::ffff:a.b.c.d` when the families of the two ends differ.
#[test]
fn a_mapped_client_reaches_the_ipv4_server_as_itself() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = header_of("[::ffff:192.0.2.1]:4000")?;
        balancer.send(&proxy, &header, b"question")?;
        let question = server.expect("192.0.2.1:4000", b"question")?;
        server.send(question.from, b"answer")?;
        balancer.expect(b"answer")?;
        proxy.stop()?.expect_success()
    })
}

/// A health check: there is no client, so the server sees this host, and never the addresses in the header.
#[test]
fn without_a_client_the_server_sees_our_own_address() -> TestResult {
    isolated(|| {
        add_address("198.51.100.1")?;
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .listen("0.0.0.0:0")
            .start()?;
        for (server, peer, own, to) in [
            (&server, "198.51.100.1", "127.0.0.1", "198.51.100.1"),
            (&server_v6, "::1", "::1", "::1"),
        ] {
            for header in [Header::v2_local()?, Header::v2_local_bare()] {
                // Two balancer sockets are two checkers: each gets its own answer.
                let balancers = [UdpBalancer::bind(peer)?, UdpBalancer::bind(peer)?];
                let mut sources = Vec::new();
                for balancer in &balancers {
                    balancer.send_to(proxy.addr_at(to)?, &header, b"are you there?")?;
                    let question = server.receive()?;
                    assert_eq!(question.payload, b"are you there?");
                    assert_eq!(question.from.ip(), own.parse::<IpAddr>()?);
                    assert_ne!(question.from.port(), balancer.addr()?.port());
                    sources.push(question.from);
                }
                for (balancer, source) in balancers.iter().zip(&sources) {
                    server.send(*source, source.to_string().as_bytes())?;
                    balancer.expect(source.to_string().as_bytes())?;
                }
                assert_ne!(sources[0], sources[1]);
            }
        }
        proxy.stop()?.expect_success()
    })
}

/// Without a client the flow is its sender's, and what the header says of addresses must not tear it in pieces.
#[test]
fn a_peer_without_a_client_is_one_flow_on_any_shard() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "4"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let mut seen = HashSet::new();
        for n in 1..=16 {
            let mut local = header_of(&format!("192.0.2.{n}:4000"))?.bytes().to_vec();
            local[12] = 0x20; // version 2, LOCAL
            balancer.send(&proxy, &Header::raw(local), b"are you there?")?;
            seen.insert(server.receive()?.from);
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// The client's port belongs to a socket of this host. A player's address counts for more than the port.
#[test]
fn a_port_taken_on_this_host_is_replaced_and_the_address_kept() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("0.0.0.0")?;
        let port = server.addr()?.port();
        let proxy = Proxy::udp(server.addr()?).args(["-v", "1"]).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let client = format!("192.0.2.1:{port}");
        for _ in 0..2 {
            balancer.send(&proxy, &header_of(&client)?, b"question")?;
            let question = server.receive()?;
            assert_eq!(question.payload, b"question");
            assert_eq!(question.from.ip().to_string(), "192.0.2.1");
            assert_ne!(question.from.port(), port);
            server.send(question.from, b"answer")?;
            balancer.expect(b"answer")?;
        }
        let line = proxy
            .wait_for_message("the client's port could not be had, the kernel chose another")?;
        assert_eq!(line["client_addr"], client);
        assert!(
            line["error"]
                .as_str()
                .is_some_and(|error| error.contains("in use"))
        );
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 1);
        exit.expect_success()
    })
}

#[test]
fn one_port_serves_tcp_and_udp_at_once() -> TestResult {
    isolated(|| {
        let tcp_server = TcpServer::bind("127.0.0.1")?;
        let udp_server = UdpServer::bind_to(tcp_server.addr()?)?;
        let proxy = Proxy::builder()
            .args(["-p", "both"])
            .and(tcp_server.addr()?)
            .start()?;
        let client = "192.0.2.1:4000";
        let connection =
            Balancer::default().connect(&proxy, &Header::v2(client, "203.0.113.1:443")?)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(client)?, b"question")?;

        let session = tcp_server.accept()?;
        assert_eq!(session.peer()?, client.parse()?);
        let question = udp_server.expect(client, b"question")?;
        connection.expect_talk(&session)?;
        udp_server.send(question.from, b"answer")?;
        balancer.expect(b"answer")?;
        proxy.stop()?.expect_success()
    })
}
