//! Addresses by role.
//!
//! A proxy that spoofs has four kinds of addresses in its hands at once. Each has a type of its own, so that swapped
//! arguments do not compile.

mod spans;

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;

use thiserror::Error;

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

/// Why an address out of a PROXY header cannot be a client's, in one line that says what to do about it.
///
/// Linux would bind a socket to several of these, and the server would then see 127.0.0.1: a client that gets such a
/// source through the sender would pass for the server's own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// 0.0.0.0/8 (RFC 791, section 3.2: "this network") or `::`.
    #[error("source {0} stands for no host: the sender must give the client's own address")]
    Unspecified(IpAddr),
    /// 224.0.0.0/4 or ff00::/8.
    #[error(
        "source {0} is a multicast address, which no client sends from: the sender is broken or lied to"
    )]
    Multicast(IpAddr),
    /// 255.255.255.255.
    #[error(
        "source {0} is the broadcast address, which no client sends from: the sender is broken or lied to"
    )]
    Broadcast(IpAddr),
    /// ::a.b.c.d, but for `::` and `::1` (RFC 4291, section 2.5.5.1, which gives these addresses up).
    #[error(
        "source {0} is an IPv4-compatible IPv6 address, which no client sends from: the sender is broken or lied to"
    )]
    V4Compatible(IpAddr),
    /// fe80::/10. The header has no room for the zone without which the address means nothing.
    #[error(
        "source {0} is link-local, and a PROXY header cannot name its zone: let the client use a global address"
    )]
    LinkLocal(IpAddr),
    /// Port 0.
    #[error(
        "source {0} has port 0, which no client sends from: the sender must give the client's own port"
    )]
    PortZero(IpAddr),
    /// 127.0.0.0/8 or `::1`, told by a peer on another host.
    #[error(
        "source {0} is a loopback address, and the sender is not on this host: its clients cannot be, either"
    )]
    Loopback(IpAddr),
}

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

// === impl SourceError ===

impl SourceError {
    /// Every label [`kind`](Self::kind) gives, for a counter a kind.
    pub const KINDS: [&'static str; 7] = [
        "unspecified",
        "multicast",
        "broadcast",
        "v4_compatible",
        "link_local",
        "port_zero",
        "loopback",
    ];

    /// A short, stable label for counters and log fields.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Unspecified(_) => "unspecified",
            Self::Multicast(_) => "multicast",
            Self::Broadcast(_) => "broadcast",
            Self::V4Compatible(_) => "v4_compatible",
            Self::LinkLocal(_) => "link_local",
            Self::PortZero(_) => "port_zero",
            Self::Loopback(_) => "loopback",
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    const REMOTE_PEER: &str = "192.0.2.1:4000";

