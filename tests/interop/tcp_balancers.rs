//! HAProxy and nginx in front: the server sees their clients, whatever header they write.

use std::io::Read;
use std::net::SocketAddr;

use crate::harness::{Connection, Proxy, TcpServer};
use crate::hosts::{BALANCER_V4, BALANCER_V6, CLIENT_V4, CLIENT_V6, add_addresses, connect};
use crate::namespace::TestResult;
use crate::software::{Balancer, Frontend, HaProxy, NginxBalancer};
use crate::tool::{HAPROXY, NGINX, NGINX_STREAM, isolated_with};

/// A checksum, and behind it an identifier of the connection.
const WITH_TLVS: &str = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
const UNIQUE_ID: &str = r"unique-id-format %{+X}o\ %ci:%cp_%fi:%fp_%Ts_%rt";
/// A checksum, and behind it what HAProxy knows of the client's TLS: that there is none.
const WITH_SSL: &str = "send-proxy-v2-ssl proxy-v2-options crc32c";

#[test]
fn haproxy_send_proxy() -> TestResult {
    isolated_with(&[HAPROXY], || clients_of_haproxy_are_seen("send-proxy"))
}

#[test]
fn haproxy_send_proxy_v2() -> TestResult {
    isolated_with(&[HAPROXY], || clients_of_haproxy_are_seen("send-proxy-v2"))
}

#[test]
fn haproxy_send_proxy_v2_with_checksum_and_unique_id() -> TestResult {
    isolated_with(&[HAPROXY], || {
        expect_tlvs(WITH_TLVS, &[0x03, 0x05])?;
        clients_of_haproxy_are_seen(WITH_TLVS)
    })
}

#[test]
fn haproxy_send_proxy_v2_ssl() -> TestResult {
    isolated_with(&[HAPROXY], || {
        expect_tlvs(WITH_SSL, &[0x03, 0x20])?;
        clients_of_haproxy_are_seen(WITH_SSL)
    })
}

#[test]
fn nginx_proxy_protocol() -> TestResult {
    isolated_with(&[NGINX, NGINX_STREAM], || {
        clients_are_seen(NginxBalancer::start)
    })
}

fn clients_of_haproxy_are_seen(options: &str) -> TestResult {
    clients_are_seen(|proxy, frontend| HaProxy::start(proxy, options, frontend, &[UNIQUE_ID]))
}

/// Clients of both families talk through a balancer, which listens in either way, and the proxy with a server. It sees
/// each of them, and the proxy has nothing to complain of.
fn clients_are_seen<B: Balancer>(
    start: impl Fn(SocketAddr, Frontend) -> TestResult<B>,
) -> TestResult {
    add_addresses()?;
    let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
    for frontend in [Frontend::PerFamily, Frontend::DualStack] {
        let proxy = Proxy::tcp(server.addr()?).and(server_v6.addr()?);
        let proxy = proxy.args(["-v", "1"]).start()?;
        let balancer = start(proxy.addr(), frontend)?;
        let mut sessions: Vec<(Connection, Connection)> = Vec::new();
        for (client, at, server) in [
            (CLIENT_V4, BALANCER_V4, &server),
            (CLIENT_V6, BALANCER_V6, &server_v6),
            (CLIENT_V4, BALANCER_V4, &server),
        ] {
            let client = connect(client, balancer.addr_at(at)?)?;
            // nginx says nothing to the server before the client has said something.
            client.send(b"hello")?;
            let session = server.accept()?;
            assert_eq!(session.peer()?, client.local()?, "{frontend:?}");
            session.expect(b"hello")?;
            client.expect_talk(&session)?;
            sessions.push((client, session));
        }
        // All at once are still told apart.
        for (client, session) in &sessions {
            client.expect_talk(session)?;
        }
        for (client, session) in sessions {
            session.finish()?;
            client.expect_end()?;
        }
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.log_since_ready(), [""; 0], "{frontend:?}");
    }
    Ok(())
}

/// With these options HAProxy's header has these TLVs, in this order; or else the test would not show what it says.
fn expect_tlvs(options: &str, expected: &[u8]) -> TestResult {
    /// Version 2, section 2.2: signature, version and command, family and transport, length; then two addresses and ports.
    const V4_LEN: usize = 16 + 12;
    let server = TcpServer::bind("127.0.0.1")?;
    let lines = [UNIQUE_ID];
    let haproxy = HaProxy::start(server.addr()?, options, Frontend::PerFamily, &lines)?;
    let _client = connect("127.0.0.1", haproxy.addr_at("127.0.0.1")?)?;
    let session = server.accept()?;
    let mut fixed = [0; V4_LEN];
    session.stream().read_exact(&mut fixed)?;
    let length = u16::from_be_bytes([fixed[14], fixed[15]]);
    let mut tlvs = vec![0; 16 + usize::from(length) - V4_LEN];
    session.stream().read_exact(&mut tlvs)?;
    let mut tlvs = tlvs.as_slice();
    let mut found = Vec::new();
    while let [kind, high, low, rest @ ..] = tlvs {
        found.push(*kind);
        tlvs = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    assert_eq!(found, expected, "{options}");
    Ok(())
}
