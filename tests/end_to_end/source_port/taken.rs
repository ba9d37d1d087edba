//! Ports that are taken on this host: replaced by default, and the end of the connection if they may not be.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::{OWN, Servers, udp_header_of};
use crate::harness::{Balancer, Header, Proxy, UdpBalancer};
use crate::namespace::{TestResult, isolated};

const CLIENTS: [&str; 2] = ["192.0.2.1:4000", "[2001:db8::1]:4000"];

/// All the ways to say so.
const STRICT: [&[&str]; 3] = [
    &["--source-port", "strict"],
    &["-P"],
    &["--force-real-client-port"],
];

/// Sockets of this host that listen, and clients that they keep from their ports.
fn taken_tcp() -> TestResult<(Vec<TcpListener>, Vec<SocketAddr>)> {
    let mut listeners = Vec::new();
    let mut clients = Vec::new();
    for ip in OWN {
        let listener = TcpListener::bind((ip, 0))?;
        clients.push(listener.local_addr()?);
        listeners.push(listener);
    }
    // One on all addresses is in the way of every client.
    let everywhere = TcpListener::bind("[::]:0")?;
    let port = everywhere.local_addr()?.port();
    clients.extend([
        SocketAddr::from(([192, 0, 2, 77], port)),
        SocketAddr::new("2001:db8::77".parse()?, port),
    ]);
    listeners.push(everywhere);
    Ok((listeners, clients))
}

fn taken_udp() -> TestResult<(Vec<UdpSocket>, Vec<SocketAddr>)> {
    let mut sockets = Vec::new();
    let mut clients = Vec::new();
    for ip in OWN {
        let socket = UdpSocket::bind((ip, 0))?;
        clients.push(socket.local_addr()?);
        sockets.push(socket);
    }
    let everywhere = UdpSocket::bind("[::]:0")?;
    let port = everywhere.local_addr()?.port();
    clients.extend([
        SocketAddr::from(([192, 0, 2, 77], port)),
        SocketAddr::new("2001:db8::77".parse()?, port),
    ]);
    sockets.push(everywhere);
    Ok((sockets, clients))
}

/// The line of a client's connection or datagram that was dropped.
fn expect_refusal(proxy: &Proxy, protocol: &str, client: SocketAddr) -> TestResult {
    let line = proxy.wait_for_log(|line| {
        line["protocol"] == protocol && line["client_addr"] == client.to_string().as_str()
    })?;
    let error = line["error"].as_str().unwrap_or_default();
    let reason = format!("the client's port cannot be had ({client}: ");
    let starts = error.starts_with(&reason);
    let ends = error.ends_with("), and --source-port strict allows no other");
    assert!(starts && ends, "{error}");
    Ok(())
}

#[test]
fn a_taken_tcp_port_is_replaced_by_default() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let (_listeners, clients) = taken_tcp()?;
        for args in [&[][..], &["--source-port", "client"]] {
            let proxy = servers.proxy(args)?;
            for &client in &clients {
                let header = Header::of(&client.to_string())?;
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = servers.tcp_of(client).accept()?;
                assert_eq!(session.peer()?.ip(), client.ip());
                assert_ne!(session.peer()?.port(), client.port());
                downstream.expect_talk(&session)?;
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("ports_replaced")?, clients.len() as u64);
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// A proxy that listens everywhere takes its own port from every client.
#[test]
fn the_proxys_own_port_is_replaced_by_default() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let proxy = Proxy::builder()
            .args(["-p", "both"])
            .listen("0.0.0.0:0")
            .and(servers.tcp[0].addr()?)
            .start()?;
        let client = SocketAddr::from(([192, 0, 2, 1], proxy.addr().port()));
        let downstream = Balancer::default().connect(&proxy, &Header::of(&client.to_string())?)?;
        let session = servers.tcp[0].accept()?;
        assert_eq!(session.peer()?.ip(), client.ip());
        assert_ne!(session.peer()?.port(), client.port());
        downstream.expect_talk(&session)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &udp_header_of(client)?, b"question")?;
        let question = servers.udp[0].receive()?;
        assert_eq!(question.from.ip(), client.ip());
        assert_ne!(question.from.port(), client.port());
        servers.udp[0].send(question.from, b"answer")?;
        balancer.expect(b"answer")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 2);
        exit.expect_success()
    })
}

