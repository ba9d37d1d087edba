//! What is known of a header before it is checked.

use super::*;

#[track_caller]
fn unchecked(bytes: &[u8]) -> Unchecked<'_> {
    match crate::header::decode(bytes, Transport::Stream) {
        Ok(Decoded::Complete { header, consumed }) => {
            assert_eq!(consumed, bytes.len());
            header
        }
        other => panic!("{other:?} from {}", bytes.escape_ascii()),
    }
}

/// Whether TLVs are in order is found by the check, and by nothing before it.
#[test]
fn what_tlvs_are_wrong_the_check_tells() {
    let unique_id = format!("05 00 81 {}", "78".repeat(129));
    for (tlvs, kind) in [
        ("04 00", "tlvs_malformed"),
        ("04 00 01", "tlvs_malformed"),
        ("04 00 00 02 FF FF", "tlvs_malformed"),
        (&unique_id, "unique_id_too_long"),
        ("04 00 00 03 00 03 00 00 00", "crc_malformed"),
        ("03 00 04 01 02 03 04 04 00 00", "crc_mismatch"),
        // Framing comes before the checksum.
        ("03 00 04 01 02 03 04 04 00 01", "tlvs_malformed"),
    ] {
        let bytes = tcp4_with(tlvs);
        let header = unchecked(&bytes);
        assert_eq!(header.claimed_source(), Some(addr("203.0.113.7:56324")));
        assert_eq!(header.check().map_err(HeaderError::kind), Err(kind));
    }
}

#[test]
fn a_header_without_a_client_claims_none() {
    for bytes in [
        b"PROXY UNKNOWN\r\n".as_slice(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0C\xCB\0\x71\x07\xC0\0\x02\x01\xDC\x04\x01\xBB",
    ] {
        let header = unchecked(bytes);
        assert_eq!(header.claimed_source(), None);
        assert_eq!(
            header.check().map(|header| header.origin()),
            Ok(Origin::Local)
        );
    }
}

/// Lengths of one byte are read in another way than those of two.
#[test]
fn a_header_of_any_length_tells_the_same() {
    for padding_len in (0..600).chain([4096, LEN_MAX - 16 - 12 - 3]) {
        let padding = vec![0x5A; padding_len];
        let len = u16::try_from(padding_len).expect("a length of 16 bits");
        let noop = [[Tlv::NOOP].as_slice(), &len.to_be_bytes(), &padding].concat();
        let bytes = v2(0x21, 0x11, &[hex(INET), noop].concat());
        let header = unchecked(&bytes);
        assert_eq!(header.claimed_source(), Some(addr("203.0.113.7:56324")));
        let header = header.check().expect("a valid header");
        assert_eq!(
            header.origin(),
            proxied("203.0.113.7:56324", "192.0.2.1:443")
        );
        let tlvs: Vec<_> = header.tlvs.iter().collect();
        assert_eq!(
            tlvs,
            [Tlv {
                kind: Tlv::NOOP,
                value: &padding
            }]
        );

        for cut in [1, padding_len + 3] {
            let beginning = crate::header::decode(&bytes[..bytes.len() - cut], Transport::Stream);
            assert_eq!(beginning, Ok(Decoded::Partial));
        }
        let datagram = crate::header::decode(&bytes, Transport::Datagram);
        assert_eq!(datagram, Err(HeaderError::StreamOnDatagram));
    }
}
