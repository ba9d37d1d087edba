//! Servers that are named by host.

mod changed;
mod failing;
mod found;
mod unreachable;

use std::net::SocketAddr;

use crate::harness::{Balancer, Connection, Header, NameServer, Proxy};
use crate::namespace::TestResult;

/// What the tests' servers are called.
const NAME: &str = "game.internal";

/// A client as a header tells it.
const CLIENT: (&str, &str) = ("192.0.2.1:4000", "203.0.113.1:443");

/// A TCP proxy for IPv4 clients of the named server at this port.
fn tcp_proxy(names: &NameServer, port: u16) -> TestResult<Proxy> {
    let target = format!("{NAME}:{port}");
    Proxy::builder()
        .under(names.wrapper())
        .args(["-p", "tcp", "-4", &target, "-v", "1"])
        .start()
}

/// A client's connection.
#[track_caller]
fn connect(proxy: &Proxy, client: &str) -> TestResult<Connection> {
    Balancer::default().connect(proxy, &Header::v1(client, CLIENT.1)?)
}

/// The same port at another address.
fn at(ip: &str, port: u16) -> TestResult<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}
