//! The checksum of version 2.

use super::*;

/// RFC 4960, Appendix B (Castagnoli's polynomial, reflected), bit by bit: another one than the code under test uses.
fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

/// Puts the right checksum into the four zeros at `at`.
fn with_crc(mut header: Vec<u8>, at: usize) -> Vec<u8> {
    assert_eq!(header[at..at + 4], [0; 4]);
    let crc = crc32c_bitwise(&header);
    header[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    header
}

#[test]
fn a_checksum_behind_local_is_verified() {
    let bytes = with_crc(v2(0x20, 0x00, &hex("03 00 04 00 00 00 00")), 19);
    let header = decode_whole(&bytes, Transport::Stream);
    assert_eq!(header.origin(), Origin::Local);
    assert_eq!(
        header.tlvs.iter().map(|tlv| tlv.kind).collect::<Vec<_>>(),
        [Tlv::CRC32C]
    );

    let mut corrupted = bytes.clone();
    corrupted[19] ^= 1;
    assert_eq!(
        refused(&corrupted, Transport::Stream).kind(),
        "crc_mismatch"
    );

    // With another family the same block is no list of TLVs any more, so there is no checksum to be found in it.
    let mut of_inet = bytes;
    of_inet[13] = 0x11;
    assert!(decode_whole(&of_inet, Transport::Stream).tlvs.is_empty());
}

#[test]
fn the_test_knows_the_checksum() {
    // The check value of CRC-32C, and RFC 3720, section B.4: 32 bytes of zeros, 32 bytes of ones.
    assert_eq!(crc32c_bitwise(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c_bitwise(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c_bitwise(&[0xFF; 32]), 0x62A8_AB43);
}

/// The TLVs are those of an AWS network load balancer behind a VPC endpoint, 84 bytes of them.
#[test]
fn a_checksum_of_the_whole_header_is_verified_wherever_it_stands() {
    let endpoint = "EA 00 17 01 # AWS, a VPC endpoint: vpce-0123456789abcdef0
                    76 70 63 65 2D 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 30";
    let padding = format!("04 00 30 {}", "00 ".repeat(48));
    let crc = "03 00 04 00 00 00 00";
    let first = with_crc(
        tcp4_with(&[crc, "\n", endpoint, "\n", &padding].concat()),
        31,
    );
    let last = with_crc(tcp4_with(&[endpoint, "\n", &padding, crc].concat()), 108);
    assert_eq!(first.len(), 16 + 12 + 84);

    for bytes in [first, last] {
        let header = decode_whole(&bytes, Transport::Stream);
        assert_eq!(
            header.origin(),
            proxied("203.0.113.7:56324", "192.0.2.1:443")
        );
        assert_eq!(header.tlvs.iter().count(), 3);

        // No turned bit behind the fixed part goes unnoticed, but for one that hides the checksum itself.
        for bit in 16 * 8..bytes.len() * 8 {
            let mut corrupted = bytes.clone();
            corrupted[bit / 8] ^= 1 << (bit % 8);
            match decode(&corrupted, Transport::Stream) {
                Ok(Decoded::Complete { header, .. }) => {
                    assert!(
                        header.tlvs.iter().all(|tlv| tlv.kind != Tlv::CRC32C),
                        "bit {bit}"
                    );
                }
                decoded => assert!(decoded.is_err(), "bit {bit}: {decoded:?}"),
            }
        }
    }
}

/// Short and long headers are summed up in different ways.
#[test]
fn a_checksum_is_verified_in_a_header_of_any_length() {
    for padding_len in (0..300).chain([4000, LEN_MAX - 16 - 12 - 7 - 3]) {
        let padding = [
            &[Tlv::NOOP],
            (padding_len as u16).to_be_bytes().as_slice(),
            &vec![b'x'; padding_len],
        ]
        .concat();
        let crc = hex("03 00 04 00 00 00 00");
        let first = with_crc(
            v2(
                0x21,
                0x11,
                &[hex(INET), crc.clone(), padding.clone()].concat(),
            ),
            31,
        );
        let last_at = 16 + 12 + padding.len() + 3;
        let last = with_crc(v2(0x21, 0x11, &[hex(INET), padding, crc].concat()), last_at);

        for mut bytes in [first, last] {
            assert_eq!(complete(&bytes, Transport::Stream).1, bytes.len());
            bytes[16] ^= 1;
            assert_eq!(
                refused(&bytes, Transport::Stream).kind(),
                "crc_mismatch",
                "{padding_len}"
            );
        }
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let right = with_crc(tcp4_with("03 00 04 00 00 00 00"), 31);
    let computed = u32::from_be_bytes(right[31..35].try_into().expect("four bytes"));
    let mut wrong = right.clone();
    wrong[34] ^= 1;
    assert_eq!(
        refused(&wrong, Transport::Stream),
        HeaderError::CrcMismatch {
            announced: computed ^ 1,
            computed
        }
    );
    // The payload is no part of it.
    let followed = [right, b"payload".to_vec()].concat();
    assert_eq!(complete(&followed, Transport::Stream).1, 35);
}

#[test]
fn a_malformed_checksum_is_refused() {
    assert_eq!(
        refused(&tcp4_with("03 00 00"), Transport::Stream),
        HeaderError::CrcLength(0)
    );
    assert_eq!(
        refused(&tcp4_with("03 00 03 00 00 00"), Transport::Stream),
        HeaderError::CrcLength(3)
    );
    assert_eq!(
        refused(&tcp4_with("03 00 05 00 00 00 00 00"), Transport::Stream),
        HeaderError::CrcLength(5)
    );
    let twice = with_crc(tcp4_with("03 00 04 00 00 00 00 03 00 04 00 00 00 00"), 31);
    assert_eq!(refused(&twice, Transport::Stream), HeaderError::CrcTwice);
}
