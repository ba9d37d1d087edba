//! Servers answer spoofed clients, and the answers arrive.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

use glommproxy::routing::{self, RoutePlan};
use socket2::{Domain, Protocol, Socket, Type};

use crate::holder::tables;
use crate::namespace::{TestResult, isolated};
use crate::{TARGET_V4, add_other_addresses, loopback_plan};

/// Longer than any machine needs; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn udp_replies_come_back_from_wildcard_and_bound_servers() -> TestResult {
    isolated(|| {
        for (bound, target, client) in [
            ("0.0.0.0", "127.0.0.1", "10.1.2.3"),
            ("127.0.0.1", "127.0.0.1", "10.1.2.3"),
            ("0.0.0.0", "127.5.6.7", "10.1.2.3"),
            ("::", "::1", "2001:db8:1::5"),
            ("::1", "::1", "2001:db8:1::5"),
            // A dual-stack server sees IPv4 clients as v4-mapped addresses and answers through IPv4's tables.
            ("::", "127.0.0.1", "10.1.2.3"),
        ] {
            let server = UdpSocket::bind((bound.parse::<IpAddr>()?, 0))?;
            assert_udp_round_trip(&server, target.parse()?, client.parse()?)
                .map_err(|e| format!("server on {bound}, target {target}: {e:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn replies_come_back_from_another_address_of_the_host() -> TestResult {
    isolated(|| {
        add_other_addresses()?;
        for (target, client) in [("192.0.2.7", "10.1.2.3"), ("2001:db8::7", "2001:db8:1::5")] {
            let (target, client) = (target.parse::<IpAddr>()?, client.parse()?);
            let wildcard = if target.is_ipv4() { "0.0.0.0" } else { "::" };
            for bound in [target, wildcard.parse()?] {
                assert_udp_round_trip(&UdpSocket::bind((bound, 0))?, target, client)
                    .map_err(|e| format!("UDP server on {bound}, target {target}: {e:?}"))?;
            }
            assert_tcp_round_trip(target, client).map_err(|e| format!("TCP to {target}: {e:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn tcp_replies_come_back_from_loopback() -> TestResult {
    isolated(|| {
        assert_tcp_round_trip("127.0.0.1".parse()?, "10.1.2.3".parse()?)?;
        assert_tcp_round_trip("::1".parse()?, "2001:db8:1::5".parse()?)?;
        Ok(())
    })
}

#[test]
fn servers_that_choose_their_address_keep_their_own_way() -> TestResult {
    isolated(|| {
        add_other_addresses()?;
        let client = SocketAddr::from(([10, 1, 2, 3], 5000));
        let other = UdpSocket::bind("192.0.2.7:0")?;
        let mut plan = loopback_plan()?;
        plan.v4 = vec![SocketAddrV4::new(
            *TARGET_V4.ip(),
            other.local_addr()?.port(),
        )];
        let _installed = routing::install(&plan)?;
        // The same port as the server's, but another address: no rule of ours, so no route out of this namespace.
        let sent = other.send_to(b"hello", client);
        assert_eq!(
            sent.map_err(|e| e.kind()),
            Err(ErrorKind::NetworkUnreachable)
        );
        Ok(())
    })
}

fn plan_for(target: SocketAddr) -> TestResult<RoutePlan> {
    let mut plan = loopback_plan()?;
    plan.v4.clear();
    plan.v6.clear();
    match target {
        SocketAddr::V4(target) => plan.v4 = vec![target],
        SocketAddr::V6(target) => plan.v6 = vec![target],
    }
    Ok(plan)
}

/// A spoofed client asks, the server answers; without our routes the answer has nowhere to go.
fn assert_udp_round_trip(server: &UdpSocket, target: IpAddr, client: IpAddr) -> TestResult {
    let target = SocketAddr::new(target, server.local_addr()?.port());
    let client: UdpSocket = spoofed(client, Type::DGRAM, Protocol::UDP)?.into();
    client.connect(target)?;
    server.set_read_timeout(Some(PATIENCE))?;
    client.set_read_timeout(Some(PATIENCE))?;

    client.send(b"question")?;
    let mut buffer = [0; 64];
    let (length, peer) = server.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"question");
    let lost = server.send_to(b"lost", peer).map_err(|e| e.kind());
    assert_eq!(lost, Err(ErrorKind::NetworkUnreachable));

    let before = tables()?;
    let installed = routing::install(&plan_for(target)?)?;
    assert_eq!(installed.warnings(), []);
    server.send_to(b"answer", peer)?;
    let length = client.recv(&mut buffer)?;
    assert_eq!(&buffer[..length], b"answer");
    installed.remove()?;
    assert_eq!(tables()?, before);
    Ok(())
}

/// A spoofed client connects, and both ends hear each other.
fn assert_tcp_round_trip(target: IpAddr, client: IpAddr) -> TestResult {
    let server = TcpListener::bind((target, 0))?;
    let target = server.local_addr()?;
    let installed = routing::install(&plan_for(target)?)?;
    let client = spoofed(client, Type::STREAM, Protocol::TCP)?;
    let client_addr = client.local_addr()?.as_socket().ok_or("no address")?;
    client.connect_timeout(&target.into(), PATIENCE)?;
    let mut client = std::net::TcpStream::from(client);
    let (mut session, peer) = server.accept()?;
    assert_eq!(peer, client_addr);
    client.set_read_timeout(Some(PATIENCE))?;
    session.set_read_timeout(Some(PATIENCE))?;

    let mut buffer = [0; 8];
    client.write_all(b"question")?;
    session.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"question");
    session.write_all(b"answer!!")?;
    client.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"answer!!");
    Ok(installed.remove()?)
}

/// A socket bound to an address that is not this host's.
fn spoofed(ip: IpAddr, kind: Type, protocol: Protocol) -> TestResult<Socket> {
    let addr = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if ip.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}
