//! A load balancer in front of the proxy.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use socket2::{Domain, SockAddr, Socket, Type};

use super::udp_server::{Datagram, expect_nothing, receive};
use super::{Connection, Header, PATIENCE, Proxy};
use crate::namespace::TestResult;

/// A balancer of TCP connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balancer {
    /// Its own address, with port 0; the kernel chooses if there is none.
    addr: Option<SocketAddr>,
}

// === impl Balancer ===

impl Balancer {
    /// A balancer at this address, which the host must have.
    pub(crate) fn at(ip: &str) -> TestResult<Self> {
        Ok(Self::bound_to(SocketAddr::new(ip.parse()?, 0)))
    }

    /// A balancer at this address, which may have an interface.
    pub(crate) fn bound_to(addr: SocketAddr) -> Self {
        Self { addr: Some(addr) }
    }

    /// Connects to the proxy and sends a header.
    #[track_caller]
    pub(crate) fn connect(self, proxy: &Proxy, header: &Header) -> TestResult<Connection> {
        self.connect_to(proxy.addr(), header)
    }

    /// Connects to one address of several the proxy has, and sends a header.
    #[track_caller]
    pub(crate) fn connect_to(self, addr: SocketAddr, header: &Header) -> TestResult<Connection> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if let Some(addr) = self.addr {
            socket.bind(&SockAddr::from(addr))?;
        }
        socket.connect_timeout(&addr.into(), PATIENCE)?;
        let connection = Connection::new(TcpStream::from(socket))?;
        connection.send(header.bytes())?;
        Ok(connection)
    }
}

/// One socket of a balancer of UDP datagrams.
pub(crate) struct UdpBalancer(UdpSocket);

// === impl UdpBalancer ===

impl UdpBalancer {
    /// A socket at this address, which the host must have, with a port of the kernel's choice.
    #[track_caller]
    pub(crate) fn bind(ip: &str) -> TestResult<Self> {
        Self::bind_to(SocketAddr::new(ip.parse::<IpAddr>()?, 0))
    }

    /// A socket at this address and port, which may have an interface.
    #[track_caller]
    pub(crate) fn bind_to(addr: SocketAddr) -> TestResult<Self> {
        let socket = UdpSocket::bind(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends one datagram to the proxy.
    #[track_caller]
    pub(crate) fn send(&self, proxy: &Proxy, header: &Header, payload: &[u8]) -> TestResult {
        self.send_to(proxy.addr(), header, payload)
    }

    /// Sends one datagram to one address of several the proxy has.
    #[track_caller]
    pub(crate) fn send_to(&self, addr: SocketAddr, header: &Header, payload: &[u8]) -> TestResult {
        self.0.send_to(&[header.bytes(), payload].concat(), addr)?;
        Ok(())
    }

    /// The socket itself, for what the methods here do not do.
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.0
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn receive(&self) -> TestResult<Datagram> {
        receive(&self.0)
    }

    /// The next reply, which must be this.
    #[track_caller]
    pub(crate) fn expect(&self, payload: &[u8]) -> TestResult<Datagram> {
        let datagram = self.receive()?;
        if datagram.payload != payload {
            let payload = payload.escape_ascii();
            return Err(format!("received {datagram:?}, expected \"{payload}\"").into());
        }
        Ok(datagram)
    }

    /// No reply has come. For when all that could have come has been heard of.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) -> TestResult {
        expect_nothing(&self.0)
    }

    /// The address the proxy knows it by.
    pub(crate) fn addr(&self) -> TestResult<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}
