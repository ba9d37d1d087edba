//! `--takeover` with UDP flows: their clients keep their addresses, and all their answers.

use std::net::TcpListener;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::FOREVER;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

fn header(client: &str) -> TestResult<Header> {
    Header::v2_udp(client, "203.0.113.1:443")
}

/// Each client asks, and is answered at its own address, before the next does.
fn all_are_answered(proxy: &Proxy, balancer: &UdpBalancer, round: usize) -> TestResult {
    for n in 1..=20 {
        let client = format!("192.0.2.{n}:4000");
        let question = format!("{round}/{n}");
        balancer.send(proxy, &header(&client)?, question.as_bytes())?;
        balancer.expect(format!("{client} {question}").as_bytes())?;
    }
    Ok(())
}

#[test]
fn no_answer_is_lost_and_no_address_changes_in_three_restarts() -> TestResult {
    isolated(|| three_restarts("127.0.0.1:0", "127.0.0.1", ["2", "2", "2", "2"]))
}

#[test]
fn nor_with_one_listener_on_all_addresses() -> TestResult {
    isolated(|| three_restarts("[::]:0", "::1", ["1", "1", "1", "1"]))
}

#[test]
fn nor_with_more_listeners_or_fewer() -> TestResult {
    isolated(|| {
        three_restarts("127.0.0.1:0", "127.0.0.1", ["2", "3", "1", "2"])?;
        three_restarts("[::]:0", "::1", ["1", "2", "1", "1"])
    })
}

/// Restarts a proxy with these numbers of listeners, while clients of a balancer at this address ask without a pause.
fn three_restarts(listen: &str, balancer: &str, counts: [&str; 4]) -> TestResult {
    let server = UdpServer::echo("127.0.0.1")?;
    let builder = |listeners: &str, listen: &str| {
        Proxy::udp(server)
            .args(["--listeners", listeners, "--takeover"])
            .args(["--drain-timeout", "0.3"])
            .listen(listen)
    };
    let mut proxy = builder(counts[0], listen).start()?;
    let port = proxy.addr().port();
    let listen = format!("{}{port}", listen.trim_end_matches('0'));
    let balancer = UdpBalancer::bind(balancer)?;
    for count in &counts[1..] {
        all_are_answered(&proxy, &balancer, 0)?;
        let mut starting = builder(count, &listen).spawn()?;
        let mut rounds = 0;
        while !starting.is_ready()? {
            rounds += 1;
            all_are_answered(&proxy, &balancer, rounds)?;
        }
        proxy.wait_for_message("draining")?;
        for _ in 0..5 {
            rounds += 1;
            all_are_answered(&proxy, &balancer, rounds)?;
        }
        // The old one is gone.
        proxy.exit()?.expect_success()?;
        proxy = starting;
    }
    all_are_answered(&proxy, &balancer, 0)?;
    proxy.stop()?.expect_success()
}

