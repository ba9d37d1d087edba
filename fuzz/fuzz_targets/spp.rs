//! Any bytes as a datagram with a Simple Proxy Protocol header. What holds:
//!
//! - There is no panic. What has the magic number and 38 bytes is a header, and nothing else is.
//! - What is decoded, written again, is the header as it came: replies carry it back byte for byte.
//! - Addresses are told as IPv4 where they are v4-mapped, so no v4-mapped address is told.
//! - Bytes behind the header are not looked at, and a datagram cut within it has none.
//! - What is refused is refused by what it looks like, in one line of printable ASCII, with a label that counters know.

#![cfg_attr(not(test), no_main)]

use std::net::{IpAddr, SocketAddr};

use glommproxy::header::{HeaderError, spp};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

const MAGIC: &[u8] = &[0x56, 0xEC];
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

pub(crate) fn check(data: &[u8]) {
    check_datagram(data);
    // The magic number is two bytes of luck: behind it, the same bytes are nearly always a header.
    check_datagram(&[MAGIC, data].concat());
}

fn check_datagram(data: &[u8]) {
    let is_header = data.starts_with(MAGIC) && data.len() >= spp::LEN;
    match spp::decode(data) {
        Ok(header) => {
            assert!(is_header);
            assert_eq!(header.bytes.as_slice(), &data[..spp::LEN]);
            assert_eq!(encode(header.source, header.destination), data[..spp::LEN]);
            for addr in [header.source, header.destination] {
                assert_eq!(addr.ip(), addr.ip().to_canonical());
            }
            assert_eq!(spp::decode(&data[..spp::LEN]), Ok(header));
            for cut in MAGIC.len()..spp::LEN {
                let refused = spp::decode(&data[..cut]);
                assert_eq!(refused, Err(HeaderError::SppTruncated));
            }
        }
        Err(error) => {
            assert!(!is_header);
            let expected = if data.starts_with(MAGIC) {
                HeaderError::SppTruncated
            } else if data.starts_with(V2_SIGNATURE) {
                HeaderError::V2InsteadOfSpp
            } else {
                HeaderError::SppMissing
            };
            assert_eq!(error, expected);
            assert!(HeaderError::KINDS.contains(&error.kind()));
            let message = error.to_string();
            assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
}

/// The header that names these addresses, as Cloudflare describes it.
fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let port = |addr: SocketAddr| addr.port().to_be_bytes();
    [
        MAGIC,
        &octets(source),
        &octets(destination),
        &port(source),
        &port(destination),
    ]
    .concat()
}
