//! PROXY headers, made by hand from HAProxy's `doc/proxy-protocol.txt`, and headers of Cloudflare's Simple Proxy Protocol:
//! the crate has decoders only, and its tests should not believe them.

use std::net::{IpAddr, SocketAddr};

use crate::namespace::TestResult;

/// Section 2.2: the 12 bytes that begin version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes a connection or datagram begins with.
#[derive(Clone, Debug)]
pub(crate) struct Header(Vec<u8>);

// === impl Header ===

impl Header {
    /// The header of a TCP client, where version and destination do not matter.
    pub(crate) fn of(client: &str) -> TestResult<Self> {
        Self::v2(client, destination_for(client))
    }

    /// `PROXY TCP4 …` or `PROXY TCP6 …`.
    pub(crate) fn v1(source: &str, destination: &str) -> TestResult<Self> {
        let (source, destination) = parse(source, destination)?;
        let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        Ok(Self::raw(format!(
            "PROXY {protocol} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        )))
    }

    /// `PROXY UNKNOWN`, with what some senders put behind it.
    pub(crate) fn v1_unknown() -> Self {
        Self::raw("PROXY UNKNOWN 192.0.2.66 203.0.113.66 6666 66\r\n")
    }

    /// Version 2, command PROXY, over TCP.
    pub(crate) fn v2(source: &str, destination: &str) -> TestResult<Self> {
        Self::v2_with(0x1, 0x1, source, destination)
    }

    /// Version 2, command PROXY, over UDP.
    pub(crate) fn v2_udp(source: &str, destination: &str) -> TestResult<Self> {
        Self::v2_with(0x1, 0x2, source, destination)
    }

    /// Version 2, command LOCAL, with addresses that nobody is to read.
    pub(crate) fn v2_local() -> TestResult<Self> {
        Self::v2_with(0x0, 0x1, "192.0.2.66:6666", "203.0.113.66:66")
    }

    /// Version 2, command LOCAL, as HAProxy sends it: family and transport UNSPEC and nothing behind.
    pub(crate) fn v2_local_bare() -> Self {
        let mut bytes = SIGNATURE.to_vec();
        bytes.push(0x20); // version 2, LOCAL
        bytes.push(0x00); // UNSPEC, UNSPEC
        bytes.extend([0, 0]); // length
        Self(bytes)
    }

    /// Simple Proxy Protocol; IPv4 addresses are v4-mapped in it.
    pub(crate) fn spp(client: &str, proxy: &str) -> TestResult<Self> {
        let (client, proxy): (SocketAddr, SocketAddr) = (client.parse()?, proxy.parse()?);
        let mut bytes = vec![0x56, 0xEC]; // magic number
        for ip in [client.ip(), proxy.ip()] {
            bytes.extend(match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            });
        }
        for port in [client.port(), proxy.port()] {
            bytes.extend(port.to_be_bytes());
        }
        Ok(Self(bytes))
    }

    /// Any bytes at all.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// No header.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// With one more TLV at the end of a version 2 header (section 2.2: type, length, value).
    pub(crate) fn tlv(mut self, kind: u8, value: &[u8]) -> TestResult<Self> {
        let value_len = u16::try_from(value.len())?;
        self.0.push(kind);
        self.0.extend(value_len.to_be_bytes());
        self.0.extend(value);
        let length = u16::try_from(self.0.len() - 16)?;
        self.0[14..16].copy_from_slice(&length.to_be_bytes());
        Ok(self)
    }

    /// With the checksum of it all as one more TLV at the end (section 2.2.3).
    pub(crate) fn crc32c(self) -> TestResult<Self> {
        let mut header = self.tlv(0x03, &[0; 4])?;
        let crc = crc32c(&header.0);
        let field = header.0.len() - 4;
        header.0[field..].copy_from_slice(&crc.to_be_bytes());
        Ok(header)
    }

    /// With payload behind it, to be sent in one piece.
    pub(crate) fn then(mut self, payload: &[u8]) -> Self {
        self.0.extend(payload);
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn v2_with(command: u8, transport: u8, source: &str, destination: &str) -> TestResult<Self> {
        let (source, destination) = parse(source, destination)?;
        let (family, length) = if source.is_ipv4() {
            (0x1, 12)
        } else {
            (0x2, 36)
        };
        let mut bytes = SIGNATURE.to_vec();
        bytes.push(0x20 | command);
        bytes.push(family << 4 | transport);
        bytes.extend([0, length]);
        for ip in [source.ip(), destination.ip()] {
            match ip {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        for port in [source.port(), destination.port()] {
            bytes.extend(port.to_be_bytes());
        }
        Ok(Self(bytes))
    }
}

/// RFC 4960, Appendix B (Castagnoli's polynomial, reflected), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

fn destination_for(source: &str) -> &'static str {
    if source.starts_with('[') {
        "[2001:db8::443]:443"
    } else {
        "203.0.113.1:443"
    }
}

fn parse(source: &str, destination: &str) -> TestResult<(SocketAddr, SocketAddr)> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse()?, destination.parse()?);
    if source.is_ipv4() != destination.is_ipv4() {
        return Err("a header has addresses of one family".into());
    }
    Ok((source, destination))
}
