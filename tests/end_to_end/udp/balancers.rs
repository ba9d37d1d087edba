//! Clients and balancer sockets in every combination: a flow is a client's, whoever speaks for it.

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// mmproxy-rs knows flows by balancer socket: both clients would share one identity.
#[test]
fn clients_behind_one_balancer_socket_keep_their_identities() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        // The same address with other ports, the same port with another address.
        let clients = ["192.0.2.1:4000", "192.0.2.1:4001", "192.0.2.2:4000"];
        for round in 0..3 {
            for client in clients {
                let payload = format!("{client} {round}");
                balancer.send(&proxy, &header_of(client)?, payload.as_bytes())?;
                server.expect(client, payload.as_bytes())?;
            }
        }
        for client in clients.iter().rev() {
            server.send(client.parse()?, client.as_bytes())?;
            balancer.expect(client.as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}

/// Without steering by client, the two sockets would reach two shards, and those would fight over one 4-tuple.
#[test]
fn a_client_behind_two_balancer_sockets_is_one_flow_on_any_shard() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--listeners", "4", "-v", "2"])
            .start()?;
        let balancers = [
            UdpBalancer::bind("127.0.0.1")?,
            UdpBalancer::bind("127.0.0.1")?,
        ];
        let clients_v4 = (1..=16).map(|n| format!("192.0.2.{n}:4000"));
        let clients_v6 = (1..=16).map(|n| format!("[2001:db8::{n:x}]:4000"));
        let clients: Vec<_> = clients_v4.chain(clients_v6).collect();
        for client in &clients {
            let server = if client.starts_with('[') {
                &server_v6
            } else {
                &server
            };
            for balancer in balancers.iter().chain(&balancers) {
                balancer.send(&proxy, &header_of(client)?, b"question")?;
                let question = server.expect(client, b"question")?;
                server.send(question.from, b"answer")?;
                balancer.expect(b"answer")?;
            }
        }
        let exit = proxy.stop()?;
        let opened = exit
            .log
            .iter()
            .filter(|line| line["message"] == "flow opened");
        let mut opened: Vec<_> = opened
            .filter_map(|line| line["client_addr"].as_str())
            .collect();
        let mut expected: Vec<_> = clients.iter().map(String::as_str).collect();
        opened.sort_unstable();
        expected.sort_unstable();
        assert_eq!(opened, expected);
        exit.expect_success()
    })
}

/// One balancer may write the client as IPv4 and another, or the same one on another listener, as v4-mapped IPv6.
#[test]
fn a_client_is_one_flow_whichever_family_its_header_is_of() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "4"])
            .start()?;
        let plain = UdpBalancer::bind("127.0.0.1")?;
        let mapped = UdpBalancer::bind("127.0.0.1")?;
        let mut clients = 0;
        for n in 1..=16 {
            let client = format!("192.0.2.{n}:4000");
            plain.send(&proxy, &header_of(&client)?, b"plain")?;
            server.expect(&client, b"plain")?;
            mapped.send(
                &proxy,
                &header_of(&format!("[::ffff:192.0.2.{n}]:4000"))?,
                b"mapped",
            )?;
            server.expect(&client, b"mapped")?;
            server.send(client.parse()?, b"to the latest")?;
            mapped.expect(b"to the latest")?;
            clients += 1;
        }
        plain.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, clients);
        exit.expect_success()
    })
}

/// go-mmproxy keeps the balancer's first address: a reconnecting balancer would cut its clients off.
#[test]
fn a_balancer_that_comes_back_from_a_new_port_gets_the_replies() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let client = "192.0.2.1:4000";
        let before = UdpBalancer::bind("127.0.0.1")?;
        before.send(&proxy, &header_of(client)?, b"hello")?;
        server.expect(client, b"hello")?;
        server.send(client.parse()?, b"to the old port")?;
        before.expect(b"to the old port")?;

        let after = UdpBalancer::bind("127.0.0.1")?;
        after.send(&proxy, &header_of(client)?, b"hello again")?;
        server.expect(client, b"hello again")?;
        for push in 0..5 {
            let payload = format!("unasked {push}");
            server.send(client.parse()?, payload.as_bytes())?;
            after.expect(payload.as_bytes())?;
        }
        before.expect_nothing()?;

        // The old socket may be as good as gone: nobody is told of what it cannot take.
        drop(before);
        after.send(&proxy, &header_of(client)?, b"still here")?;
        server.expect(client, b"still here")?;
        proxy.stop()?.expect_success()
    })
}

/// What comes from the server while nobody listens at the balancer's address is lost, and nothing else is.
#[test]
fn a_balancer_that_is_gone_disturbs_nobody() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        let (gone, client) = ("192.0.2.1:4000", "192.0.2.2:4000");
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(gone)?, b"hello")?;
        server.expect(gone, b"hello")?;
        drop(balancer);

        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(client)?, b"hello")?;
        server.expect(client, b"hello")?;
        for n in 0..50 {
            let payload = n.to_string();
            server.send(gone.parse()?, payload.as_bytes())?;
            server.send(client.parse()?, payload.as_bytes())?;
            balancer.send(&proxy, &header_of(client)?, payload.as_bytes())?;
            server.expect(client, payload.as_bytes())?;
            balancer.expect(payload.as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}
