//! What the tests are told in: a [`Proxy`] between a [`Balancer`] and a [`TcpServer`], or between a [`UdpBalancer`] and
//! a [`UdpServer`].
//!
//! ```ignore
//! let server = TcpServer::bind("127.0.0.1")?;
//! let proxy = Proxy::tcp(server.addr()?).start()?;
//! let downstream = Balancer::default().connect(&proxy, &Header::v1("192.0.2.1:4000", "203.0.113.1:443")?)?;
//! let session = server.accept()?;
//! assert_eq!(session.peer()?, "192.0.2.1:4000".parse()?);
//! downstream.send(b"hello")?;
//! session.expect(b"hello")?;
//! ```
//!
//! Nothing sleeps: everything waits for an event, and fails if it has not come after [`PATIENCE`]. What the proxy writes
//! goes to standard error as it comes, so that a failed test shows it.

mod admin;
mod balancer;
mod connection;
mod exit;
mod header;
mod inspect;
mod log;
mod name_server;
mod neighbour;
mod pieces;
mod proxy;
mod screen;
mod tcp_server;
mod udp_server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(crate) use admin::{Admin, metric};
pub(crate) use balancer::{Balancer, UdpBalancer};
pub(crate) use connection::{Connection, open};
pub(crate) use exit::Exit;
pub(crate) use header::Header;
pub(crate) use inspect::{raise_descriptor_limit, unread, wait_for};
pub(crate) use name_server::NameServer;
pub(crate) use neighbour::Neighbour;
pub(crate) use pieces::Pieces;
pub(crate) use proxy::{Proxy, ProxyBuilder};
pub(crate) use screen::Screen;
pub(crate) use tcp_server::TcpServer;
pub(crate) use udp_server::UdpServer;

/// Longer than any machine needs; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where on this host something is reached that is bound to this address.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}
