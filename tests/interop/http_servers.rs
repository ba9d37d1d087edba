//! nginx behind: its access log has the clients.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::harness::{Connection, Proxy};
use crate::hosts::{
    BALANCER_V4, BALANCER_V6, CLIENT_V4, CLIENT_V6, OTHER_CLIENT_V4, add_addresses, connect,
};
use crate::namespace::TestResult;
use crate::software::{Balancer, Frontend, HaProxy, NginxBalancer, NginxServer};
use crate::tool::{HAPROXY, NGINX, NGINX_STREAM, isolated_with};

#[test]
fn nginx_behind_haproxy() -> TestResult {
    isolated_with(&[HAPROXY, NGINX], || {
        clients_are_logged(|proxy| HaProxy::start(proxy, "send-proxy-v2", Frontend::PerFamily, &[]))
    })
}

#[test]
fn nginx_behind_nginx() -> TestResult {
    isolated_with(&[NGINX, NGINX_STREAM], || {
        clients_are_logged(|proxy| NginxBalancer::start(proxy, Frontend::PerFamily))
    })
}

fn clients_are_logged<B: Balancer>(start: impl Fn(SocketAddr) -> TestResult<B>) -> TestResult {
    add_addresses()?;
    let mut server = NginxServer::start()?;
    let proxy = Proxy::tcp(server.addr_at("127.0.0.1")?).and(server.addr_at("::1")?);
    let proxy = proxy.start()?;
    let balancer = start(proxy.addr())?;
    for (path, client, at) in [
        ("/first", CLIENT_V4, BALANCER_V4),
        ("/second", CLIENT_V6, BALANCER_V6),
        ("/third", OTHER_CLIENT_V4, BALANCER_V4),
        ("/fourth", CLIENT_V4, BALANCER_V4),
    ] {
        let client = connect(client, balancer.addr_at(at)?)?;
        let response = get(&client, path)?;
        assert!(
            response.starts_with("HTTP/1.1 200 OK") && response.ends_with("welcome"),
            "{response}"
        );
        let own = client.local()?;
        let expected = format!("{} {}", own.ip(), own.port());
        assert_eq!(server.wait_for_visitor(path)?, expected);
    }
    proxy.stop()?.expect_success()
}

/// All that the server answers until it ends.
fn get(client: &Connection, path: &str) -> TestResult<String> {
    let mut stream = client.stream();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: game\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}