/// A server may speak first, and a client may be silent for a while.
#[test]
fn what_the_server_says_comes_through_the_old_one_until_the_client_speaks_to_the_new_one()
-> TestResult {
    const CLIENT: &str = "192.0.2.1:4000";
    isolated(|| {
        for ip in ["127.0.0.1", "::1"] {
            let client = if ip == "::1" {
                "[2001:db8::1]:4000"
            } else {
                CLIENT
            };
            let server = UdpServer::bind(ip)?;
            let proxy = || -> TestResult<_> {
                Ok(Proxy::udp(server.addr()?)
                    .args(["--listeners", "2", "--takeover"])
                    .args(FOREVER))
            };
            let old = proxy()?.start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let source = if ip == "::1" {
                "[2001:db8::9]:443"
            } else {
                "203.0.113.1:443"
            };
            let header = Header::v2_udp(client, source)?;
            balancer.send(&old, &header, b"question")?;
            server.expect(client, b"question")?;

            let newcomer = proxy()?
                .listen(&old.addr().to_string())
                .args(["--drain-timeout", "0"])
                .start()?;
            old.wait_for_message("draining")?;
            for _ in 0..50 {
                server.send(client.parse()?, b"push")?;
                balancer.expect(b"push")?;
            }
            balancer.send(&newcomer, &header, b"again")?;
            server.expect(client, b"again")?;
            // Whatever still went to the old one would be lost.
            kill_process(old.pid(), Signal::STOP)?;
            for _ in 0..50 {
                server.send(client.parse()?, b"push")?;
                balancer.expect(b"push")?;
            }
            drop(old);
            newcomer.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn clients_of_many_balancer_sockets_are_spread_over_the_newcomers_listeners() -> TestResult {
    isolated(|| {
        for (count, newcomers) in [("1", "3"), ("2", "4"), ("4", "2")] {
            let server = UdpServer::echo("127.0.0.1")?;
            let builder = |listeners| {
                Proxy::udp(server).args(["--listeners", listeners, "--takeover", "-v", "2"])
            };
            let old = builder(count).args(FOREVER).start()?;
            let newcomer = builder(newcomers).listen(&old.addr().to_string()).start()?;
            old.exit()?.expect_success()?;
            for round in 0..8 {
                all_are_answered(&newcomer, &UdpBalancer::bind("127.0.0.1")?, round)?;
            }
            let exit = newcomer.stop()?;
            assert_eq!(exit.total("flows")?, 20);
            // The last of them has its part, too.
            let last = newcomers.parse::<u64>()? - 1;
            let of_last =
                |line: &Value| line["message"] == "flow opened" && line["listener"] == last;
            assert!(exit.log.iter().any(of_last), "{newcomers}");
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// It has got the sockets, and would have had them steered otherwise. The kernel keeps to what the old one wants.
#[test]
fn a_newcomer_that_fails_has_changed_nothing_for_clients_of_many_balancer_sockets() -> TestResult {
    isolated(|| {
        for (count, newcomer) in [
            ("2", ["--listeners", "4", "--udp-header", "v2"]),
            ("3", ["--listeners", "1", "--udp-header", "spp"]),
            ("2", ["--listeners", "2", "--udp-header", "v2-first"]),
            ("1", ["--listeners", "2", "--udp-header", "v2"]),
        ] {
            let server = UdpServer::echo("127.0.0.1")?;
            let old = Proxy::udp(server).args(["--listeners", count]).start()?;
            let taken = TcpListener::bind("127.0.0.1:0")?;
            let exit = Proxy::udp(server)
                .listen(&old.addr().to_string())
                .args(["--takeover", "--admin", &taken.local_addr()?.to_string()])
                .args(newcomer)
                .start_in_vain()?;
            exit.expect_failure(&["cannot serve the admin endpoint"])?;
            for round in 0..8 {
                all_are_answered(&old, &UdpBalancer::bind("127.0.0.1")?, round)?;
            }
            let exit = old.stop()?;
            assert_eq!(exit.total("flows")?, 20, "{newcomer:?}");
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// The kernel is to spread them by peer from then on, not by a header that is no longer there.
#[test]
fn a_newcomer_with_headers_on_first_datagrams_is_not_steered_by_those_on_each() -> TestResult {
    const PEERS: usize = 16;
    isolated(|| {
        for former in ["v2", "spp"] {
            let server = UdpServer::bind("127.0.0.1")?;
            let builder = |format: &str| -> TestResult<_> {
                Ok(Proxy::udp(server.addr()?).args(["--listeners", "4", "--udp-header", format]))
            };
            let old = builder(former)?.args(FOREVER).start()?;
            let newcomer = builder("v2-first")?
                .args(["--takeover"])
                .listen(&old.addr().to_string())
                .start()?;
            // Until it is gone, it may read a header that is for the other one.
            old.exit()?.expect_success()?;
            for n in 1..=PEERS {
                let (client, peer) = (format!("192.0.2.{n}:4000"), UdpBalancer::bind("127.0.0.1")?);
                peer.send(&newcomer, &header(&client)?, b"first")?;
                server.expect(&client, b"first")?;
                peer.send(&newcomer, &Header::none(), b"second")?;
                server.expect(&client, b"second")?;
            }
            let exit = newcomer.stop()?;
            assert_eq!(exit.total("unbound")?, 0);
            exit.expect_success()?;
        }
        Ok(())
    })
}
