//! Lists of subnets: who may connect (allow list), and which clients are turned away (deny list).
//!
//! A list is text, one prefix or address a line; the files of go-mmproxy's `--allowed-subnets` are such lists. What is
//! looked up on every connection and first datagram is not the list as written but a search tree of merged ranges, one
//! a family, built once.

mod error;
mod ladder;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use error::SubnetError;
use error::SubnetProblem;
use ladder::Ladder;

/// The most prefixes a list may have. The longest public lists of prefixes (whole routing tables) stay around this; a
/// file with more is not what its reader meant to load.
pub const PREFIXES_MAX: usize = 1_000_000;

/// The length up to which `::ffff:0:0/96`, the v4-mapped addresses, is fixed (RFC 4291, section 2.5.5.2).
const MAPPED_LEN: u8 = 96;

/// IPv4 bounds to compare at once: a cache line of them.
const V4_BLOCK: usize = 16;
/// IPv6 bounds to compare at once: two cache lines of them, which the CPU fetches as a pair.
const V6_BLOCK: usize = 8;

/// A set of addresses, written as prefixes.
///
/// The families are apart: `::/0` covers every IPv6 address and no IPv4 address. A v4-mapped address or prefix is only
/// another spelling of the IPv4 one, both in a list and in a look-up: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
#[derive(Clone, Debug, Default)]
pub struct SubnetSet {
    v4: Ladder<u32, V4_BLOCK>,
    v6: Ladder<u128, V6_BLOCK>,
    len: usize,
}

// === impl SubnetSet ===

impl SubnetSet {
    /// Reads a list: one prefix (`192.0.2.0/24`) or bare address (`2001:db8::1`) a line. Blank lines and comments from
    /// `#` on are skipped; white space around, CRLF and a byte order mark at the beginning are tolerated. Bits behind a
    /// prefix's length may be set (`10.1.2.3/8` is `10.0.0.0/8`), as in Go's `net.ParseCIDR`.
    ///
    /// # Errors
    ///
    /// The first line that is neither, or is the prefix beyond [`PREFIXES_MAX`].
    pub fn parse(text: &str) -> Result<Self, SubnetError> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mut len = 0;
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();

        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }

            let refused = |problem| SubnetError::new(index + 1, entry, problem);
            if len == PREFIXES_MAX {
                return Err(refused(SubnetProblem::TooMany));
            }
            len += 1;
            match parse_prefix(entry).map_err(refused)? {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }

        Ok(Self {
            v4: Ladder::new(v4),
            v6: Ladder::new(v6),
            len,
        })
    }

    /// Whether a prefix of the list covers the address. A v4-mapped address is looked up as the IPv4 address it maps.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(u32::from(v4)),
            IpAddr::V6(v6) => self.v6.contains(u128::from(v6)),
        }
    }

    /// How many prefixes and addresses were listed, the same one listed twice counted twice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was listed. Such a set contains no address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn parse_prefix(entry: &str) -> Result<IpNet, SubnetProblem> {
    let Some((address, len)) = entry.split_once('/') else {
        let ip: IpAddr = entry.parse().map_err(|_| SubnetProblem::Address)?;
        return Ok(IpNet::from(ip.to_canonical()));
    };

    let ip: IpAddr = address.parse().map_err(|_| SubnetProblem::Address)?;
    let len = parse_len(len);
    match ip {
        IpAddr::V4(v4) => len
            .and_then(|len| Ipv4Net::new(v4, len).ok())
            .map(IpNet::V4)
            .ok_or(SubnetProblem::LengthV4),
        IpAddr::V6(v6) => {
            let net = len
                .and_then(|len| Ipv6Net::new(v6, len).ok())
                .ok_or(SubnetProblem::LengthV6)?;
            unmapped(net)
        }
    }
}

/// Digits only, as in Go: `str::parse` alone would take a sign.
fn parse_len(len: &str) -> Option<u8> {
    let is_number = len.bytes().all(|byte| byte.is_ascii_digit());
    len.parse().ok().filter(|_| is_number)
}

/// The IPv4 prefix that a v4-mapped prefix means. A mapped address with a length below 96 is refused: its author meant
/// an IPv4 length, and taken as written `::ffff:10.0.0.0/8` would be `::/8`.
fn unmapped(net: Ipv6Net) -> Result<IpNet, SubnetProblem> {
    let Some(v4) = net.addr().to_ipv4_mapped() else {
        return Ok(IpNet::V6(net));
    };

    net.prefix_len()
        .checked_sub(MAPPED_LEN)
        .and_then(|len| Ipv4Net::new(v4, len).ok())
        .map(IpNet::V4)
        .ok_or(SubnetProblem::LengthMapped)
}
