//! Clients that are turned away, and sent away when a new list names them.

mod ended;
mod failing;
mod in_force;
mod kept;
mod reloaded;

use std::time::Instant;

use super::ListFile;
use crate::harness::{Balancer, Connection, Header, PATIENCE, Proxy, UdpBalancer};
use crate::namespace::TestResult;

/// Over TCP, by client 192.0.2.`n`.
fn tcp_client(n: usize) -> String {
    format!("192.0.2.{n}:4000")
}

fn udp_header(client: &str) -> TestResult<Header> {
    Header::v2_udp(client, "203.0.113.1:443")
}

/// A connection of this client to a server that echoes; None if it is refused.
#[track_caller]
fn try_connect(proxy: &Proxy, client: &str) -> TestResult<Option<Connection>> {
    let header = Header::of(client)?.then(b"ping");
    let connection = Balancer::default().connect(proxy, &header)?;
    if connection.expect(b"ping").is_ok() {
        return Ok(Some(connection));
    }
    Ok(None)
}

#[track_caller]
fn expect_denied(proxy: &Proxy, client: &str, denied: bool) -> TestResult {
    if try_connect(proxy, client)?.is_none() != denied {
        let what = if denied { "not denied" } else { "denied" };
        return Err(format!("{client} is {what}").into());
    }
    Ok(())
}

/// Waits until a new list is in force: the shards learn of it a moment before or after it is logged.
#[track_caller]
fn wait_denied(proxy: &Proxy, client: &str, denied: bool) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    while try_connect(proxy, client)?.is_none() != denied {
        if Instant::now() > deadline {
            return expect_denied(proxy, client, denied);
        }
    }
    Ok(())
}

/// One question and its answer, from a server that echoes with the client's address before.
#[track_caller]
fn expect_answer(proxy: &Proxy, balancer: &UdpBalancer, client: &str) -> TestResult {
    balancer.send(proxy, &udp_header(client)?, b"question")?;
    balancer.expect(format!("{client} question").as_bytes())?;
    Ok(())
}
