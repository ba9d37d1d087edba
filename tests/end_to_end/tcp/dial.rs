//! Connecting to the server, when that is not easy.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::CLIENT;
use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, add_address, isolated, run};

#[test]
fn a_server_that_is_down_refuses_and_one_that_is_back_serves() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1"])
            .start()?;
        for (server, first, second) in [
            (server, "192.0.2.1:4000", "192.0.2.1:4001"),
            (server_v6, "[2001:db8::1]:4000", "[2001:db8::1]:4001"),
        ] {
            let addr = server.addr()?;
            drop(server);
            // The client learns it as if it had asked the server itself, whether it has said something already or not.
            for header in [Header::of(first)?, Header::of(first)?.then(b"hello")] {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                downstream.expect_reset()?;
                let peer = downstream.local()?.to_string();
                let line = proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
                assert_eq!(line["message"], "connection dropped");
                let error = line["error"].as_str().unwrap_or_default();
                let expected = format!("cannot connect to {addr}: Connection refused");
                assert!(error.starts_with(&expected), "{error}");
            }
            let server = TcpServer::bind_to(addr)?;
            let (downstream, session) = open(&proxy, &server, second)?;
            downstream.expect_talk(&session)?;
        }
        assert_eq!(proxy.stop()?.total("dial_errors")?, 4);
        Ok(())
    })
}

#[test]
fn a_server_that_does_not_answer_is_given_up() -> TestResult {
    isolated(|| {
        // A listener with room for one connection, which is taken: the kernel drops what comes then.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(0)?;
        let addr = listener.local_addr()?.as_socket().ok_or("no address")?;
        let _first = TcpStream::connect(addr)?;
        let proxy = Proxy::tcp(addr)
            .args(["-v", "1", "--connect-timeout", "0.3"])
            .start()?;
        for header in [
            Header::of("192.0.2.1:4000")?,
            Header::of("192.0.2.1:4001")?.then(b"hello"),
        ] {
            let started = Instant::now();
            let downstream = Balancer::default().connect(&proxy, &header)?;
            downstream.expect_reset()?;
            assert!(started.elapsed() >= Duration::from_millis(300));
            let peer = downstream.local()?.to_string();
            let line = proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
            assert_eq!(
                line["error"],
                format!("no answer from {addr} within 0.3 s").as_str()
            );
        }
        Ok(())
    })
}

/// How many segments have come to this end, and how many of them with bytes (ss(8)).
fn segments(end: &Connection) -> TestResult<[u32; 2]> {
    let (local, peer) = (end.local()?, end.peer()?);
    let told = run(&format!("ss -tinOH src '{local}' dst '{peer}'"))?;
    let count = |name: &str| {
        let told = told.split_whitespace();
        let count = told.filter_map(|field| field.strip_prefix(name)).next();
        // What is 0 is not told.
        count.map_or(Ok(0), str::parse)
    };
    Ok([count("segs_in:")?, count("data_segs_in:")?])
}

#[test]
fn first_bytes_end_the_handshake_and_nobody_waits_for_them() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?).and(server_v6.addr()?).start()?;
        for (server, header) in [
            (&server, Header::of("192.0.2.1:4000")?),
            (&server_v6, Header::of("[2001:db8::1]:4000")?),
            (&server, Header::v2_local()?),
        ] {
            let silent = Balancer::default().connect(&proxy, &header)?;
            let session = server.accept()?;
            let [handshake, with_bytes] = segments(&session)?;
            assert_eq!(with_bytes, 0, "{header:?}");
            silent.expect_talk(&session)?;
            session.reset()?;
            silent.expect_reset()?;

            let speaking = Balancer::default().connect(&proxy, &header.then(b"hello"))?;
            let session = server.accept()?;
            session.expect(b"hello")?;
            assert_eq!(segments(&session)?, [handshake, 1]);
            speaking.expect_talk(&session)?;
            session.reset()?;
            speaking.expect_reset()?;
        }
        Ok(())
    })
}

/// The port belongs to a server of this host.
#[test]
fn a_port_that_cannot_be_bound_is_replaced_and_the_address_kept() -> TestResult {
    isolated(|| {
        add_address("198.51.100.9")?;
        add_address("2001:db8:9::9")?;
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1"])
            .start()?;
        for (server, ip) in [(&server, "198.51.100.9"), (&server_v6, "2001:db8:9::9")] {
            let taken = TcpListener::bind((ip, 0))?;
            expect_port_replaced(&proxy, server, taken.local_addr()?)?;
        }
        assert_eq!(proxy.stop()?.total("ports_replaced")?, 2);
        Ok(())
    })
}

/// The port belongs to an older connection of the same client: one balancer of several has not noticed its end.
#[test]
fn a_port_that_is_connected_already_is_replaced_and_the_address_kept() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1"])
            .start()?;
        for (server, client) in [(&server, CLIENT), (&server_v6, "[2001:db8::1]:4000")] {
            let (downstream, session) = open(&proxy, server, client)?;
            expect_port_replaced(&proxy, server, client.parse()?)?;
            downstream.expect_talk(&session)?;
        }
        assert_eq!(proxy.stop()?.total("ports_replaced")?, 2);
        Ok(())
    })
}

fn expect_port_replaced(proxy: &Proxy, server: &TcpServer, client: SocketAddr) -> TestResult {
    let header = Header::of(&client.to_string())?;
    let downstream = Balancer::default().connect(proxy, &header.then(b"hello"))?;
    let session = server.accept()?;
    session.expect(b"hello")?;
    assert_eq!(session.peer()?.ip(), client.ip());
    assert_ne!(session.peer()?.port(), client.port());
    downstream.expect_talk(&session)?;
    let peer = downstream.local()?.to_string();
    let line = proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
    assert_eq!(
        line["message"],
        "the client's port could not be had, the kernel chose another"
    );
    assert_eq!(line["client_addr"], client.to_string().as_str());
    assert!(line["error"].is_string());
    Ok(())
}
