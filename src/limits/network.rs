//! What counts as one client.

use std::net::IpAddr;

/// One client, as limits know it: an IPv4 address, or an IPv6 /64. A subscriber is given at least a /64 (RFC 6177), and
/// may use all of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// The address.
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

// === impl ClientNetwork ===

impl ClientNetwork {
    /// The client of an address. `::ffff:a.b.c.d` is `a.b.c.d`.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.into()),
            IpAddr::V6(v6) => Self::V6((u128::from(v6) >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> ClientNetwork {
        ClientNetwork::of(ip.parse().expect("an address"))
    }

    #[test]
    fn ipv4_counts_by_address_and_ipv6_by_64() {
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        // The same 64 bits in another family.
        assert_ne!(of("0.0.0.1"), of("0:0:0:1::"));
    }
}
