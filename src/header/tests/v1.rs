//! Version 1: lines of text.

use super::*;

#[track_caller]
fn origin(line: &str) -> Origin {
    let header = decode_whole(line.as_bytes(), Transport::Stream);
    assert_eq!(header.version, Version::V1);
    assert!(header.tlvs.is_empty());
    header.origin()
}

#[track_caller]
fn error(line: &[u8]) -> HeaderError {
    refused(line, Transport::Stream)
}

#[test]
fn tcp4() {
    assert_eq!(
        origin("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        proxied("192.168.0.1:56324", "192.168.0.11:443")
    );
    assert_eq!(
        origin("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
        proxied("0.0.0.0:0", "0.0.0.0:0")
    );
    assert_eq!(
        origin("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
        proxied("255.255.255.255:65535", "255.255.255.255:65535")
    );
}

#[test]
fn tcp6() {
    assert_eq!(
        origin("PROXY TCP6 2001:db8::1 2001:DB8::FFFF 56324 443\r\n"),
        proxied("[2001:db8::1]:56324", "[2001:db8::ffff]:443")
    );
    assert_eq!(
        origin("PROXY TCP6 :: ::1 0 65535\r\n"),
        proxied("[::]:0", "[::1]:65535")
    );
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), 104);
    let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    assert_eq!(origin(longest), proxied(all_ones, all_ones));
}

#[test]
fn a_mapped_source_is_told_as_it_was_sent() {
    assert_eq!(
        origin("PROXY TCP6 ::ffff:203.0.113.7 ::ffff:c000:201 56324 443\r\n"),
        proxied("[::ffff:203.0.113.7]:56324", "[::ffff:192.0.2.1]:443")
    );
}

#[test]
fn unknown_is_local_whatever_follows_on_the_line() {
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY UNKNOWN anything\rat\nall \r\r\n",
        "PROXY UNKNOWN \n\r \u{e9}\u{0}\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    ] {
        assert_eq!(origin(line), Origin::Local);
    }
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(longest.len(), 107);
    assert_eq!(origin(&longest), Origin::Local);

    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(
        decode(&longer.as_bytes()[..106], Transport::Stream),
        Ok(Decoded::Partial)
    );
    assert_eq!(error(&longer.as_bytes()[..107]), HeaderError::V1LineTooLong);
    assert_eq!(error(longer.as_bytes()), HeaderError::V1LineTooLong);

    // Well-formed addresses, but spelt so long that the line does not fit.
    let ip = "0000:0000:0000:0000:0000:ffff:203.100.113.100";
    let addresses = format!("PROXY TCP6 {ip} {ip} 10000 10000\r\n");
    assert_eq!(error(addresses.as_bytes()), HeaderError::V1LineTooLong);
}

#[test]
fn only_crlf_ends_a_line() {
    for line in [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n".as_slice(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n",
        b"PROXY TCP6 ::1 ::2 1 2\n",
    ] {
        assert_eq!(
            error(line),
            HeaderError::V1LineEnd,
            "{}",
            line.escape_ascii()
        );
    }
    let unknown = b"PROXY UNKNOWN\n\n\r\r\n\n\r";
    assert_eq!(complete(unknown, Transport::Stream).1, unknown.len() - 2);
}

#[test]
fn protocols_are_spelt_exactly() {
    for line in [
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n".as_slice(),
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY Tcp4 ",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY unknown\r\n",
        b"PROXY UNKNOWM\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP45 ",
        b"PROXY \r\n",
    ] {
        assert_eq!(
            error(line),
            HeaderError::V1Protocol,
            "{}",
            line.escape_ascii()
        );
    }
}

#[test]
fn addresses_are_of_the_announced_family_and_well_formed() {
    for ip in [
        "",
        " 192.0.2.1",
        "192.0.2",
        "192.0.2.1.1",
        "192.0.2.256",
        "192.0.2.01",
        "192.0.2.00",
        "0192.0.2.1",
        "+192.0.2.1",
        "-1.0.2.1",
        "192.0.2.1000",
        "192..2.1",
        "0x7f.0.0.1",
        "192.0.2.1,",
        "::1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "localhost",
        "192.0.2.1:80",
        "99999999999.0.0.1",
    ] {
        for line in [
            format!("PROXY TCP4 {ip} 192.0.2.2 1 2\r\n"),
            format!("PROXY TCP4 192.0.2.2 {ip} 1 2\r\n"),
        ] {
            assert_eq!(error(line.as_bytes()), HeaderError::V1Address, "{line:?}");
        }
    }
    for ip in [
        "",
        " ::1",
        "192.0.2.1",
        ":",
        ":::",
        "::1::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4::5:6:7:8",
        "1:2:3:4:5:6:7:",
        ":1:2:3:4:5:6:7:8",
        "12345::",
        "00001::",
        "g::",
        "::-1",
        "::+1",
        "::192.0.2",
        "::192.0.2.256",
        "::192.0.2.01",
        "192.0.2.1::",
        "::192.0.2.1:1",
        "1:2:3:4:5:6:7:192.0.2.1",
        "1:2:3:4:5:6:7::192.0.2.1",
        "::1%eth0",
        "[::1]",
    ] {
        for line in [
            format!("PROXY TCP6 {ip} 2001:db8::1 1 2\r\n"),
            format!("PROXY TCP6 2001:db8::1 {ip} 1 2\r\n"),
        ] {
            assert_eq!(error(line.as_bytes()), HeaderError::V1Address, "{line:?}");
        }
    }
}

#[test]
fn ports_are_plain_numbers_up_to_65535() {
    for port in [
        "",
        " 1",
        "00",
        "01",
        "+1",
        "-1",
        "65536",
        "99999",
        "100000",
        "0x50",
        "http",
        "4294967297",
        "\r\n",
    ] {
        let source = format!("PROXY TCP4 192.0.2.1 192.0.2.2 {port} 2\r\n");
        assert_eq!(error(source.as_bytes()), HeaderError::V1Port, "{source:?}");
    }
    for port in ["", " 1", "00", "01", "+1", "65536", "100000", "http"] {
        let destination = format!("PROXY TCP6 ::1 ::2 1 {port}\r\n");
        assert_eq!(
            error(destination.as_bytes()),
            HeaderError::V1Port,
            "{destination:?}"
        );
    }
    assert_eq!(
        error(b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"),
        HeaderError::V1Port
    );
    assert_eq!(
        error(b"PROXY TCP4 192.0.2.1 192.0.2.2\r\n"),
        HeaderError::V1Address
    );
}

#[test]
fn a_malformed_line_is_refused_before_its_end() {
    assert_eq!(error(b"PROXY TCP4 999."), HeaderError::V1Address);
    assert_eq!(error(b"PROXY TCP4 192.0.2.1  "), HeaderError::V1Address);
    assert_eq!(
        error(b"PROXY TCP4 192.0.2.1 192.0.2.2 1x"),
        HeaderError::V1Port
    );
    assert_eq!(error(b"PROXY TCP6 x"), HeaderError::V1Address);
}

#[test]
fn version_1_is_refused_in_a_datagram() {
    for datagram in [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello".as_slice(),
        b"PROXY UNKNOWN\r\n",
        b"PROXY ",
        b"PROXY is not the name of this game",
    ] {
        assert_eq!(
            refused(datagram, Transport::Datagram),
            HeaderError::V1OnDatagram
        );
    }
}
