//! Version 2: the binary format, but for its TLVs.

use super::*;

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
    assert_eq!(
        header.origin(),
        proxied("203.0.113.7:56324", "192.0.2.1:443")
    );
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
        header.origin(),
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
            header.origin(),
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
        header.origin(),
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
                (header.version, header.origin()),
                (Version::V2, Origin::Local)
            );
        }
    }
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
fn a_second_header_is_payload() {
    let header = tcp4_with("");
    let twice = [header.clone(), header.clone()].concat();
    assert_eq!(complete(&twice, Transport::Stream).1, header.len());
}
