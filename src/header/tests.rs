//! Every form of header there is, every way to break one, and what must hold for any bytes at all.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod checksum;
mod details;
mod properties;
mod spp;
mod tlvs;
mod unchecked;
mod v1;
mod v2;

use std::net::SocketAddr;

use super::*;

/// What every version 2 header begins with.
const SIGNATURE: &str = "0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A";
/// Addresses of version 2.
const INET: &str = "CB 00 71 07 # source 203.0.113.7
                    C0 00 02 01 # destination 192.0.2.1
                    DC 04       # source port 56324
                    01 BB       # destination port 443";

/// Reads commented hex: pairs of digits, and `#` up to the end of a line for a comment.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|char| !char.is_whitespace())
        .map(|char| char.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

fn proxied(source: &str, destination: &str) -> Origin {
    Origin::Proxied {
        source: addr(source),
        destination: addr(destination),
    }
}

/// A version 2 header with its length filled in.
fn v2(version_command: u8, family_transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a length of 16 bits");
    [
        &hex(SIGNATURE),
        [version_command, family_transport].as_slice(),
        &length.to_be_bytes(),
        block,
    ]
    .concat()
}

fn tcp4_with(tlvs: &str) -> Vec<u8> {
    v2(0x21, 0x11, &[hex(INET), hex(tlvs)].concat())
}

/// Decodes what must be a whole header from its first byte to its last, and checks what goes for every valid header:
/// each beginning of it is to be waited for on a stream and refused in a datagram, and what follows is left alone.
#[track_caller]
fn decode_whole(bytes: &[u8], transport: Transport) -> Header<'_> {
    for cut in 0..bytes.len() {
        let beginning = decode(&bytes[..cut], transport);
        match transport {
            Transport::Stream => assert_eq!(beginning, Ok(Decoded::Partial), "cut at {cut}"),
            Transport::Datagram if cut < 12 => {
                assert_eq!(beginning, Err(HeaderError::Missing), "cut at {cut}");
            }
            Transport::Datagram => {
                assert_eq!(beginning, Err(HeaderError::Truncated), "cut at {cut}");
            }
        }
    }

    for payload in [
        b"hello".as_slice(),
        b"\r\n",
        b"\0",
        b"PROXY UNKNOWN\r\n",
        bytes,
    ] {
        let followed = [bytes, payload].concat();
        let (header, consumed) = complete(&followed, transport);
        assert_eq!(consumed, bytes.len());
        assert_eq!(header, complete(bytes, transport).0);
    }

    let (header, consumed) = complete(bytes, transport);
    assert_eq!(consumed, bytes.len());
    header
}

/// Decodes and checks: what is found in either step is the same to most tests.
fn decode(bytes: &[u8], transport: Transport) -> Result<Decoded<Header<'_>>, HeaderError> {
    super::decode(bytes, transport)?.check()
}

#[track_caller]
fn complete(bytes: &[u8], transport: Transport) -> (Header<'_>, usize) {
    match decode(bytes, transport) {
        Ok(Decoded::Complete { header, consumed }) => (header, consumed),
        other => panic!("{other:?} from {}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn refused(bytes: &[u8], transport: Transport) -> HeaderError {
    match decode(bytes, transport) {
        Err(error) => error,
        Ok(decoded) => panic!("{decoded:?} from {}", bytes.escape_ascii()),
    }
}

#[test]
fn an_empty_stream_is_partial_and_an_empty_datagram_has_no_header() {
    assert_eq!(decode(b"", Transport::Stream), Ok(Decoded::Partial));
    assert_eq!(refused(b"", Transport::Datagram), HeaderError::Missing);
}

#[test]
fn a_stream_that_cannot_begin_a_header_is_refused_at_its_first_wrong_byte() {
    for bytes in [
        b"G".as_slice(),
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 ",
        b"PROXX",
        b"PROXY\t",
        b"PROXY\r",
        b" PROXY",
        b"\0",
        b"\n",
        b"\r\n\r\nG",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\n\0\r\nQUIT ............",
        b"\x16\x03\x01\x02\x00",
    ] {
        assert_eq!(refused(bytes, Transport::Stream), HeaderError::Missing);
    }
}

#[test]
fn a_datagram_without_a_signature_has_no_header() {
    for bytes in [
        b"G".as_slice(),
        b"\xFF\xFF\xFF\xFFTSource Engine Query\0",
        b"\r\n",
        b"\r\n\r\n\0\r\nQUIT",
        b"PROXY",
        b"\r\n\r\n\0\r\nQUIT ............",
    ] {
        assert_eq!(refused(bytes, Transport::Datagram), HeaderError::Missing);
    }
}

#[test]
fn every_error_is_one_line_under_a_listed_label() {
    let errors = [
        HeaderError::Missing,
        HeaderError::V1OnDatagram,
        HeaderError::Truncated,
        HeaderError::TooLong { announced: 9000 },
        HeaderError::V1LineTooLong,
        HeaderError::V1Protocol,
        HeaderError::V1Address,
        HeaderError::V1Port,
        HeaderError::V1LineEnd,
        HeaderError::V2Version(1),
        HeaderError::V2Command(2),
        HeaderError::V2Family(4),
        HeaderError::V2Transport(3),
        HeaderError::V2NoAddress,
        HeaderError::DatagramOnStream,
        HeaderError::StreamOnDatagram,
        HeaderError::V2TooShort {
            announced: 11,
            needed: 12,
        },
        HeaderError::TlvsMalformed,
        HeaderError::CrcLength(3),
        HeaderError::CrcMismatch {
            announced: 1,
            computed: 2,
        },
        HeaderError::CrcMissing,
        HeaderError::UniqueIdTooLong(129),
        HeaderError::LooksLikeSpp,
        HeaderError::SppMissing,
        HeaderError::SppTruncated,
        HeaderError::V2InsteadOfSpp,
    ];
    assert_eq!(errors.map(HeaderError::kind), HeaderError::KINDS);
    assert_eq!(
        HeaderError::CrcTwice.kind(),
        HeaderError::CrcLength(3).kind()
    );

    for error in errors.into_iter().chain([HeaderError::CrcTwice]) {
        let line = error.to_string();
        assert!(
            line.to_uppercase().contains("PROXY") && !line.contains('\n') && line.len() <= 120,
            "{line}"
        );
    }
    assert_eq!(
        HeaderError::Missing.to_string(),
        "no PROXY header: is the sender configured with send-proxy?"
    );
}
