//! The headers: good ones, and what they can be wrong in.

use crate::harness::Header;
use crate::namespace::TestResult;

/// 192.0.2.1:4000 to 203.0.113.1:443.
pub(super) const INET: &[u8] = b"\xC0\0\x02\x01\xCB\0\x71\x01\x0F\xA0\x01\xBB";

/// Bytes, and the kind that they are to be counted as.
pub(super) type Case = (&'static str, Vec<u8>);

/// A version 2 header with its length filled in.
pub(super) fn v2(version_command: u8, family_transport: u8, block: &[&[u8]]) -> Vec<u8> {
    let block = block.concat();
    let length = (block.len() as u16).to_be_bytes();
    let fixed = [version_command, family_transport];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &fixed, &length, &block].concat()
}

/// What is wrong in version 2 whatever it comes by; `inet` is what IPv4 addresses have there.
fn malformed_v2(inet: u8) -> Vec<Case> {
    let with = |tlvs: &[u8]| v2(0x21, inet, &[INET, tlvs]);
    let mut cases = Vec::new();
    for version in (0..16).filter(|&version| version != 2) {
        cases.push(("v2_version", v2(version << 4 | 1, inet, &[INET])));
    }
    for command in 2..16 {
        cases.push(("v2_command", v2(0x20 | command, inet, &[INET])));
    }
    for family in 4..16 {
        cases.push(("v2_family", v2(0x21, family << 4 | inet & 0xF, &[INET])));
    }
    for transport in 3..16 {
        cases.push(("v2_transport", v2(0x21, 0x10 | transport, &[INET])));
    }
    for unnamed in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30, 0x31, 0x32] {
        cases.push(("v2_no_address", v2(0x21, unnamed, &[&[b'/'; 216]])));
    }
    for announced in 0..12 {
        // The rest of the addresses would be the payload's.
        let mut header = v2(0x21, inet, &[INET]);
        header[15] = announced;
        cases.push(("v2_too_short", header));
    }
    for announced in [0, 12, 35] {
        let mut header = v2(0x21, inet + 0x10, &[&[0x20; 36]]);
        header[15] = announced;
        cases.push(("v2_too_short", header));
    }
    for tlvs in [
        b"\x04".as_slice(),
        b"\x04\0",
        b"\x04\0\x01",
        b"\x04\0\0\x04",
        b"\x04\xFF\xFF\0",
        b"\x03\0\x04\0\0\0",
    ] {
        cases.push(("tlvs_malformed", with(tlvs)));
    }
    cases.extend([
        ("crc_malformed", with(b"\x03\0\x03\0\0\0")),
        (
            "crc_malformed",
            with(b"\x03\0\x04\0\0\0\0\x03\0\x04\0\0\0\0"),
        ),
        ("crc_mismatch", with(b"\x03\0\x04\0\0\0\0")),
        ("crc_mismatch", v2(0x20, 0x00, &[b"\x03\0\x04\0\0\0\0"])),
        (
            "unique_id_too_long",
            with(&[b"\x05\0\x81".as_slice(), &[b'x'; 129]].concat()),
        ),
        ("too_long", v2(0x21, inet, &[&[0; 8192]])),
        ("too_long", v2(0x20, 0x00, &[&[0; 65_000 - 16]])),
    ]);
    cases
}

