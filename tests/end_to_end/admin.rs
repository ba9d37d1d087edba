//! The admin endpoint: what it tells, and that nobody who speaks to it disturbs the proxy.

mod clients;
mod hostile;
mod http;
mod lists;
mod traffic;

use std::net::SocketAddr;

use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// A proxy with the endpoint, in front of a TCP server.
fn proxy(server: SocketAddr) -> TestResult<Proxy> {
    Proxy::tcp(server).args(ADMIN).start()
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start() -> TestResult {
    isolated(|| {
        let other = TcpServer::bind("127.0.0.1")?.addr()?;
        let other_again = TcpServer::bind_to(other)?;
        let exit = Proxy::builder()
            .args(["--admin", &other.to_string()])
            .start_in_vain()?;
        let refused = format!("cannot serve the admin endpoint on {other}: ");
        exit.expect_failure(&[&refused, "name another address or port with --admin"])?;
        drop(other_again);

        let exit = Proxy::builder().args(["--admin", "9101"]).start_in_vain()?;
        exit.expect_failure(&[
            "--admin \"9101\" has no address before the port",
            "127.0.0.1:9101",
        ])
    })
}

#[test]
fn an_address_that_others_reach_is_worth_a_warning() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder().args(["--admin", "0.0.0.0:0"]).start()?;
        proxy.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("everybody who reaches the admin endpoint can read it")
        })?;
        proxy.stop()?.expect_success()
    })
}
