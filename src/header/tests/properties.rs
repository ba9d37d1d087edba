//! What must hold for any bytes at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::header::spp;

fn transports() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Stream), Just(Transport::Datagram)]
}

/// Bytes that get past the signature often enough to try what comes behind it.
fn nearly_headers() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = prop_oneof![
        Just(b"".to_vec()),
        Just(b"PROXY ".to_vec()),
        Just(b"PROXY TCP4 1.2.3.4 ".to_vec()),
        Just(b"PROXY TCP6 1::2 ".to_vec()),
        Just(b"PROXY UNKNOWN".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x20............\x03\x00\x04".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00".to_vec()),
    ];
    (beginnings, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(start, rest)| [start, rest].concat())
}

/// Strings that are nearly IPv6 addresses.
fn nearly_ipv6() -> impl Strategy<Value = String> {
    let groups = prop::collection::vec("[0-9a-fA-F]{0,5}|[0-9]{1,3}", 1..10);
    prop_oneof![
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).to_string()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_ipv6_mapped().to_string()),
        groups.prop_map(|groups| groups.join(":")),
        "[0-9a-f:]{2,20}(:[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3})?",
    ]
}

fn v2_line(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let fixed = if source.is_ipv4() {
        b"\x21\x11\x00\x0C"
    } else {
        b"\x21\x21\x00\x24"
    };
    [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        fixed,
        &octets(source.ip()),
        &octets(destination.ip()),
        &source.port().to_be_bytes(),
        &destination.port().to_be_bytes(),
    ]
    .concat()
}

fn v1_line(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source_ip, destination_ip) = (source.ip(), destination.ip());
    let (source_port, destination_port) = (source.port(), destination.port());
    format!("PROXY {family} {source_ip} {destination_ip} {source_port} {destination_port}\r\n")
        .into_bytes()
}

/// Pairs of addresses of one family.
fn pairs() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 =
        any::<(u32, u16)>().prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port));
    let v6 = any::<(u128, u16, u128)>().prop_map(|(ip, port, holes)| {
        // Holes make runs of zeros, which are what is written in more than one way.
        SocketAddr::new(
            Ipv6Addr::from(ip & holes & holes.rotate_left(1)).into(),
            port,
        )
    });
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic_and_within_bounds(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), nearly_headers()],
        transport in transports(),
    ) {
        match decode(&bytes, transport) {
            Ok(Decoded::Complete { header, consumed }) => {
                prop_assert!(consumed <= bytes.len() && consumed <= LEN_MAX);
                let tlvs_len: usize = header.tlvs.iter().map(|tlv| 3 + tlv.value.len()).sum();
                prop_assert!(tlvs_len < consumed);
            }
            Ok(Decoded::Partial) => prop_assert!(transport == Transport::Stream && bytes.len() < LEN_MAX),
            Err(error) => prop_assert!(HeaderError::KINDS.contains(&error.kind())),
        }
    }

    #[test]
    fn more_bytes_never_change_what_was_decided(
        bytes in nearly_headers(),
        more in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let decided = decode(&bytes, Transport::Stream);
        let longer = [bytes.clone(), more].concat();
        if decided != Ok(Decoded::Partial) {
            prop_assert_eq!(decode(&longer, Transport::Stream), decided);
        }
    }

    #[test]
    fn versions_1_and_2_agree((source, destination) in pairs()) {
        let (v1, v2) = (v1_line(source, destination), v2_line(source, destination));
        let v1 = decode_whole(&v1, Transport::Stream);
        let v2 = decode_whole(&v2, Transport::Stream);
        prop_assert_eq!(v1.origin(), Origin::Proxied { source, destination });
        prop_assert_eq!(v2.origin(), v1.origin());
        prop_assert_eq!((v1.version, v2.version), (Version::V1, Version::V2));
    }

    #[test]
    fn simple_proxy_protocol_is_read_as_it_is_written(
        (source, destination) in pairs(),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let octets = |addr: SocketAddr| match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let bytes = [
            b"\x56\xEC".as_slice(),
            &octets(source),
            &octets(destination),
            &source.port().to_be_bytes(),
            &destination.port().to_be_bytes(),
            &payload,
        ]
        .concat();
        let header = spp::decode(&bytes).expect("a header");
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        prop_assert_eq!(header.source, canonical(source));
        prop_assert_eq!(header.destination, canonical(destination));
        prop_assert_eq!(header.bytes.as_slice(), &bytes[..spp::LEN]);
    }

    #[test]
    fn any_bytes_are_simple_proxy_protocol_only_with_its_magic_number(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(|rest| [b"\x56\xEC".to_vec(), rest].concat()),
            nearly_headers(),
        ],
    ) {
        match spp::decode(&bytes) {
            Ok(header) => prop_assert!(bytes.starts_with(b"\x56\xEC") && bytes.starts_with(header.bytes)),
            Err(error) => {
                prop_assert!(HeaderError::KINDS.contains(&error.kind()));
                prop_assert!(!bytes.starts_with(b"\x56\xEC") || bytes.len() < spp::LEN);
            }
        }
    }

    #[test]
    fn addresses_are_read_as_the_standard_library_reads_them(
        ip in prop_oneof![nearly_ipv6(), "[0-9.]{1,16}", "([0-9]{1,3}\\.){3}[0-9]{1,3}"],
    ) {
        let decoded_as = |family: &str, other: &str| {
            let line = format!("PROXY {family} {ip} {other} 1 2\r\n");
            match decode(line.as_bytes(), Transport::Stream) {
                Ok(Decoded::Complete { header, .. }) => match header.origin() {
                    Origin::Proxied { source, .. } => Some(source.ip()),
                    Origin::Local => None,
                },
                _ => None,
            }
        };
        prop_assert_eq!(decoded_as("TCP4", "0.0.0.0"), ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4));
        prop_assert_eq!(decoded_as("TCP6", "::"), ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6));
    }

    #[test]
    fn other_parsers_read_valid_headers_alike((source, destination) in pairs()) {
        let v1 = v1_line(source, destination);
        let theirs = ppp::v1::Header::try_from(v1.as_slice()).expect("a valid header").addresses;
        prop_assert_eq!(theirs, ppp::v1::Addresses::from((source, destination)));
        let v2 = v2_line(source, destination);
        let theirs = ppp::v2::Header::try_from(v2.as_slice()).expect("a valid header").addresses;
        prop_assert_eq!(theirs, ppp::v2::Addresses::from((source, destination)));
    }
}