#[test]
fn a_taken_tcp_port_ends_the_connection_of_a_strict_proxy() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let (_listeners, clients) = taken_tcp()?;
        for args in STRICT {
            let proxy = servers.proxy(args)?;
            for &client in &clients {
                let header = Header::of(&client.to_string())?;
                let refused = Balancer::default().connect(&proxy, &header.then(b"hello"))?;
                refused.expect_reset()?;
                expect_refusal(&proxy, "tcp", client)?;
                servers.tcp_of(client).expect_nobody()?;
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("dial_errors")?, clients.len() as u64);
            assert_eq!(exit.total("ports_replaced")?, 0);
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// One balancer of several has not noticed the end of the older connection.
#[test]
fn a_second_connection_of_one_client_ends_in_a_strict_proxy() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let proxy = servers.proxy(&["--source-port=strict"])?;
        for client in CLIENTS {
            let header = Header::of(client)?;
            let client: SocketAddr = client.parse()?;
            let first = Balancer::default().connect(&proxy, &header)?;
            let session = servers.tcp_of(client).accept()?;
            assert_eq!(session.peer()?, client);
            first.expect_talk(&session)?;
            let second = Balancer::default().connect(&proxy, &header)?;
            second.expect_reset()?;
            expect_refusal(&proxy, "tcp", client)?;
            servers.tcp_of(client).expect_nobody()?;
            first.expect_talk(&session)?;

            // Once it is over, the port is to be had again.
            session.reset()?;
            first.expect_reset()?;
            let third = Balancer::default().connect(&proxy, &header)?;
            let session = servers.tcp_of(client).accept()?;
            assert_eq!(session.peer()?, client);
            third.expect_talk(&session)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("dial_errors")?, 2);
        exit.expect_success()
    })
}

#[test]
fn a_taken_udp_port_is_replaced_by_default_and_drops_the_datagram_of_a_strict_proxy() -> TestResult
{
    isolated(|| {
        let servers = Servers::bind()?;
        let (sockets, clients) = taken_udp()?;
        let proxy = servers.proxy(&[])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for &client in &clients {
            balancer.send(&proxy, &udp_header_of(client)?, b"question")?;
            let question = servers.udp_of(client).receive()?;
            assert_eq!(question.from.ip(), client.ip());
            assert_ne!(question.from.port(), client.port());
            servers.udp_of(client).send(question.from, b"answer")?;
            balancer.expect(b"answer")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, clients.len() as u64);
        exit.expect_success()?;

        // One proxy each: a second line within the second would not be written.
        for (number, &client) in clients.iter().enumerate() {
            let proxy = servers.proxy(STRICT[number % STRICT.len()])?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &udp_header_of(client)?, b"refused")?;
            let other = CLIENTS[usize::from(client.is_ipv6())].parse()?;
            balancer.send(&proxy, &udp_header_of(other)?, b"served")?;
            servers
                .udp_of(client)
                .expect(&other.to_string(), b"served")?;
            expect_refusal(&proxy, "udp", client)?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("dial_errors")?, 1);
            assert_eq!(exit.total("flows")?, 1);
            exit.expect_success()?;
        }

        // It is not for good: the next datagram after the port is free gets through.
        let proxy = servers.proxy(STRICT[0])?;
        balancer.send(&proxy, &udp_header_of(clients[0])?, b"refused")?;
        expect_refusal(&proxy, "udp", clients[0])?;
        drop(sockets);
        balancer.send(&proxy, &udp_header_of(clients[0])?, b"served")?;
        let server = servers.udp_of(clients[0]);
        server.expect(&clients[0].to_string(), b"served")?;
        proxy.stop()?.expect_success()
    })
}
