//! What the end of the process cuts.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use super::{LogFile, wait_for_json};
use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CUT: &str = "cut by the end of the process";

fn connect(proxy: &Proxy, client: &str) -> TestResult<Connection> {
    let connection = Balancer::default().connect(proxy, &Header::of(client)?)?;
    connection.expect_echo(b"hello")?;
    Ok(connection)
}

/// By a signal that lets nobody finish, at the end of the drain, and by a second signal.
#[test]
fn connections_have_a_line_each_however_it_ends() -> TestResult {
    isolated(|| {
        for (drain_timeout, signals) in [("0", 1), ("0.3", 1), ("3600", 2)] {
            let file = LogFile::new()?;
            let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
                .args(file.flags())
                .args(["-v", "2", "--listeners", "3"])
                .args(["--drain-timeout", drain_timeout])
                .start()?;
            let clients = (1..=200).map(|n| connect(&proxy, &format!("192.0.2.{n}:4000")));
            let clients = clients.collect::<TestResult<Vec<_>>>()?;
            let balancer = Balancer::default().connect(&proxy, &Header::v2_local()?)?;
            balancer.expect_echo(b"hello, health")?;
            // Nobody has said who it is: a line would not tell.
            let silent = Balancer::default().connect(&proxy, &Header::none())?;
            proxy.wait_for_logs(202, |line| line["message"] == "accepted")?;
            for n in 0..signals {
                if n > 0 {
                    proxy.wait_for_message("draining")?;
                }
                proxy.signal(Signal::TERM)?;
            }
            let exit = proxy.exit()?;
            let mut wanted: BTreeSet<_> = (1..=200)
                .map(|n| (format!("192.0.2.{n}:4000"), 5))
                .collect();
            wanted.insert(("-".to_owned(), 13));
            exit.expect_success()?;
            let lines = wait_for_json(&file.path, 201)?;
            assert_eq!(cut_lines(&lines), wanted);
            assert_eq!(exit.total("connections_cut")?, 202);
            for client in clients {
                client.expect_over()?;
            }
            silent.expect_over()?;
        }
        Ok(())
    })
}

#[test]
fn flows_have_a_line_each() -> TestResult {
    isolated(|| {
        for drain_timeout in ["0", "0.3"] {
            let file = LogFile::new()?;
            let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
                .args(file.flags())
                .args(["--listeners", "3", "--drain-timeout", drain_timeout])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let mut wanted = BTreeSet::new();
            // More than end in one turn.
            for port in 2000..2400 {
                let client = format!("192.0.2.1:{port}");
                let header = Header::v2_udp(&client, "203.0.113.1:443")?;
                balancer.send(&proxy, &header, b"hello")?;
                balancer.expect(format!("{client} hello").as_bytes())?;
                wanted.insert((client, 5));
            }
            let exit = proxy.stop()?;
            exit.expect_success()?;
            let lines = wait_for_json(&file.path, 400)?;
            assert_eq!(cut_lines(&lines), wanted);
            assert_eq!(exit.total("flows_cut")?, 400);
        }
        Ok(())
    })
}

/// The clients of lines that all tell of a cut, and the bytes that were passed on from them.
fn cut_lines(lines: &[Value]) -> BTreeSet<(String, u64)> {
    let told = lines.iter().map(|line| {
        assert_eq!(line["reason"], CUT, "{line}");
        let client = line["client_addr"].as_str().unwrap_or("-").to_owned();
        (client, line["bytes_upstream"].as_u64().unwrap_or_default())
    });
    told.collect()
}
