//! The TLVs of version 2, but for the checksum.

use super::*;

#[test]
fn tlvs_are_given_in_order() {
    let bytes = tcp4_with(
        "01 00 02 68 32                   # ALPN h2
         02 00 0C 70 6C 61 79 2E 65 78 61 6D 70 6C 65 # AUTHORITY play.example
         04 00 00                         # NOOP, empty
         05 00 03 0A 22 FF                # UNIQUE_ID
         20 00 05 01 00 00 00 00          # SSL: client, verify
         30 00 01 78                      # NETNS x
         EA 00 02 01 76                   # AWS
         EE 00 01 01                      # Azure
         E0 00 01 00                      # an application's own",
    );
    let header = decode_whole(&bytes, Transport::Stream);
    let printed: Vec<String> = header.tlvs.iter().map(|tlv| tlv.to_string()).collect();
    assert_eq!(
        printed,
        [
            r#"ALPN="h2""#,
            r#"AUTHORITY="play.example""#,
            r#"NOOP="""#,
            r#"UNIQUE_ID="\n\"\xff""#,
            r#"SSL="\x01\x00\x00\x00\x00""#,
            r#"NETNS="x""#,
            r#"AWS="\x01v""#,
            r#"AZURE="\x01""#,
            r#"0xE0="\x00""#,
        ]
    );
    assert!(!header.tlvs.is_empty());
    assert_eq!(header.tlvs.into_iter().count(), 9);
}

#[test]
fn tlvs_must_fill_the_header() {
    for tlvs in [
        "04",
        "04 00",
        "04 00 01",
        "04 00 00 04",
        "04 FF FF 00",
        "04 00 01 00 04 00 02 00",
        "03 00 04 00 00 00",
        "00",
    ] {
        assert_eq!(
            refused(&tcp4_with(tlvs), Transport::Stream),
            HeaderError::TlvsMalformed,
            "{tlvs}"
        );
    }
    // The same bytes as above, but the value's last ones would be the payload's.
    let followed = [tcp4_with("04 00 02 00"), b"payload".to_vec()].concat();
    assert_eq!(
        refused(&followed, Transport::Stream),
        HeaderError::TlvsMalformed
    );
}

#[test]
fn a_unique_id_has_128_bytes_at_most() {
    let id = |len: usize| {
        let value = vec![b'x'; len];
        v2(
            0x21,
            0x11,
            &[hex(INET), vec![Tlv::UNIQUE_ID, 0, len as u8], value].concat(),
        )
    };
    assert_eq!(
        decode_whole(&id(128), Transport::Stream)
            .tlvs
            .iter()
            .count(),
        1
    );
    assert_eq!(
        refused(&id(129), Transport::Stream),
        HeaderError::UniqueIdTooLong(129)
    );
}
