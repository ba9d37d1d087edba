//! A new list ends what is open for the clients it names, and nothing else.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use super::{ListFile, expect_answer, tcp_client, udp_header};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, open};
use crate::namespace::{TestResult, isolated};

const NOBODY: &str = "198.51.100.0/24\n";
/// Clients 128 and above.
const UPPER_HALF: &str = "192.0.2.128/25\n";

/// More than a shard looks at in one turn.
const MANY: usize = 600;

fn shards(lines: &[Value]) -> HashSet<Option<u64>> {
    lines.iter().map(|it| it["listener"].as_u64()).collect()
}

/// What the shards say they have ended, once they have said it of so many.
fn wait_ended(proxy: &Proxy, message: &str, field: &str, count: u64) -> TestResult {
    let mut lines = 0;
    loop {
        lines += 1;
        let ended = proxy.wait_for_logs(lines, |line| line["message"] == message)?;
        let told = ended.iter().map(|it| it[field].as_u64().unwrap_or(0));
        let told: u64 = told.sum();
        if told == count {
            return Ok(());
        }
        assert!(told < count, "{told} {field} ended, not {count}");
    }
}

#[test]
fn tcp_connections_are_reset_on_both_sides_in_the_midst_of_traffic() -> TestResult {
    isolated(|| {
        let list = ListFile::new(NOBODY)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "2", "--listeners", "2", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let open_all = |clients: std::ops::Range<usize>| {
            let clients = clients.map(tcp_client);
            clients
                .map(|client| open(&proxy, &server, &client))
                .collect::<TestResult<Vec<_>>>()
        };
        let (kept, ended) = (open_all(1..33)?, open_all(128..160)?);
        // The balancer's own, which has no client.
        let check = Balancer::default().connect(&proxy, &Header::v2_local_bare())?;
        let check = (check, server.accept()?);
        let accepted = proxy.wait_for_logs(65, |line| line["message"] == "accepted")?;
        assert_eq!(shards(&accepted).len(), 2);

        let over = AtomicBool::new(false);
        thread::scope(|scope| -> TestResult {
            let traffic = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for (downstream, session) in kept.iter().chain([&check]) {
                        downstream.expect_talk(session)?;
                    }
                }
                TestResult::Ok(())
            });
            let ends = || -> TestResult {
                list.replace(UPPER_HALF)?;
                for (downstream, session) in &ended {
                    downstream.expect_reset()?;
                    session.expect_reset()?;
                }
                Ok(())
            };
            let result = ends();
            over.store(true, Ordering::Relaxed);
            let traffic = traffic.join().map_err(|_| "the traffic panicked")?;
            result.and(traffic)
        })?;
        for (downstream, session) in kept.iter().chain([&check]) {
            downstream.expect_talk(session)?;
        }
        wait_ended(
            &proxy,
            "connections of denied clients ended",
            "connections",
            32,
        )?;
        let closed = proxy.wait_for_message("closed")?;
        assert_eq!(
            closed["reason"],
            "the client is in the new list of denied clients"
        );
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_denied")?, 32);
        assert_eq!(exit.total("clients_denied")?, 0);
        exit.expect_success()
    })
}

/// With bytes on their way, and with one side finished.
#[test]
fn tcp_connections_in_every_state_are_reset() -> TestResult {
    isolated(|| {
        let list = ListFile::new(NOBODY)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--denied-clients".as_ref(), list.path.as_path()])
            .start()?;
        let half_closed = open(&proxy, &server, &tcp_client(130))?;
        half_closed.0.finish()?;
        half_closed.1.expect_end()?;
        let stuck = open(&proxy, &server, &tcp_client(131))?;
        stuck.0.stream().set_nonblocking(true)?;
        // Until there is no more room on the whole way.
        while std::io::Write::write(&mut stuck.0.stream(), &[7; 64 << 10]).is_ok() {}
        stuck.0.stream().set_nonblocking(false)?;

        list.replace(UPPER_HALF)?;
        half_closed.0.expect_reset()?;
        stuck.0.expect_reset()?;
        stuck.1.expect_reset_in_time()?;
        // Behind an end there is nothing to read: only writing finds out.
        let refused = crate::harness::wait_for(|| Ok(half_closed.1.stream().take_error()?))?;
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(proxy.stop()?.total("ended_denied")?, 2);
        Ok(())
    })
}

/// On one shard, on which nothing else happens that could make it go on.
#[test]
fn more_connections_than_a_turn_ends_are_all_ended() -> TestResult {
    isolated(|| {
        crate::harness::raise_descriptor_limit(4 * MANY as u64)?;
        let list = ListFile::new(NOBODY)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let client = |n| format!("192.0.2.{}:{}", 128 + n % 100, 4000 + n);
        let connections = (0..MANY)
            .map(|n| open(&proxy, &server, &client(n)))
            .collect::<TestResult<Vec<_>>>()?;
        list.replace(UPPER_HALF)?;
        for (downstream, session) in &connections {
            downstream.expect_reset()?;
            session.expect_reset()?;
        }
        let message = "connections of denied clients ended";
        wait_ended(&proxy, message, "connections", MANY as u64)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn udp_flows_end_and_their_clients_hear_and_say_no_more() -> TestResult {
    isolated(|| {
        let list = ListFile::new(NOBODY)?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "2", "--listeners", "2", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let exchange = |n: usize| -> TestResult {
            let client = tcp_client(n);
            balancer.send(&proxy, &udp_header(&client)?, b"question")?;
            server.expect(&client, b"question")?;
            server.send(client.parse()?, client.as_bytes())?;
            balancer.expect(client.as_bytes())?;
            Ok(())
        };
        for n in (1..33).chain(128..160) {
            exchange(n)?;
        }
        let opened = proxy.wait_for_logs(64, |line| line["message"] == "flow opened")?;
        assert_eq!(shards(&opened).len(), 2);

        list.replace(UPPER_HALF)?;
        // The others go on meanwhile.
        let is_denied = |line: &Value| line["message"] == "closed" && line["reason"] == "denied";
        let has_ended = || proxy.log().iter().filter(|line| is_denied(line)).count() == 32;
        crate::harness::wait_for(|| {
            for n in 1..33 {
                exchange(n)?;
            }
            Ok(has_ended().then_some(()))
        })?;
        wait_ended(&proxy, "flows of denied clients ended", "flows", 32)?;
        for n in 128..160 {
            let client = tcp_client(n);
            server.send(client.parse()?, b"too late")?;
            balancer.send(&proxy, &udp_header(&client)?, b"denied")?;
        }
        for n in 1..33 {
            exchange(n)?;
        }
        server.expect_nothing()?;
        balancer.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_denied")?, 32);
        assert_eq!(exit.total("clients_denied")?, 32);
        assert_eq!(exit.total("flows")?, 64);
        exit.expect_success()
    })
}

#[test]
fn more_flows_than_a_turn_ends_are_all_ended() -> TestResult {
    isolated(|| {
        let list = ListFile::new(NOBODY)?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["--listeners", "1", "--denied-clients"])
            .args([&list.path])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 0..MANY {
            let client = format!("192.0.2.{}:{}", 128 + n % 100, 4000 + n);
            expect_answer(&proxy, &balancer, &client)?;
        }
        list.replace(UPPER_HALF)?;
        let message = "flows of denied clients ended";
        wait_ended(&proxy, message, "flows", MANY as u64)?;
        // Their sockets are closed, too: none of them can be reached any more.
        expect_answer(&proxy, &balancer, "192.0.2.1:4000")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_denied")?, MANY as u64);
        exit.expect_success()
    })
}
