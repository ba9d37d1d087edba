//! `--keep-denied`: a new list is for newcomers only.

use super::{ListFile, expect_answer, udp_header, wait_denied};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";

#[test]
fn open_connections_go_on_and_new_ones_are_refused() -> TestResult {
    isolated(|| {
        let list = ListFile::new("")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--keep-denied", "--listeners", "2", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let connections = (0..8)
            .map(|n| {
                let header = Header::of(&format!("192.0.2.1:{}", 5000 + n))?;
                Balancer::default().connect(&proxy, &header)
            })
            .collect::<TestResult<Vec<_>>>()?;
        for connection in &connections {
            connection.expect_echo(b"before")?;
        }
        list.replace("192.0.2.1\n")?;
        proxy.wait_for_message("denied clients reloaded")?;
        // One refusal tells of one shard only.
        for _ in 0..8 {
            wait_denied(&proxy, CLIENT, true)?;
        }
        for connection in &connections {
            connection.expect_echo(b"after")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_denied")?, 0);
        exit.expect_success()
    })
}

#[test]
fn flows_go_on_and_new_ones_are_refused() -> TestResult {
    isolated(|| {
        let list = ListFile::new("")?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["-v", "1", "--keep-denied", "--listeners", "2"])
            .args(["--denied-clients".as_ref(), list.path.as_path()])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients = (0..8).map(|n| format!("192.0.2.1:{}", 5000 + n));
        let clients: Vec<_> = clients.collect();
        for client in &clients {
            expect_answer(&proxy, &balancer, client)?;
        }
        list.replace("192.0.2.1\n")?;
        proxy.wait_for_message("denied clients reloaded")?;
        // New flows of the client until both shards refuse them. Whatever is answered is not asked again.
        let newcomer = UdpBalancer::bind("127.0.0.1")?;
        let mut port = 10_000;
        wait_for(|| {
            port += 1;
            let client = format!("192.0.2.1:{port}");
            newcomer.send(&proxy, &udp_header(&client)?, b"new")?;
            let log = proxy.log();
            let refusing = |shard| {
                let mut lines = log.iter();
                lines.any(|it| it["message"] == "datagram dropped" && it["listener"] == shard)
            };
            Ok((0..2).all(refusing).then_some(()))
        })?;
        for client in &clients {
            expect_answer(&proxy, &balancer, client)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_denied")?, 0);
        assert!(exit.total("clients_denied")? >= 2);
        exit.expect_success()
    })
}
