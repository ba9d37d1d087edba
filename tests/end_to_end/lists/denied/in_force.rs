//! The list at start.

use std::collections::HashSet;

use super::{ListFile, expect_answer, try_connect, udp_header};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const LIST: &str = "# cheaters\n192.0.2.0/25\n2001:db8:bad::/48\n";

#[test]
fn a_tcp_client_is_reset_and_never_reaches_the_server() -> TestResult {
    isolated(|| {
        let list = ListFile::new(LIST)?;
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1", "--listeners", "2", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let denied = [
            "192.0.2.1:4000",
            "192.0.2.127:4000",
            "[2001:db8:bad::1]:4000",
            "[::ffff:192.0.2.7]:4000",
        ];
        for client in denied {
            let refused = Balancer::default().connect(&proxy, &Header::of(client)?)?;
            refused.expect_reset()?;
        }
        // It was the first on its shard, and so has a line.
        let line = proxy.wait_for_log(|line| line["client_addr"] == denied[0])?;
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(line["message"], "connection refused");
        assert_eq!(line["error"], "the client is in the list of denied clients");

        // The same balancer brings others.
        for (server, client) in [
            (&server, "192.0.2.128:4000"),
            (&server_v6, "[2001:db8:600d::1]:4000"),
        ] {
            let downstream = Balancer::default().connect(&proxy, &Header::of(client)?)?;
            let session = server.accept()?;
            assert_eq!(session.peer()?, client.parse()?);
            downstream.expect_talk(&session)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("clients_denied")?, denied.len() as u64);
        server.expect_nobody()?;
        server_v6.expect_nobody()?;
        exit.expect_success()
    })
}

#[test]
fn a_udp_clients_datagrams_are_dropped_on_every_shard() -> TestResult {
    isolated(|| {
        const CLIENTS: u64 = 32;
        let list = ListFile::new(LIST)?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "2", "--listeners", "2", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 0..CLIENTS {
            let denied = format!("192.0.2.{}:4000", n + 1);
            balancer.send(&proxy, &udp_header(&denied)?, b"denied")?;
        }
        // What comes to a shard comes in order: once these are through, the others are gone.
        for n in 0..CLIENTS {
            let client = format!("192.0.2.{}:4000", n + 128);
            balancer.send(&proxy, &udp_header(&client)?, b"welcome")?;
            server.expect(&client, b"welcome")?;
        }
        let opened =
            proxy.wait_for_logs(CLIENTS as usize, |line| line["message"] == "flow opened")?;
        let shards: HashSet<_> = opened.iter().map(|it| it["listener"].as_u64()).collect();
        assert_eq!(shards.len(), 2);

        let line = proxy.wait_for_message("datagram dropped")?;
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(line["error"], "the client is in the list of denied clients");
        let told = line["client_addr"].as_str().unwrap_or_default();
        assert!(told.starts_with("192.0.2."), "{told}");

        let exit = proxy.stop()?;
        let lines = exit.log.iter();
        let lines = lines.filter(|line| line["message"] == "datagram dropped");
        assert!(lines.count() < CLIENTS as usize, "a line a datagram");
        assert_eq!(exit.total("clients_denied")?, CLIENTS);
        assert_eq!(exit.total("flows")?, CLIENTS);
        server.expect_nothing()?;
        exit.expect_success()
    })
}

#[test]
fn an_empty_list_denies_nobody() -> TestResult {
    isolated(|| {
        let list = ListFile::new("# nobody yet\n")?;
        let udp = UdpServer::echo("127.0.0.1")?;
        let tcp = TcpServer::bind_to(udp)?;
        let proxy = Proxy::builder()
            .and(udp)
            .args(["-p", "both", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let client = "192.0.2.1:4000";
        let downstream = Balancer::default().connect(&proxy, &Header::of(client)?)?;
        downstream.expect_talk(&tcp.accept()?)?;
        expect_answer(&proxy, &UdpBalancer::bind("127.0.0.1")?, client)?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("clients_denied")?, 0);
        assert!(exit.log.iter().all(|line| {
            line["level"] == "INFO"
                || line["message"]
                    .as_str()
                    .is_some_and(|message| message.starts_with("no --allowed-subnets"))
        }));
        exit.expect_success()
    })
}

/// The list names clients. Who has none speaks for himself, and whether he may is for the list of allowed subnets to say.
#[test]
fn the_balancers_own_connections_are_not_subject_to_it() -> TestResult {
    isolated(|| {
        let list = ListFile::new("0.0.0.0/0\n::/0\n")?;
        let udp = UdpServer::bind("127.0.0.1")?;
        let tcp = TcpServer::bind_to(udp.addr()?)?;
        let proxy = Proxy::builder()
            .and(udp.addr()?)
            .args(["-p", "both", "--denied-clients"])
            .args([&list.path])
            .start()?;
        assert!(try_connect(&proxy, "192.0.2.1:4000")?.is_none());
        let check = Balancer::default().connect(&proxy, &Header::v2_local_bare())?;
        check.expect_talk(&tcp.accept()?)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &Header::v2_local_bare(), b"check")?;
        assert_eq!(udp.receive()?.payload, b"check");
        tcp.expect_nobody()
    })
}
