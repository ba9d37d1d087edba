//! Simple Proxy Protocol.

use super::*;
use crate::header::spp::{self, LEN};

const V4: &str = "56 EC                                           # magic number
                  00 00 00 00 00 00 00 00 00 00 FF FF CB 00 71 07 # client ::ffff:203.0.113.7
                  00 00 00 00 00 00 00 00 00 00 FF FF C0 00 02 01 # proxy ::ffff:192.0.2.1
                  DC 04                                           # client port 56324
                  69 87                                           # proxy port 27015";
const V6: &str = "56 EC                                           # magic number
                  20 01 0D B8 00 01 00 02 00 03 00 04 00 05 00 06 # client 2001:db8:1:2:3:4:5:6
                  20 01 0D B8 00 00 00 00 00 00 00 00 00 00 00 10 # proxy 2001:db8::10
                  DC 04                                           # client port 56324
                  69 87                                           # proxy port 27015";

#[test]
fn ipv4_addresses_come_mapped_and_are_told_as_ipv4() {
    let bytes = hex(V4);
    let header = spp::decode(&bytes).expect("a header");
    assert_eq!(header.source, addr("203.0.113.7:56324"));
    assert_eq!(header.destination, addr("192.0.2.1:27015"));
    assert_eq!(header.bytes.as_slice(), bytes);
}

#[test]
fn ipv6_addresses() {
    let bytes = hex(V6);
    let header = spp::decode(&bytes).expect("a header");
    assert_eq!(header.source, addr("[2001:db8:1:2:3:4:5:6]:56324"));
    assert_eq!(header.destination, addr("[2001:db8::10]:27015"));
}

#[test]
fn what_follows_is_payload_whatever_it_is() {
    let bytes = hex(V4);
    let alone = spp::decode(&bytes).expect("a header");
    for payload in [b"".as_slice(), b"hello", b"\x56\xEC", &bytes] {
        let followed = [&bytes, payload].concat();
        assert_eq!(spp::decode(&followed), Ok(alone));
    }
}

#[test]
fn every_truncation_is_refused() {
    for whole in [V4, V6] {
        let whole = hex(whole);
        assert_eq!(whole.len(), LEN);
        for cut in 0..LEN {
            let error = match cut {
                0 | 1 => HeaderError::SppMissing,
                _ => HeaderError::SppTruncated,
            };
            assert_eq!(spp::decode(&whole[..cut]), Err(error), "cut at {cut}");
        }
    }
}

#[test]
fn another_magic_number_is_no_header() {
    for at in 0..2 {
        for bit in 0..8 {
            let mut bytes = hex(V4);
            bytes[at] ^= 1 << bit;
            assert_eq!(spp::decode(&bytes), Err(HeaderError::SppMissing));
        }
    }
}

/// Whoever mixes the formats up is told which one came.
#[test]
fn each_format_is_recognised_where_the_other_is_expected() {
    let v2 = hex(
        "0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A 21 12 00 0C # version 2, PROXY, INET, DGRAM
                  CB 00 71 07 C0 00 02 01 DC 04 69 87             # addresses and ports",
    );
    for cut in [12, 16, v2.len()] {
        let error = Err(HeaderError::V2InsteadOfSpp);
        assert_eq!(spp::decode(&v2[..cut]), error, "cut at {cut}");
    }
    let followed = [v2, vec![0; 100]].concat();
    assert_eq!(spp::decode(&followed), Err(HeaderError::V2InsteadOfSpp));

    let spp = hex(V4);
    assert_eq!(
        refused(&spp, Transport::Datagram),
        HeaderError::LooksLikeSpp
    );
    // Two bytes may be anything.
    assert_eq!(
        refused(&spp[..37], Transport::Datagram),
        HeaderError::Missing
    );
    assert_eq!(refused(&spp, Transport::Stream), HeaderError::Missing);
}
