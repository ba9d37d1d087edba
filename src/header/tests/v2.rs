//! Version 2: the binary format.

use super::*;

const SIGNATURE: &str = "0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A";
const INET: &str = "CB 00 71 07 # source 203.0.113.7
                    C0 00 02 01 # destination 192.0.2.1
                    DC 04       # source port 56324
                    01 BB       # destination port 443";

/// A header with its length filled in.
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
fn tcp_over_ipv4() {
    let bytes = hex("0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A # signature
                     21          # version 2, PROXY
                     11          # INET, STREAM
                     00 0C       # length 12
                     CB 00 71 07 # source 203.0.113.7
                     C0 00 02 01 # destination 192.0.2.1
                     DC 04       # source port 56324
                     01 BB       # destination port 443");
    let header = decode_whole(&bytes, Transport::Stream);
    assert_eq!(header.version, Version::V2);
    assert_eq!(header.origin, proxied("203.0.113.7:56324", "192.0.2.1:443"));
    assert!(header.tlvs.is_empty());
}

#[test]
fn udp_over_ipv4() {
    let bytes = hex("0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A # signature
                     21          # version 2, PROXY
                     12          # INET, DGRAM
                     00 0C       # length 12
                     CB 00 71 07 # source 203.0.113.7
                     C0 00 02 01 # destination 192.0.2.1
                     DC 04       # source port 56324
                     69 87       # destination port 27015");
    let header = decode_whole(&bytes, Transport::Datagram);
    assert_eq!(
        header.origin,
        proxied("203.0.113.7:56324", "192.0.2.1:27015")
    );
}

#[test]
fn tcp_and_udp_over_ipv6() {
    for (family_transport, transport) in [(0x21, Transport::Stream), (0x22, Transport::Datagram)] {
        let bytes = v2(
            0x21,
            family_transport,
            &hex(
                "20 01 0D B8 00 01 00 02 00 03 00 04 00 05 00 06 # source 2001:db8:1:2:3:4:5:6
                  20 01 0D B8 00 00 00 00 00 00 00 00 00 00 00 10 # destination 2001:db8::10
                  DC 04                                           # source port 56324
                  69 87                                           # destination port 27015",
            ),
        );
        let header = decode_whole(&bytes, transport);
        assert_eq!(
            header.origin,
            proxied("[2001:db8:1:2:3:4:5:6]:56324", "[2001:db8::10]:27015")
        );
    }
}

#[test]
fn a_mapped_source_is_told_as_it_was_sent() {
    let bytes = v2(
        0x21,
        0x21,
        &hex(
            "00 00 00 00 00 00 00 00 00 00 FF FF CB 00 71 07 # source ::ffff:203.0.113.7
              20 01 0D B8 00 00 00 00 00 00 00 00 00 00 00 10 # destination 2001:db8::10
              DC 04 69 87                                     # ports 56324 and 27015",
        ),
    );
    let header = decode_whole(&bytes, Transport::Stream);
    assert_eq!(
        header.origin,
        proxied("[::ffff:203.0.113.7]:56324", "[2001:db8::10]:27015")
    );
}

#[test]
fn local_is_local_whatever_its_block_says() {
    for (family_transport, block) in [
        (0x00, ""),
        (
            0x00,
            "00 00 00 00 00 00 00 00 00 00 00 00 # addresses where none belong",
        ),
        (0x00, "FF # less than a TLV"),
        (0x11, INET),
        (0x11, "CB 00 # less than its family's addresses"),
        (0x12, INET),
        (0x22, ""),
        (0x31, ""),
        (0xFF, "01 02 03 # an unassigned family"),
    ] {
        let bytes = v2(0x20, family_transport, &hex(block));
        for transport in [Transport::Stream, Transport::Datagram] {
            let header = decode_whole(&bytes, transport);
            assert_eq!(
                (header.version, header.origin),
                (Version::V2, Origin::Local)
            );
        }
    }
}

#[test]
fn a_checksum_behind_local_is_verified() {
    let bytes = with_crc(v2(0x20, 0x00, &hex("03 00 04 00 00 00 00")), 19);
    let header = decode_whole(&bytes, Transport::Stream);
    assert_eq!(header.origin, Origin::Local);
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

/// Guards the choice of the module's documentation: such a client must not pass for our own host.
#[test]
fn a_client_without_an_address_is_refused() {
    let paths = [b'/'; 216];
    for (family_transport, block) in [
        (0x00, [].as_slice()),
        (0x00, &hex(INET)),
        (0x01, &[]),
        (0x02, &[]),
        (0x10, &hex(INET)),
        (0x20, &[0; 36]),
        (0x30, &paths),
        (0x31, &paths),
        (0x32, &paths),
    ] {
        for transport in [Transport::Stream, Transport::Datagram] {
            let bytes = v2(0x21, family_transport, block);
            assert_eq!(
                refused(&bytes, transport),
                HeaderError::V2NoAddress,
                "{family_transport:02X}"
            );
        }
    }
}

#[test]
fn the_transport_must_be_the_one_it_came_by() {
    for (family_transport, block) in [(0x11, [0; 12].as_slice()), (0x21, &[0; 36])] {
        let stream = v2(0x21, family_transport, block);
        assert_eq!(
            refused(&stream, Transport::Datagram),
            HeaderError::StreamOnDatagram
        );
        let datagram = v2(0x21, family_transport + 1, block);
        assert_eq!(
            refused(&datagram, Transport::Stream),
            HeaderError::DatagramOnStream
        );
    }
}

#[test]
fn unassigned_values_are_refused_where_they_stand() {
    for transport in [Transport::Stream, Transport::Datagram] {
        for version in (0..16).filter(|&version| version != 2) {
            for command in 0..16 {
                let bytes = v2(version << 4 | command, 0x11, &hex(INET));
                assert_eq!(refused(&bytes, transport), HeaderError::V2Version(version));
            }
        }
        for command in 2..16 {
            let bytes = v2(0x20 | command, 0x11, &hex(INET));
            assert_eq!(refused(&bytes, transport), HeaderError::V2Command(command));
        }
        for family in 4..16 {
            let bytes = v2(0x21, family << 4 | 1, &hex(INET));
            assert_eq!(refused(&bytes, transport), HeaderError::V2Family(family));
        }
        for protocol in 3..16 {
            let bytes = v2(0x21, 0x10 | protocol, &hex(INET));
            assert_eq!(
                refused(&bytes, transport),
                HeaderError::V2Transport(protocol)
            );
        }
    }

    // On a stream it does not take the length, which comes last, to tell.
    for (beginning, error) in [
        ("11", HeaderError::V2Version(1)),
        ("22", HeaderError::V2Command(2)),
        ("21 41", HeaderError::V2Family(4)),
        ("21 13 00", HeaderError::V2Transport(3)),
        ("21 12", HeaderError::DatagramOnStream),
        ("21 00", HeaderError::V2NoAddress),
    ] {
        let bytes = hex(&format!("{SIGNATURE} {beginning}"));
        assert_eq!(refused(&bytes, Transport::Stream), error);
        assert_eq!(refused(&bytes, Transport::Datagram), HeaderError::Truncated);
    }
}

/// Guards against go-mmproxy's hole: with a length shorter than the addresses, it read them out of the payload, so that
/// a client could choose its own source.
#[test]
fn addresses_are_never_read_out_of_the_payload() {
    for (family_transport, transport) in [(0x11, Transport::Stream), (0x12, Transport::Datagram)] {
        for announced in 0..12 {
            let mut bytes = v2(0x21, family_transport, &hex(INET));
            bytes[15] = announced as u8;
            assert_eq!(
                refused(&bytes, transport),
                HeaderError::V2TooShort {
                    announced,
                    needed: 12
                }
            );
            // It takes no byte behind the length to tell.
            assert_eq!(
                refused(&bytes[..16], transport),
                HeaderError::V2TooShort {
                    announced,
                    needed: 12
                }
            );
        }
    }
    for announced in 0..36 {
        let mut bytes = v2(0x21, 0x21, &[0x20; 36]);
        bytes[15] = announced as u8;
        assert_eq!(
            refused(&bytes, Transport::Stream),
            HeaderError::V2TooShort {
                announced,
                needed: 36
            }
        );
    }
}

#[test]
fn the_longest_header_fits_and_one_byte_more_does_not() {
    let padding = |len: usize| {
        let value = vec![0; len - 16 - 12 - 3];
        let tlv = [
            &[Tlv::NOOP],
            (value.len() as u16).to_be_bytes().as_slice(),
            &value,
        ]
        .concat();
        v2(0x21, 0x11, &[hex(INET), tlv].concat())
    };
    let longest = padding(LEN_MAX);
    assert_eq!(complete(&longest, Transport::Stream).1, LEN_MAX);
    assert_eq!(
        decode(&longest[..LEN_MAX - 1], Transport::Stream),
        Ok(Decoded::Partial)
    );

    let longer = padding(LEN_MAX + 1);
    let error = HeaderError::TooLong {
        announced: LEN_MAX + 1,
    };
    assert_eq!(refused(&longer, Transport::Stream), error);
    // Refused as soon as the length is there: nobody buffers what is not taken.
    assert_eq!(refused(&longer[..16], Transport::Stream), error);
    assert_eq!(
        decode(&longer[..15], Transport::Stream),
        Ok(Decoded::Partial)
    );

    let local = v2(0x20, 0x00, &vec![0; LEN_MAX - 15]);
    assert_eq!(refused(&local, Transport::Stream), error);
}

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
        assert_eq!(header.origin, proxied("203.0.113.7:56324", "192.0.2.1:443"));
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

#[test]
fn a_second_header_is_payload() {
    let header = tcp4_with("");
    let twice = [header.clone(), header.clone()].concat();
    assert_eq!(complete(&twice, Transport::Stream).1, header.len());
}
