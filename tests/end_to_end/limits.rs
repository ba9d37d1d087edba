//! Limits that an operator sets: how many connections there may be, how fast they may come, how long they may be idle.

mod connections;
mod idle;
mod per_client;
mod rate;

use std::time::Duration;

use crate::harness::{Balancer, Connection, Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::TestResult;

/// A connection of this client to a server that echoes; None if it is reset.
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
fn connect(proxy: &Proxy, client: &str) -> TestResult<Connection> {
    let connected = try_connect(proxy, client)?;
    connected.ok_or_else(|| format!("{client} is refused").into())
}

fn udp_header(client: &str) -> TestResult<Header> {
    let destination = if client.starts_with('[') {
        "[2001:db8::443]:443"
    } else {
        "203.0.113.1:443"
    };
    Header::v2_udp(client, destination)
}

/// Waits until the proxy tells of a datagram of this client that it dropped for this reason.
#[track_caller]
fn wait_dropped(proxy: &Proxy, client_ip: &str, reason: &str) -> TestResult {
    proxy.wait_for_log(|line| {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        line["message"] == "datagram dropped"
            && text("client_addr").starts_with(client_ip)
            && text("error").contains(reason)
    })?;
    Ok(())
}

/// Sends a client's datagrams until one arrives.
#[track_caller]
fn send_until_received(
    proxy: &Proxy,
    balancer: &UdpBalancer,
    server: &UdpServer,
    client: &str,
) -> TestResult {
    server
        .socket()
        .set_read_timeout(Some(Duration::from_millis(20)))?;
    crate::harness::wait_for(|| {
        balancer.send(proxy, &udp_header(client)?, b"let me in")?;
        let mut buffer = [0; 64];
        let received = server.socket().recv_from(&mut buffer);
        Ok(received.ok().filter(|(_, from)| from.to_string() == client))
    })?;
    server
        .socket()
        .set_read_timeout(Some(crate::harness::PATIENCE))?;
    server.drain()
}
