//! Addresses by role.
//!
//! A proxy that spoofs has four kinds of addresses in its hands at once. Each has a type of its own, so that swapped
//! arguments do not compile.

mod own_listener;
mod source_error;
mod spans;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;

pub(crate) use self::own_listener::own_listener;
pub use self::source_error::SourceError;
pub use self::spans::spans;

/// The address a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddr(pub SocketAddr);

/// The address a connection or datagram came from: the load balancer, as the kernel tells it. Never v4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(SocketAddr);

/// The client's address as a PROXY header told it, and as the server will see it. Never v4-mapped, and never one of the
/// addresses that no client can have (see [`ClientAddr::believe`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

/// Where the server listens, one address a family. Port 0 says that there is none for that family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// For IPv4 clients (`-4`).
    pub v4: SocketAddrV4,
    /// For IPv6 clients (`-6`).
    pub v6: SocketAddrV6,
}

/// Where balancers connect to, and the server behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend<T = Targets> {
    /// Where it listens.
    pub listen: ListenAddr,
    /// Where its clients' traffic goes.
    pub targets: T,
}

/// A frontend as a shard has it: the coordinator may send other addresses of its server.
pub(crate) type ShardFrontend = Frontend<Rc<Cell<Targets>>>;

// === impl ShardFrontend ===

impl From<Frontend> for ShardFrontend {
    fn from(Frontend { listen, targets }: Frontend) -> Self {
        Self {
            listen,
            targets: Rc::new(Cell::new(targets)),
        }
    }
}

// === impl ListenAddr ===

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl PeerAddr ===

impl PeerAddr {
    /// Takes an address as the kernel tells it; `::ffff:a.b.c.d` becomes `a.b.c.d`, so that lists and logs see the
    /// address the operator knows. A link-local address keeps its interface, without which it may be anybody's.
    pub fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                Self(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into())
            }
            _ => Self(unmapped(addr)),
        }
    }

    /// The socket address.
    pub fn addr(self) -> SocketAddr {
        self.0
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl ClientAddr ===

impl ClientAddr {
    /// Takes the source that a PROXY header from `peer` tells as the client's address. `::ffff:a.b.c.d` becomes
    /// `a.b.c.d`, and a zone or flow label is dropped.
    ///
    /// # Errors
    ///
    /// If no client can have this address (see [`SourceError`]). A loopback source is believed from a loopback peer
    /// only, of either family: a proxy on this host may have clients on it, a proxy elsewhere may not.
    pub fn believe(source: SocketAddr, peer: PeerAddr) -> Result<Self, SourceError> {
        let client = Self::believe_loopback(source)?;
        let ip = client.0.ip();
        if ip.is_loopback() && !peer.ip().is_loopback() {
            return Err(SourceError::Loopback(ip));
        }

        Ok(client)
    }

    /// As [`believe`](Self::believe), but a loopback source is believed whoever tells it: whoever can make the sender
    /// tell one passes for the server's own host.
    ///
    /// # Errors
    ///
    /// If no client can have this address.
    pub fn believe_loopback(source: SocketAddr) -> Result<Self, SourceError> {
        let source = unmapped(source);
        let ip = source.ip();
        let is_unspecified = match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_unspecified(),
        };

        if is_unspecified {
            return Err(SourceError::Unspecified(ip));
        }
        if ip.is_multicast() {
            return Err(SourceError::Multicast(ip));
        }
        if ip == Ipv4Addr::BROADCAST {
            return Err(SourceError::Broadcast(ip));
        }
        if matches!(ip, IpAddr::V6(v6) if is_v4_compatible(v6)) {
            return Err(SourceError::V4Compatible(ip));
        }
        if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            return Err(SourceError::LinkLocal(ip));
        }
        if source.port() == 0 {
            return Err(SourceError::PortZero(ip));
        }

        Ok(Self(source))
    }

    /// The socket address.
    pub fn addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Targets ===

impl Targets {
    /// The target for an address of this family.
    pub fn for_ip(&self, ip: IpAddr) -> SocketAddr {
        if ip.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }
}

/// Whether this is `::a.b.c.d`. Software that takes the last four bytes of any address for IPv4 would see `127.0.0.1` in
/// `::127.0.0.1`.
fn is_v4_compatible(ip: Ipv6Addr) -> bool {
    u128::from(ip) >> 32 == 0 && !ip.is_unspecified() && !ip.is_loopback()
}

fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
