//! Servers as they are: bound to everything, and restarted.

use std::net::SocketAddr;

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";

/// Such a server answers from whatever address the routes suggest. go-mmproxy asks its users to bind it elsewhere.
#[test]
fn a_server_bound_to_everything_is_heard() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("0.0.0.0")?, UdpServer::bind("::")?);
        let proxy = Proxy::udp(server.addr()?).and(server_v6.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (server, client) in [(&server, CLIENT), (&server_v6, CLIENT_V6)] {
            for _ in 0..3 {
                balancer.send(&proxy, &header_of(client)?, b"question")?;
                let question = server.expect(client, b"question")?;
                server.send(question.from, b"answer")?;
                server.send(question.from, b"and a push")?;
                balancer.expect(b"answer")?;
                balancer.expect(b"and a push")?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

/// One socket for both families, as Go, Java and others make it: it sees IPv4 clients v4-mapped.
#[test]
fn a_server_with_one_socket_for_both_families_is_heard() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("::")?;
        let port = server.addr()?.port();
        let proxy = Proxy::udp(SocketAddr::from(([127, 0, 0, 1], port)))
            .and(server.addr()?)
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (client, seen) in [(CLIENT, "[::ffff:192.0.2.1]:4000"), (CLIENT_V6, CLIENT_V6)] {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
            let question = server.expect(seen, b"question")?;
            server.send(question.from, b"answer")?;
            balancer.expect(b"answer")?;
        }
        proxy.stop()?.expect_success()
    })
}

/// While the server is down the kernel answers "connection refused". Its clients are to notice nothing but the gap.
#[test]
fn a_flow_survives_a_restart_of_the_server() -> TestResult {
    isolated(|| {
        for client in [CLIENT, CLIENT_V6] {
            let server = UdpServer::bind(if client == CLIENT { "127.0.0.1" } else { "::1" })?;
            let addr = server.addr()?;
            let proxy = Proxy::udp(addr).args(["-v", "2"]).start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header_of(client)?, b"before")?;
            server.expect(client, b"before")?;
            server.send(client.parse()?, b"before")?;
            balancer.expect(b"before")?;

            drop(server);
            // Two, as the error of the first may come with the second.
            balancer.send(&proxy, &header_of(client)?, b"lost")?;
            balancer.send(&proxy, &header_of(client)?, b"lost")?;
            let refused = proxy.wait_for_log(|line| {
                let error = line["error"].as_str().unwrap_or_default();
                error.contains("refused")
            })?;
            assert_eq!(refused["level"], "DEBUG");
            assert_eq!(refused["client_addr"], client);
            assert_eq!(refused["target_addr"], addr.to_string());

            let server = UdpServer::bind_to(addr)?;
            // Those behind the first may still have been on their way when it came back.
            balancer.send(&proxy, &header_of(client)?, b"after")?;
            while server.receive()?.payload != b"after" {}
            server.send(client.parse()?, b"after")?;
            balancer.expect(b"after")?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 1, "the flow is still the same");
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// The error of one datagram is reported by the next call; that next datagram must not be lost for it.
#[test]
fn the_first_datagram_after_the_server_is_back_arrives() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let addr = server.addr()?;
        drop(server);
        let proxy = Proxy::udp(addr).args(["-v", "1"]).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"lost")?;
        proxy.wait_for_log(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.contains("refused")
        })?;
        let server = UdpServer::bind_to(addr)?;
        for n in 0..10 {
            let payload = format!("after {n}");
            balancer.send(&proxy, &header_of(CLIENT)?, payload.as_bytes())?;
            server.expect(CLIENT, payload.as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}

/// The other clients of the same server are not held up by one whose datagrams are refused.
#[test]
fn a_server_of_one_family_that_is_down_leaves_the_other_alone() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let down = UdpServer::bind("::1")?;
        let proxy = Proxy::udp(server.addr()?)
            .and(down.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        drop(down);
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 0..100 {
            let payload = format!("{n}");
            balancer.send(&proxy, &header_of(CLIENT_V6)?, b"lost")?;
            balancer.send(&proxy, &header_of(CLIENT)?, payload.as_bytes())?;
            server.expect(CLIENT, payload.as_bytes())?;
            server.send(CLIENT.parse()?, payload.as_bytes())?;
            balancer.expect(payload.as_bytes())?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}
