//! SIGTERM with UDP flows.

use crate::harness::{Exit, Header, Pieces, Proxy, UdpBalancer, UdpServer, wait_for};
use crate::namespace::{TestResult, isolated};
use rustix::process::Signal;
use serde_json::Value;

fn header(client: &str) -> TestResult<Header> {
    Header::v2_udp(client, "203.0.113.1:443")
}

fn exchange(proxy: &Proxy, balancer: &UdpBalancer, client: &str) -> TestResult {
    balancer.send(proxy, &header(client)?, b"hello")?;
    balancer.expect(format!("{client} hello").as_bytes())?;
    Ok(())
}

fn drained(exit: &Exit, cut: u64) -> TestResult {
    exit.expect_success()?;
    assert_eq!((exit.total("flows")?, exit.total("flows_cut")?), (1, cut));
    Ok(())
}

#[test]
fn flows_go_on_until_they_are_idle_and_new_clients_are_turned_away() -> TestResult {
    isolated(|| {
        for listeners in ["1", "3"] {
            let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
                .args([
                    "--listeners",
                    listeners,
                    "--close-after",
                    "2",
                    "--drain-timeout",
                    "3600",
                ])
                .start()?;
            let (known, newcomer) = (
                UdpBalancer::bind("127.0.0.1")?,
                UdpBalancer::bind("127.0.0.1")?,
            );
            exchange(&proxy, &known, "192.0.2.1:4000")?;
            proxy.signal(Signal::TERM)?;
            let draining = proxy.wait_for_message("draining")?;
            assert_eq!(
                (&draining["connections"], &draining["flows"]),
                (&0.into(), &1.into())
            );
            for n in 1..=20 {
                newcomer.send(&proxy, &header(&format!("192.0.2.2:{n}"))?, b"hello")?;
            }
            for _ in 0..3 {
                exchange(&proxy, &known, "192.0.2.1:4000")?;
            }
            let exit = proxy.exit()?;
            drained(&exit, 0)?;
            newcomer.expect_nothing()?;
        }
        Ok(())
    })
}

#[test]
fn flows_that_are_left_are_cut_and_counted() -> TestResult {
    isolated(|| {
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["--drain-timeout", "0.3"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        exchange(&proxy, &balancer, "192.0.2.1:4000")?;
        drained(&proxy.stop()?, 1)
    })
}

/// A listener without flows has nothing left to do, but if its socket were closed, the kernel would steer the clients of
/// others elsewhere.
#[test]
fn a_listener_without_flows_leaves_the_clients_of_others_where_they_are() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("127.0.0.1")?;
        let start = || Proxy::udp(server).args(["--listeners", "3", "-v", "2"]);
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        // A client goes to the same listener in every process.
        let scout = start().start()?;
        let mut clients = Vec::new();
        for n in 1..=60 {
            let client = format!("192.0.2.{n}:4000");
            exchange(&scout, &balancer, &client)?;
            let is_its = |line: &Value| line["client_addr"] == *client;
            let opened = |line: &Value| line["message"] == "flow opened" && is_its(line);
            if scout.wait_for_log(opened)?["listener"] != 0 {
                clients.push(client);
            }
        }
        assert!((1..60).contains(&clients.len()));
        scout.stop()?.expect_success()?;

        let proxy = start().args(["--drain-timeout", "3600"]).start()?;
        for client in &clients {
            exchange(&proxy, &balancer, client)?;
        }
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("draining")?;
        // The kernel's own choice goes by their ports.
        for _ in 0..16 {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            for client in &clients {
                exchange(&proxy, &balancer, client)?;
            }
        }
        proxy.signal(Signal::TERM)?;
        proxy.exit()?.expect_success()
    })
}

/// A piece comes to the listener of its first client. That one has no flows any more, but others have.
#[test]
fn a_listener_without_flows_goes_on_handing_over_what_is_of_others() -> TestResult {
    isolated(|| {
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(["--listeners", "2", "-v", "2", "--close-after", "2"])
            .args(["--drain-timeout", "3600"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        // Each as soon as there is one on each of the two.
        let mut clients = [None, None];
        for n in 1.. {
            let client = format!("192.0.2.{n}:4000");
            exchange(&proxy, &balancer, &client)?;
            let opened =
                |line: &Value| line["message"] == "flow opened" && line["client_addr"] == *client;
            let listener = proxy.wait_for_log(opened)?["listener"].as_u64();
            clients[usize::try_from(listener.ok_or("no number")?)?] = Some(client);
            if let [Some(_), Some(_)] = clients {
                break;
            }
        }
        let [Some(living), Some(silent)] = clients else {
            return Err("all on one".into());
        };
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("draining")?;
        let is_over = |line: &Value| line["message"] == "closed" && line["client_addr"] == *silent;
        wait_for(|| {
            exchange(&proxy, &balancer, &living)?;
            Ok(proxy.log().iter().any(is_over).then_some(()))
        })?;
        let pieces = Pieces::of(balancer.socket())?;
        for _ in 0..10 {
            let piece = [&silent, &living].map(|client| -> TestResult<Vec<u8>> {
                Ok([header(client)?.bytes(), b"hello"].concat())
            });
            let piece: Vec<_> = piece.into_iter().collect::<TestResult<_>>()?;
            pieces.send(proxy.addr(), &piece)?;
            balancer.expect(format!("{living} hello").as_bytes())?;
        }
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert_eq!(exit.total("flows_cut")?, 0);
        balancer.expect_nothing()
    })
}
