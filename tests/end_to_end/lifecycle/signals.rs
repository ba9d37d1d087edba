//! Signals that come at any moment, and in any order.

use std::fmt::Write;
use std::fs;

use rustix::process::Signal;

use super::FOREVER;
use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

#[test]
fn a_signal_during_the_start_finds_nothing_to_drain() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for _ in 0..10 {
            let proxy = Proxy::builder()
                .args(["--listeners", "4", "-p", "both"])
                .args(FOREVER)
                .spawn()?;
            proxy.wait_for_log(|_| true)?;
            proxy.stop()?.expect_success()?;
            assert_eq!(tables()?, before);
        }
        Ok(())
    })
}

#[test]
fn whatever_comes_while_a_long_list_is_reloaded_it_ends_as_told() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("denied.txt");
        let list = |last: u32| {
            (0..50_000u32).fold(String::new(), |mut list, n| {
                // Writing to a string cannot fail.
                let _ = writeln!(list, "198.18.{}.{}", n >> 8 & 255, n & 255);
                let _ = writeln!(list, "198.51.100.{last}");
                list
            })
        };
        let server = TcpServer::echo("127.0.0.1")?;
        let signals = [
            Signal::HUP,
            Signal::TERM,
            Signal::HUP,
            Signal::INT,
            Signal::HUP,
        ];
        for first in 0..3 {
            fs::write(&path, list(1))?;
            let proxy = Proxy::tcp(server)
                .args(["--listeners", "2", "--denied-clients"])
                .args([&path])
                .args(FOREVER)
                .start()?;
            let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
            client.expect_echo(b"hello")?;
            fs::write(&path, list(2))?;
            for &signal in &signals[first..] {
                proxy.signal(signal)?;
            }
            proxy.wait_for_message("stopping")?;
            // Those that come at once may count as one: the connection may be there still.
            drop(client);
            proxy.exit()?.expect_success()?;
        }
        Ok(())
    })
}