fn malformed_v1() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = |kind, lines: &[&str]| {
        cases.extend(lines.iter().map(|line| (kind, line.as_bytes().to_vec())));
    };
    lines(
        "v1_protocol",
        &[
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY unknown\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4\r\n",
            "PROXY \r\n",
        ],
    );
    for ip in [
        "",
        " 192.0.2.1",
        "192.0.2",
        "192.0.2.1.1",
        "192.0.2.256",
        "192.0.2.01",
        "+192.0.2.1",
        "192..2.1",
        "0x7f.0.0.1",
        "::1",
        "::ffff:192.0.2.1",
        "localhost",
        "192.0.2.1:80",
    ] {
        lines(
            "v1_address",
            &[&format!("PROXY TCP4 {ip} 192.0.2.2 1 2\r\n")],
        );
        lines(
            "v1_address",
            &[&format!("PROXY TCP4 192.0.2.2 {ip} 1 2\r\n")],
        );
    }
    for ip in [
        "",
        " ::1",
        "192.0.2.1",
        ":",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7:8:9",
        "12345::",
        "g::",
        "::192.0.2.256",
        "::1%eth0",
        "[::1]",
    ] {
        lines(
            "v1_address",
            &[&format!("PROXY TCP6 {ip} 2001:db8::1 1 2\r\n")],
        );
        lines(
            "v1_address",
            &[&format!("PROXY TCP6 2001:db8::1 {ip} 1 2\r\n")],
        );
    }
    for port in [
        "",
        " 1",
        "00",
        "01",
        "+1",
        "-1",
        "65536",
        "100000",
        "0x50",
        "http",
        "4294967297",
    ] {
        lines(
            "v1_port",
            &[&format!("PROXY TCP4 192.0.2.1 192.0.2.2 {port} 2\r\n")],
        );
        lines("v1_port", &[&format!("PROXY TCP6 ::1 ::2 {port} 1\r\n")]);
    }
    lines("v1_port", &["PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"]);
    lines("v1_address", &["PROXY TCP4 192.0.2.1 192.0.2.2\r\n"]);
    lines(
        "v1_line_end",
        &[
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n",
        ],
    );
    let ip = "0000:0000:0000:0000:0000:ffff:203.100.113.100";
    lines(
        "v1_line_too_long",
        &[
            &format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)),
            &format!("PROXY UNKNOWN {}", "x".repeat(9000)),
            &format!("PROXY TCP6 {ip} {ip} 10000 10000\r\n"),
        ],
    );
    cases
}

/// Neither signature.
pub(super) fn missing() -> Vec<Case> {
    let beginnings = [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\r",
        b"PROXX TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b" PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\0",
        b"\xFF\xFF\xFF\xFF",
    ];
    let cases = beginnings.map(|bytes| ("missing", bytes.to_vec()));
    cases.into()
}

/// Over TCP.
pub(super) fn malformed_on_streams() -> Vec<Case> {
    let of_datagrams = [0x12, 0x22].map(|it| ("datagram_on_stream", v2(0x21, it, &[&[0; 36]])));
    let mut cases = [malformed_v1(), malformed_v2(0x11), missing()].concat();
    cases.extend(of_datagrams);
    cases
}

/// Over UDP, where a header cannot go on in the next datagram.
pub(super) fn malformed_datagrams() -> Vec<Case> {
    let v1 = well_formed_v1().into_iter();
    let v1 = v1.map(|line| ("v1_on_datagram", line));
    let of_streams = [0x11, 0x21].map(|it| ("stream_on_datagram", v2(0x21, it, &[&[0; 36]])));
    let mut cases = malformed_v2(0x12);
    cases.extend(v1.chain(of_streams));
    cases
}

/// Good ones, of every form.
pub(super) fn well_formed(inet: u8) -> TestResult<Vec<Vec<u8>>> {
    let inet6 = [0x20, 1, 0x0D, 0xB8]
        .into_iter()
        .chain([0; 28])
        .chain([0x0F, 0xA0, 1, 0xBB]);
    let inet6: Vec<u8> = inet6.collect();
    let tlvs = b"\x01\0\x02h2\x02\0\x04game\x04\0\0\x20\0\x05\x01\0\0\0\0";
    let with_crc = match inet {
        0x11 => Header::v2("192.0.2.1:4000", "203.0.113.1:443")?,
        _ => Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?,
    };
    Ok(vec![
        v2(0x21, inet, &[INET]),
        v2(0x21, inet + 0x10, &[&inet6]),
        v2(0x21, inet, &[INET, tlvs]),
        with_crc.crc32c()?.bytes().to_vec(),
        v2(0x20, 0x00, &[]),
        v2(0x20, inet, &[INET]),
    ])
}

fn well_formed_v1() -> Vec<Vec<u8>> {
    let lines = [
        b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\r\n".as_slice(),
        b"PROXY TCP6 2001:db8::1 2001:db8::443 4000 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.66 203.0.113.66 6666 66\r\n",
    ];
    lines.map(<[u8]>::to_vec).into()
}

pub(super) fn well_formed_on_streams() -> TestResult<Vec<Vec<u8>>> {
    Ok([well_formed_v1(), well_formed(0x11)?].concat())
}

/// Each of them, cut everywhere.
pub(super) fn cut(headers: impl IntoIterator<Item = Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let cuts = |header: Vec<u8>| (0..header.len()).map(move |cut| header[..cut].to_vec());
    headers.into_iter().flat_map(cuts)
}

/// Less than a signature is no header.
pub(super) fn by_signature(bytes: Vec<u8>) -> Case {
    match bytes.len() {
        0..12 => ("missing", bytes),
        _ => ("truncated", bytes),
    }
}
