//! Whom the server sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::CLIENT;
use crate::harness::{Balancer, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, add_address, isolated};

#[test]
fn the_server_sees_the_client_of_either_version_and_family() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?).and(server_v6.addr()?).start()?;
        for (server, client, destination) in [
            (&server, "192.0.2.1:4000", "203.0.113.1:443"),
            (&server, "192.0.2.2:65535", "203.0.113.1:0"),
            (&server_v6, "[2001:db8::1]:4000", "[2001:db8::443]:443"),
            (&server_v6, "[2001:db8::2]:1", "[2001:db8::443]:443"),
        ] {
            for header in [
                Header::v1(client, destination)?,
                Header::v2(client, destination)?,
            ] {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.parse()?);
                downstream.expect_talk(&session)?;
                // The server closes last, so that its address pair is free for the next connection at once.
                session.reset()?;
                downstream.expect_reset()?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

/// HAProxy writes IPv4 clients so when the families of client and destination differ.
#[test]
fn a_v4_mapped_client_reaches_the_ipv4_server_as_itself() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?).and(server_v6.addr()?).start()?;
        for (port, mapped, destination) in [
            (4001, "[::ffff:192.0.2.1]:4001", "[2001:db8::443]:443"),
            (4002, "[::ffff:192.0.2.1]:4002", "[::ffff:203.0.113.1]:443"),
        ] {
            for header in [
                Header::v1(mapped, destination)?,
                Header::v2(mapped, destination)?,
            ] {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, ([192, 0, 2, 1], port).into());
                downstream.expect_talk(&session)?;
                session.reset()?;
                downstream.expect_reset()?;
            }
        }
        proxy.stop()?;
        server_v6.expect_nobody()
    })
}

/// There is no client to speak for, and the balancer's own address means nothing to the server.
#[test]
fn local_and_unknown_come_from_our_own_address() -> TestResult {
    isolated(|| {
        add_address("198.51.100.7")?;
        add_address("2001:db8:7::7")?;
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .listen("[::]:0")
            .start()?;
        let own_v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        let own_v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        for (server, balancer, own) in [
            (&server, "198.51.100.7", own_v4),
            (&server_v6, "2001:db8:7::7", own_v6),
        ] {
            for header in [
                Header::v1_unknown(),
                Header::raw("PROXY UNKNOWN\r\n"),
                Header::v2_local()?,
                Header::v2_local_bare(),
            ] {
                let downstream =
                    Balancer::at(balancer)?.connect_to(proxy.addr_at(balancer)?, &header)?;
                let session = server.accept()?;
                let seen = session.peer()?;
                assert_eq!(seen.ip(), own, "{header:?}");
                assert_ne!(seen.port(), 6666, "the header's: {header:?}");
                assert_ne!(seen.port(), downstream.local()?.port(), "the balancer's");
                downstream.expect_talk(&session)?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn one_client_has_several_connections() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (first, first_session) = open(&proxy, &server, "192.0.2.1:4001")?;
        let (second, second_session) = open(&proxy, &server, "192.0.2.1:4002")?;
        first.expect_talk(&first_session)?;
        second.expect_talk(&second_session)?;
        first.expect_talk(&first_session)
    })
}

#[test]
fn another_address_of_the_host_may_be_the_target() -> TestResult {
    isolated(|| {
        add_address("198.51.100.7")?;
        let server = TcpServer::bind("198.51.100.7")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.expect_talk(&session)
    })
}
