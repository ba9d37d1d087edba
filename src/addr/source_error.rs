//! Why a source is refused.

use std::net::IpAddr;

use thiserror::Error;

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
