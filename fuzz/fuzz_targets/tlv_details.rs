//! Any bytes as the TLVs of a header, and what a log line shows of them. What holds:
//!
//! - All that is shown is printable ASCII: no line end, nothing that steers a terminal, no quote that is not escaped.
//! - It is of a bounded length, whatever the length of the value.
//! - Of the types that are shown, one is shown if and only if there is one whose value can be what its type says.
//! - A single TLV, printed, is printable ASCII too.

#![cfg_attr(not(test), no_main)]

use glommproxy::header::{Decoded, Details, LEN_MAX, Tlv, Transport, decode};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

/// 255 bytes, each escaped as `\x00`, and the length of what is cut: "... (8192 bytes)".
const SHOWN_LEN_MAX: usize = 255 * 4 + 20;

/// A header of TCP over IPv4 without its length.
const BEGINNING: &[u8; 14] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11";
const ADDRESSES: &[u8; 12] = &[192, 0, 2, 1, 198, 51, 100, 1, 0xC0, 0x01, 0x01, 0xBB];

pub(crate) fn check(data: &[u8]) {
    let tlvs = &data[..data.len().min(LEN_MAX - 16 - ADDRESSES.len())];
    let len = u16::try_from(ADDRESSES.len() + tlvs.len()).expect("below LEN_MAX");
    let bytes = [BEGINNING, len.to_be_bytes().as_slice(), ADDRESSES, tlvs].concat();
    let Ok(Decoded::Complete { header, .. }) = decode(&bytes, Transport::Stream) else {
        panic!("TLVs are not looked at yet");
    };
    let Ok(header) = header.check() else {
        return;
    };

    let details = Details::of(header.tlvs);
    let texts = [
        &details.authority,
        &details.alpn,
        &details.unique_id,
        &details.ssl_version,
        &details.ssl_cn,
        &details.aws_vpce_id,
    ];
    for text in texts.into_iter().flatten() {
        check_text(text);
        assert!(text.len() <= SHOWN_LEN_MAX);
    }

    let has = |kind| header.tlvs.iter().any(|tlv| tlv.kind == kind);
    assert_eq!(details.authority.is_some(), has(Tlv::AUTHORITY));
    assert_eq!(details.alpn.is_some(), has(Tlv::ALPN));
    assert_eq!(details.unique_id.is_some(), has(Tlv::UNIQUE_ID));
    let named = |kind, holds: fn(&[u8]) -> bool| {
        header
            .tlvs
            .iter()
            .any(|tlv| tlv.kind == kind && holds(tlv.value))
    };
    let spoke_tls = named(Tlv::SSL, |value| value.len() >= 5 && value[0] & 1 == 1);
    assert_eq!(details.ssl_verified.is_some(), spoke_tls);
    assert!(spoke_tls || details.ssl_version.is_none() && details.ssl_cn.is_none());
    let vpc_endpoint = named(Tlv::AWS, |value| value.first() == Some(&Tlv::AWS_VPCE_ID));
    assert_eq!(details.aws_vpce_id.is_some(), vpc_endpoint);
    let private_link = named(Tlv::AZURE, |value| {
        value.len() == 5 && value[0] == Tlv::AZURE_LINK_ID
    });
    assert_eq!(details.azure_link_id.is_some(), private_link);

    for tlv in header.tlvs {
        let shown = tlv.to_string();
        let (_, quoted) = shown.split_once("=\"").expect("a name and a value");
        check_text(quoted.strip_suffix('"').expect("a quoted value"));
    }
}

/// Text fit to stand between double quotes in a log line.
fn check_text(text: &str) {
    let mut escaped = false;
    for byte in text.bytes() {
        assert!(matches!(byte, b' '..=b'~'), "{text:?}");
        assert!(byte != b'"' || escaped, "{text:?}");
        escaped = byte == b'\\' && !escaped;
    }
    assert!(!escaped, "{text:?}");
}