    fn believe(source: &str, peer: &str) -> Result<String, &'static str> {
        let source = source.parse().expect("an address");
        let peer = PeerAddr::new(peer.parse().expect("an address"));
        ClientAddr::believe(source, peer)
            .map(|client| client.to_string())
            .map_err(SourceError::kind)
    }

    #[test]
    fn believes_what_a_client_can_have() {
        for source in [
            "203.0.113.7:1",
            "10.0.0.1:65535",
            "1.0.0.0:5000",
            "223.255.255.255:5000",
            // 240/4: Cloudflare's "Pseudo IPv4" gives such addresses to IPv6 clients.
            "240.0.0.0:5000",
            "240.0.0.1:5000",
            "255.255.255.254:5000",
            "169.254.1.1:5000",
            "[2001:db8::1]:5000",
            "[fd00::1]:5000",
            "[fec0::1]:5000",
            // Next to what is refused.
            "[::1:0:0]:5000",
            "[::1:7f00:1]:5000",
            "[::fffe:7f00:1]:5000",
            "[::ffff:0:7f00:1]:5000",
            "[64:ff9b::7f00:1]:5000",
        ] {
            assert_eq!(believe(source, REMOTE_PEER), Ok(source.to_owned()));
        }
    }

    #[test]
    fn unmaps_a_mapped_source() {
        assert_eq!(
            believe("[::ffff:203.0.113.7]:5000", REMOTE_PEER),
            Ok("203.0.113.7:5000".to_owned())
        );
    }

    #[test]
    fn a_peer_is_told_as_the_operator_knows_it() {
        for (addr, told) in [
            ("192.0.2.1:4000", "192.0.2.1:4000"),
            ("[::ffff:192.0.2.1]:4000", "192.0.2.1:4000"),
            ("[2001:db8::1]:4000", "[2001:db8::1]:4000"),
            ("[2001:db8::1%3]:4000", "[2001:db8::1]:4000"),
            ("[fe80::1%3]:4000", "[fe80::1%3]:4000"),
        ] {
            let peer = PeerAddr::new(addr.parse().expect("an address"));
            assert_eq!(peer.to_string(), told);
        }
        let labelled = SocketAddrV6::new("fe80::1".parse().expect("an address"), 4000, 7, 3);
        let peer = PeerAddr::new(labelled.into());
        assert_eq!(
            peer,
            PeerAddr::new("[fe80::1%3]:4000".parse().expect("an address"))
        );
    }

    #[test]
    fn drops_the_zone_of_a_source() {
        let source = SocketAddrV6::new("2001:db8::1".parse().expect("an address"), 5000, 7, 3);
        let peer = PeerAddr::new(REMOTE_PEER.parse().expect("an address"));
        let client = ClientAddr::believe(source.into(), peer).expect("a client's address");
        assert_eq!(
            client.addr(),
            "[2001:db8::1]:5000".parse().expect("an address")
        );
    }

    #[test]
    fn refuses_what_no_client_can_have() {
        for (source, kind) in [
            ("0.0.0.0:5000", "unspecified"),
            ("0.0.0.1:5000", "unspecified"),
            ("0.255.255.255:5000", "unspecified"),
            ("[::]:5000", "unspecified"),
            ("[::ffff:0.0.0.0]:5000", "unspecified"),
            ("[::ffff:0.1.2.3]:5000", "unspecified"),
            ("224.0.0.1:5000", "multicast"),
            ("239.255.255.255:5000", "multicast"),
            ("[ff02::1]:5000", "multicast"),
            ("[ff00::]:5000", "multicast"),
            ("[::ffff:224.0.0.1]:5000", "multicast"),
            ("[::ffff:239.255.255.255]:5000", "multicast"),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:5000",
                "multicast",
            ),
            ("255.255.255.255:5000", "broadcast"),
            ("[::ffff:255.255.255.255]:5000", "broadcast"),
            ("[::2]:5000", "v4_compatible"),
            ("[::0.0.0.2]:5000", "v4_compatible"),
            ("[::127.0.0.1]:5000", "v4_compatible"),
            ("[::224.0.0.1]:5000", "v4_compatible"),
            ("[::203.0.113.7]:5000", "v4_compatible"),
            ("[::255.255.255.255]:5000", "v4_compatible"),
            ("[fe80::1]:5000", "link_local"),
            ("[febf:ffff::1]:5000", "link_local"),
            ("203.0.113.7:0", "port_zero"),
            ("[::ffff:203.0.113.7]:0", "port_zero"),
            ("[2001:db8::1]:0", "port_zero"),
            ("127.0.0.1:5000", "loopback"),
            ("127.255.255.254:5000", "loopback"),
            ("[::1]:5000", "loopback"),
            ("[::ffff:127.0.0.1]:5000", "loopback"),
            ("[::ffff:127.255.255.255]:5000", "loopback"),
        ] {
            assert_eq!(believe(source, REMOTE_PEER), Err(kind), "{source}");
        }
    }

    #[test]
    fn believes_a_loopback_source_from_a_loopback_peer_only() {
        for peer in [
            "127.0.0.1:4000",
            "127.9.9.9:4000",
            "[::1]:4000",
            "[::ffff:127.0.0.1]:4000",
        ] {
            for source in ["127.0.0.1:5000", "127.1.2.3:5000", "[::1]:5000"] {
                assert_eq!(believe(source, peer), Ok(source.to_owned()), "{peer}");
            }
            // Everything else is refused from such a peer, too.
            assert_eq!(believe("0.0.0.0:5000", peer), Err("unspecified"));
            assert_eq!(believe("127.0.0.1:0", peer), Err("port_zero"));
        }
        assert_eq!(believe("[::1]:5000", "[2001:db8::1]:4000"), Err("loopback"));
    }

    #[test]
    fn every_source_error_is_one_line_under_a_listed_label() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let errors = [
            SourceError::Unspecified(ip),
            SourceError::Multicast(ip),
            SourceError::Broadcast(ip),
            SourceError::V4Compatible(ip),
            SourceError::LinkLocal(ip),
            SourceError::PortZero(ip),
            SourceError::Loopback(ip),
        ];
        assert_eq!(errors.map(SourceError::kind), SourceError::KINDS);
        for error in errors {
            let line = error.to_string();
            assert!(
                line.starts_with("source 127.0.0.1 ") && !line.contains('\n'),
                "{line}"
            );
        }
    }
}
