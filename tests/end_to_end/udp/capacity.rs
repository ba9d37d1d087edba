//! `--max-flows`: who goes when there is no room, and that nobody gets what is another's.

use std::collections::HashMap;

use rustix::process::Signal;

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// A flood of made-up clients displaces itself, not the players.
#[test]
fn the_never_answered_go_first_then_the_longest_idle() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-flows", "3", "--listeners", "1", "-v", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let client = |n: u32| format!("192.0.2.{n}:4000");
        let ask = |n: u32| {
            balancer.send(&proxy, &header_of(&client(n))?, b"question")?;
            server.expect(&client(n), b"question")
        };
        let answer = |n: u32| {
            server.send(client(n).parse()?, client(n).as_bytes())?;
            balancer.expect(client(n).as_bytes())
        };
        let evicted = |count: usize| -> TestResult<Option<String>> {
            let lines = proxy.wait_for_logs(count, |line| {
                line["message"] == "closed" && line["reason"] == "evicted"
            })?;
            let latest = lines.last().and_then(|line| line["client_addr"].as_str());
            Ok(latest.map(str::to_owned))
        };
        for player in [1, 2] {
            ask(player)?;
            answer(player)?;
        }
        ask(3)?;
        // The flood: each takes the place of the one before.
        for flood in 4..=20 {
            ask(flood)?;
            assert_eq!(evicted(flood as usize - 3)?, Some(client(flood - 1)));
        }
        // All are answered now: the longest idle goes, and that is not the one that came first.
        answer(20)?;
        ask(1)?;
        ask(21)?;
        assert_eq!(evicted(18)?, Some(client(2)));
        for player in [1, 20, 21] {
            answer(player)?;
        }
        let told = proxy.wait_for_message("flow ended early")?;
        assert_eq!(told["level"], "DEBUG");
        assert_eq!(told["error"], "--max-flows is reached");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows_evicted")?, 18);
        exit.expect_success()
    })
}

/// Datagrams of one batch name their flows by place in the table, and a place changes hands within the batch.
#[test]
fn in_a_burst_of_more_clients_than_flows_no_datagram_gets_anothers_address() -> TestResult {
    isolated(|| {
        const BURST: usize = 64;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-flows", "4", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let client = |n: usize| format!("192.0.2.{}:4000", n + 1);
        // In order, in runs, and back and forth, with more clients than flows in each.
        let patterns: [fn(usize) -> usize; 4] =
            [|n| n, |n| n % 5, |n| n / 3, |n| n * 7 % 16 + n / 32];
        for pattern in patterns {
            // A stopped proxy finds them all at once: one batch.
            proxy.signal(Signal::STOP)?;
            for n in 0..BURST {
                let client = client(pattern(n));
                let payload = format!("{client} {n}");
                balancer.send(&proxy, &header_of(&client)?, payload.as_bytes())?;
            }
            proxy.signal(Signal::CONT)?;
            let mut latest = HashMap::new();
            for _ in 0..BURST {
                let datagram = server.receive()?;
                let payload = String::from_utf8(datagram.payload)?;
                let (client, n) = payload.split_once(' ').ok_or("not what was sent")?;
                assert_eq!(datagram.from, client.parse()?, "the payload is {payload}");
                let n: usize = n.parse()?;
                let before = latest.insert(datagram.from, n);
                assert!(
                    before.is_none_or(|before| before < n),
                    "{n} after {before:?}"
                );
            }
        }
        let exit = proxy.stop()?;
        assert!(exit.total("flows_evicted")? >= (BURST - 4) as u64);
        server.expect_nothing()?;
        exit.expect_success()
    })
}

/// The same for replies: those that wait at a flow that is evicted are lost, not given to its successor.
#[test]
fn replies_to_an_evicted_flow_reach_nobody_else() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-flows", "2", "--listeners", "1"])
            .start()?;
        let bind = |n: usize| {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            Ok((format!("192.0.2.{n}:4000"), balancer))
        };
        let first = (1..=2).map(bind).collect::<TestResult<Vec<_>>>()?;
        let later = (3..=8).map(bind).collect::<TestResult<Vec<_>>>()?;
        for (client, balancer) in &first {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
            server.expect(client, b"question")?;
        }
        // Both at once: replies for two flows, and clients that displace them.
        proxy.signal(Signal::STOP)?;
        for (client, _) in &first {
            server.send(client.parse()?, client.as_bytes())?;
        }
        for (client, balancer) in &later {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
        }
        proxy.signal(Signal::CONT)?;
        for (client, _) in &later {
            server.expect(client, b"question")?;
        }
        // Whatever was on its way before is there when this is, and the latest flow is there in any case.
        let (client, balancer) = later.last().ok_or("nobody")?;
        server.send(client.parse()?, client.as_bytes())?;
        balancer.expect(client.as_bytes())?;
        for (_, balancer) in &later {
            balancer.expect_nothing()?;
        }
        proxy.stop()?.expect_success()
    })
}

/// The cap is for the process, however many shards share it.
#[test]
fn the_cap_is_shared_by_the_shards() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-flows", "8", "--listeners", "4"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 1..=200 {
            let client = format!("192.0.2.{n}:4000");
            balancer.send(&proxy, &header_of(&client)?, b"question")?;
            server.expect(&client, b"question")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 200);
        assert_eq!(exit.total("flows_evicted")?, 200 - 8);
        exit.expect_success()
    })
}
