//! Who is who on the one host a test has, and clients with addresses of their own.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{Connection, PATIENCE};
use crate::namespace::{TestResult, add_address};

/// Clients (RFC 5737, RFC 3849).
pub(crate) const CLIENT_V4: &str = "198.51.100.7";
pub(crate) const OTHER_CLIENT_V4: &str = "198.51.100.8";
pub(crate) const CLIENT_V6: &str = "2001:db8::7";
/// Where clients find the balancer.
pub(crate) const BALANCER_V4: &str = "192.0.2.80";
pub(crate) const BALANCER_V6: &str = "2001:db8:80::80";

/// Gives this host all the addresses above.
#[track_caller]
pub(crate) fn add_addresses() -> TestResult {
    let mut all = [
        CLIENT_V4,
        OTHER_CLIENT_V4,
        CLIENT_V6,
        BALANCER_V4,
        BALANCER_V6,
    ]
    .into_iter();
    all.try_for_each(add_address)
}

/// Connects a client to the balancer.
#[track_caller]
pub(crate) fn connect(client: &str, balancer: SocketAddr) -> TestResult<Connection> {
    let socket = client_socket(client, Type::STREAM)?;
    socket.connect_timeout(&balancer.into(), PATIENCE)?;
    Connection::new(TcpStream::from(socket))
}

/// A socket of a client, connected to the balancer.
#[track_caller]
pub(crate) fn associate(client: &str, balancer: SocketAddr) -> TestResult<UdpSocket> {
    let socket = client_socket(client, Type::DGRAM)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&balancer.into())?;
    Ok(UdpSocket::from(socket))
}

/// A port that is free for a server on all addresses, TCP and UDP.
///
/// It is not one of those that connections are given (ip(7), `ip_local_port_range`), so nothing in this namespace takes
/// it before the server does. It stays the same until the server has it.
pub(crate) fn free_port() -> TestResult<u16> {
    /// Where that range begins in a new namespace.
    const EPHEMERAL_MIN: u16 = 32_768;
    // Sockets on [::] conflict with those on 0.0.0.0, too.
    let is_free = |port: &u16| {
        let all = (IpAddr::from([0_u16; 8]), *port);
        TcpListener::bind(all).is_ok() && UdpSocket::bind(all).is_ok()
    };
    let port = (1024..EPHEMERAL_MIN).find(is_free);
    port.ok_or_else(|| "no port is free".into())
}

fn client_socket(client: &str, kind: Type) -> TestResult<Socket> {
    let addr = SocketAddr::new(client.parse()?, 0);
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    // The client's address and port are also those of the proxy's socket. On two hosts that needs no permission.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}
