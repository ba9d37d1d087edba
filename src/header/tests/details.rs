//! What a log line shows of TLVs, and that nothing in them can be more than text.

use proptest::prelude::*;

use super::*;

/// The details of a header with these TLVs, over TCP.
#[track_caller]
fn details(tlvs: &[u8]) -> Details {
    let length = u16::try_from(12 + tlvs.len()).expect("a length of 16 bits");
    let bytes = [
        &hex("0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A # signature
              21 11                               # version 2, PROXY; INET, STREAM"),
        length.to_be_bytes().as_slice(),
        &hex("CB 00 71 07 C0 00 02 01 DC 04 01 BB # 203.0.113.7:56324 to 192.0.2.1:443"),
        tlvs,
    ]
    .concat();
    Details::of(complete(&bytes, Transport::Stream).0.tlvs)
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a length of 16 bits");
    [&[kind], length.to_be_bytes().as_slice(), value].concat()
}

/// All texts of details, by name.
fn texts(details: &Details) -> Vec<(&'static str, &str)> {
    let texts = [
        ("authority", &details.authority),
        ("alpn", &details.alpn),
        ("unique_id", &details.unique_id),
        ("ssl_version", &details.ssl_version),
        ("ssl_cn", &details.ssl_cn),
        ("aws_vpce_id", &details.aws_vpce_id),
    ];
    let given = texts.into_iter();
    given
        .filter_map(|(name, text)| Some((name, text.as_deref()?)))
        .collect()
}

#[test]
fn every_kind_is_told() {
    let tlvs = hex("02 00 0C                            # AUTHORITY
                    70 6C 61 79 2E 65 78 61 6D 70 6C 65 #   play.example
                    01 00 02 68 32                      # ALPN: h2
                    05 00 03 41 2D 31                   # UNIQUE_ID: A-1
                    20 00 17                            # SSL
                    03                                  #   TLS, with a certificate over this connection
                    00 00 00 00                         #   which is good
                    21 00 07 54 4C 53 76 31 2E 33       #   version: TLSv1.3
                    22 00 05 61 6C 69 63 65             #   common name: alice
                    EA 00 07 01 76 70 63 65 2D 31       # AWS, a VPC endpoint: vpce-1
                    EE 00 05 01 FC 01 00 00             # Azure, LINKID 508, the lowest byte first
                    04 00 02 00 00                      # NOOP
                    30 00 02 6E 73                      # NETNS: ns");
    let want = Details {
        authority: Some("play.example".into()),
        alpn: Some("h2".into()),
        unique_id: Some("A-1".into()),
        ssl_version: Some("TLSv1.3".into()),
        ssl_cn: Some("alice".into()),
        ssl_verified: Some(true),
        aws_vpce_id: Some("vpce-1".into()),
        azure_link_id: Some(508),
    };
    assert_eq!(details(&tlvs), want);
    assert_eq!(details(&[]), Details::default());
}

#[test]
fn a_certificate_is_verified_only_where_there_is_one() {
    for (client, verify, verified) in [
        ("00", "00 00 00 00", None),        // no TLS
        ("06", "00 00 00 00", None),        // nor here, whatever else it says
        ("01", "00 00 00 00", Some(false)), // TLS without a certificate, as HAProxy tells it
        ("01", "FF FF FF FF", Some(false)),
        ("03", "00 00 00 00", Some(true)), // a certificate over this connection
        ("05", "00 00 00 00", Some(true)), // a certificate over another connection of the session
        ("07", "00 00 00 00", Some(true)),
        ("03", "00 00 00 12", Some(false)), // self-signed, as OpenSSL numbers it
        ("07", "01 00 00 00", Some(false)),
    ] {
        let value = hex(&format!("{client} {verify} 22 00 03 62 6F 62"));
        let told = details(&tlv(Tlv::SSL, &value));
        assert_eq!(told.ssl_verified, verified, "{client} {verify}");
        let name = verified.map(|_| "bob");
        assert_eq!(told.ssl_cn.as_deref(), name, "{client} {verify}");
    }
}

#[test]
fn what_cannot_be_is_left_out() {
    for (tlvs, what) in [
        ("20 00 00", "SSL without a value"),
        ("20 00 04 01 00 00 00", "SSL without all of its result"),
        ("EA 00 00", "AWS without a value"),
        ("EA 00 03 02 76 70", "AWS, another subtype"),
        ("EE 00 00", "Azure without a value"),
        ("EE 00 05 02 01 00 00 00", "Azure, another subtype"),
        ("EE 00 04 01 01 00 00", "Azure, a short LINKID"),
        ("EE 00 06 01 01 00 00 00 00", "Azure, a long LINKID"),
    ] {
        assert_eq!(details(&hex(tlvs)), Details::default(), "{what}");
    }
    // What stands before the broken part of an SSL value is told.
    let told = details(&hex(
        "20 00 0E
                             01 00 00 00 00
                             21 00 01 58    # version: X
                             22 00 09 61 62 # a common name that ends behind its end",
    ));
    assert_eq!(texts(&told), [("ssl_version", "X")]);
}

#[test]
fn the_first_of_two_counts() {
    let tlvs = [
        tlv(Tlv::AUTHORITY, b"first"),
        tlv(Tlv::AUTHORITY, b"second"),
        tlv(Tlv::SSL, b"\x01\0\0\0\0\x22\0\x01A\x22\0\x01B"),
        tlv(Tlv::SSL, b"\x03\0\0\0\0\x22\0\x01C\x21\0\x01D"),
        tlv(Tlv::AZURE, b"\x01\x01\0\0\0"),
        tlv(Tlv::AZURE, b"\x01\x02\0\0\0"),
    ]
    .concat();
    let told = details(&tlvs);
    assert_eq!(texts(&told), [("authority", "first"), ("ssl_cn", "A")]);
    assert_eq!(
        (told.ssl_verified, told.azure_link_id),
        (Some(false), Some(1))
    );
}

#[test]
fn hostile_text_is_escaped() {
    for (value, want) in [
        (b"".as_slice(), ""),
        (b"a b", "a b"),
        (b"line\r\nbreak\0", r"line\r\nbreak\x00"),
        (b"\x1b[2J\x07", r"\x1b[2J\x07"),
        (b"\x9b2J", r"\x9b2J"),             // a terminal's CSI in one byte
        (b"\xc2\x9b2J", r"\xc2\x9b2J"),     // and in UTF-8
        (b"\xe2\x80\xae", r"\xe2\x80\xae"), // right-to-left override
        (b"\xff\xfe", r"\xff\xfe"),         // not UTF-8
        (b"M\xc3\xbcller", r"M\xc3\xbcller"),
        (br#"" ssl_verified=true ""#, r#"\" ssl_verified=true \""#),
        (br"back\slash", r"back\\slash"),
        (b"\x7f", r"\x7f"),
    ] {
        let ssl = |kind| [b"\x01\0\0\0\0".as_slice(), &tlv(kind, value)].concat();
        for (name, tlvs) in [
            ("authority", tlv(Tlv::AUTHORITY, value)),
            ("alpn", tlv(Tlv::ALPN, value)),
            ("ssl_version", tlv(Tlv::SSL, &ssl(Tlv::SSL_VERSION))),
            ("ssl_cn", tlv(Tlv::SSL, &ssl(Tlv::SSL_CN))),
            ("aws_vpce_id", tlv(Tlv::AWS, &[b"\x01", value].concat())),
        ] {
            assert_eq!(texts(&details(&tlvs)), [(name, want)]);
        }
    }
}

#[test]
fn a_unique_id_is_text_or_hexadecimal() {
    for (value, want) in [
        (b"".as_slice(), ""),
        (b"C0A80001:1F90_0001", "C0A80001:1F90_0001"),
        (b"with a space", "with a space"),
        (br#"quo"te\"#, r#"quo\"te\\"#),
        (b"\x00\x01\xfe\xff", "0x0001feff"),
        (b"text\n", "0x746578740a"),
        (b"\xc3\xbc", "0xc3bc"),
    ] {
        let told = details(&tlv(Tlv::UNIQUE_ID, value));
        assert_eq!(told.unique_id.as_deref(), Some(want));
    }
    let longest = details(&tlv(Tlv::UNIQUE_ID, &[0xAB; 128]));
    let hex = longest.unique_id.expect("a unique id");
    assert_eq!(hex, format!("0x{}", "ab".repeat(128)));
}

#[test]
fn long_text_is_cut() {
    let whole = "x".repeat(255);
    let told = details(&tlv(Tlv::AUTHORITY, whole.as_bytes()));
    assert_eq!(told.authority, Some(whole.clone()));
    let told = details(&tlv(Tlv::AUTHORITY, &[b'x'; 1000]));
    assert_eq!(told.authority, Some(format!("{whole}... (1000 bytes)")));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_all_text_is_printable_and_short(
        tlvs in prop::collection::vec(
            (
                prop_oneof![
                    prop::sample::select(vec![
                        Tlv::ALPN, Tlv::AUTHORITY, Tlv::UNIQUE_ID, Tlv::SSL, Tlv::NETNS, Tlv::AWS, Tlv::AZURE,
                    ]),
                    any::<u8>().prop_filter("a checksum would be wrong", |&kind| kind != Tlv::CRC32C),
                ],
                prop::collection::vec(any::<u8>(), 0..=128),
                // Half of them with the beginning that an SSL, AWS or Azure value needs.
                any::<bool>(),
            ),
            0..10,
        ),
    ) {
        let bytes: Vec<u8> = tlvs
            .into_iter()
            .flat_map(|(kind, mut value, begun)| {
                if let (true, Some(first)) = (begun, value.first_mut()) {
                    *first = 1;
                }
                tlv(kind, &value)
            })
            .collect();
        let told = details(&bytes);
        for (name, text) in texts(&told) {
            let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            prop_assert!(printable && text.len() <= 4 * 255 + 20, "{}: {:?}", name, text);
        }
    }

    /// As they would be behind the beginning of an SSL value.
    #[test]
    fn no_ssl_value_panics(client in any::<u8>(), within in prop::collection::vec(any::<u8>(), 0..300)) {
        let value = [&[client, 0, 0, 0, 0], within.as_slice()].concat();
        let told = details(&tlv(Tlv::SSL, &value));
        prop_assert_eq!(told.ssl_verified.is_some(), client & 1 == 1);
        for (name, text) in texts(&told) {
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}: {:?}", name, text);
        }
    }
}
