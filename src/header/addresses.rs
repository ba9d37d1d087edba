//! The addresses of a header, before anybody asks for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Origin;

/// The address block of INET: two addresses and two ports.
pub(super) const INET_LEN: usize = 12;
/// The address block of INET6: two addresses and two ports.
pub(super) const INET6_LEN: usize = 36;

/// The addresses of a header as numbers. Socket addresses of two families share their bytes, so that a compiler cannot
/// keep them in registers; and often only one of the two is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    family: Family,
    source: Endpoint,
    destination: Endpoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// No addresses: the header is LOCAL or UNKNOWN.
    Local,
    Inet,
    Inet6,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    /// That of IPv4 has the lowest 32 bits.
    ip: u128,
    port: u16,
}

// === impl Addresses ===

impl Addresses {
    pub(super) const LOCAL: Self = Self {
        family: Family::Local,
        source: Endpoint::NONE,
        destination: Endpoint::NONE,
    };

    /// Those of version 2 over IPv4.
    #[inline]
    pub(super) fn inet(block: &[u8; INET_LEN]) -> Self {
        let &[s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1] = block;
        Self {
            family: Family::Inet,
            source: Endpoint {
                ip: u32::from_be_bytes([s0, s1, s2, s3]).into(),
                port: u16::from_be_bytes([sp0, sp1]),
            },
            destination: Endpoint {
                ip: u32::from_be_bytes([d0, d1, d2, d3]).into(),
                port: u16::from_be_bytes([dp0, dp1]),
            },
        }
    }

    /// Those of version 2 over IPv6.
    #[inline]
    pub(super) fn inet6(block: &[u8; INET6_LEN]) -> Self {
        let endpoint = |ip_at: usize, port_at: usize| {
            let mut ip = [0; 16];
            ip.copy_from_slice(&block[ip_at..ip_at + 16]);
            Endpoint {
                ip: u128::from_be_bytes(ip),
                port: u16::from_be_bytes([block[port_at], block[port_at + 1]]),
            }
        };
        Self {
            family: Family::Inet6,
            source: endpoint(0, 32),
            destination: endpoint(16, 34),
        }
    }

    /// Whether there are none.
    #[inline]
    pub(super) fn are_local(self) -> bool {
        matches!(self.family, Family::Local)
    }

    /// The client; none if there is none to speak for.
    #[inline]
    pub(super) fn source(self) -> Option<SocketAddr> {
        match self.family {
            Family::Local => None,
            Family::Inet => Some(self.source.v4()),
            Family::Inet6 => Some(self.source.v6()),
        }
    }

    #[inline]
    pub(super) fn origin(self) -> Origin {
        match self.family {
            Family::Local => Origin::Local,
            Family::Inet => Origin::Proxied {
                source: self.source.v4(),
                destination: self.destination.v4(),
            },
            Family::Inet6 => Origin::Proxied {
                source: self.source.v6(),
                destination: self.destination.v6(),
            },
        }
    }
}

/// Those of version 1, of one family.
impl From<Origin> for Addresses {
    #[inline]
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Local => Self::LOCAL,
            Origin::Proxied {
                source,
                destination,
            } => Self {
                family: match source {
                    SocketAddr::V4(_) => Family::Inet,
                    SocketAddr::V6(_) => Family::Inet6,
                },
                source: source.into(),
                destination: destination.into(),
            },
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    const NONE: Self = Self { ip: 0, port: 0 };

    #[inline]
    fn v4(self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(self.ip as u32), self.port))
    }

    #[inline]
    fn v6(self) -> SocketAddr {
        SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(self.ip), self.port, 0, 0))
    }
}

impl From<SocketAddr> for Endpoint {
    #[inline]
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => u32::from(v4).into(),
            IpAddr::V6(v6) => v6.into(),
        };
        Self {
            ip,
            port: addr.port(),
        }
    }
}
