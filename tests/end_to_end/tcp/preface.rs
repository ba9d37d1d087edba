//! Headers as they arrive: in pieces, with payload behind them, too late, or not at all.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use super::{CLIENT, NO_HEADER_TIMEOUT, noise};
use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer, unread, wait_for};
use crate::namespace::{TestResult, isolated};

/// The longest header that is taken.
const HEADER_MAX: usize = 8192;

#[test]
fn a_header_may_come_byte_by_byte() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .args(NO_HEADER_TIMEOUT)
            .start()?;
        let (v4, v6) = ("203.0.113.1:443", "[2001:db8::443]:443");
        for (server, header, seen) in [
            (
                &server,
                Header::v1("192.0.2.1:4001", v4)?,
                Some("192.0.2.1:4001"),
            ),
            (
                &server,
                Header::v2("192.0.2.1:4002", v4)?,
                Some("192.0.2.1:4002"),
            ),
            (
                &server_v6,
                Header::v1("[2001:db8::1]:4003", v6)?,
                Some("[2001:db8::1]:4003"),
            ),
            (
                &server_v6,
                Header::v2("[2001:db8::1]:4004", v6)?
                    .tlv(0x04, b"nothing")?
                    .tlv(0xEA, b"vpce")?,
                Some("[2001:db8::1]:4004"),
            ),
            (&server, Header::v2_local()?, None),
            (&server, Header::v1_unknown(), None),
        ] {
            let downstream = Balancer::default().connect(&proxy, &Header::none())?;
            let far_end = proxy.socket_to(&downstream)?;
            for byte in header.bytes() {
                server.expect_nobody()?;
                downstream.send(&[*byte])?;
                // Not before it is read: else the next byte would join it.
                wait_for(|| Ok((unread(&far_end)? == 0).then_some(())))?;
            }
            drop(far_end);
            let session = server.accept()?;
            if let Some(seen) = seen {
                assert_eq!(session.peer()?, seen.parse()?);
            }
            downstream.expect_talk(&session)?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn payload_may_come_in_one_segment_with_the_header() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        for (number, payload) in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            // What follows one header is payload, a second header too.
            Header::v1("192.0.2.66:66", "203.0.113.1:443")?
                .bytes()
                .to_vec(),
            Header::of("192.0.2.66:66")?.bytes().to_vec(),
            vec![0],
            noise(1, 100_000),
        ]
        .into_iter()
        .enumerate()
        {
            let clients = [
                format!("192.0.2.1:{}", 4001 + number),
                format!("192.0.2.2:{}", 4001 + number),
            ];
            for header in [
                Header::v1(&clients[0], "203.0.113.1:443")?,
                Header::v2(&clients[1], "203.0.113.1:443")?,
            ] {
                let downstream = Balancer::default().connect(&proxy, &header.then(&payload))?;
                let session = server.accept()?;
                session.expect(&payload)?;
                downstream.expect_talk(&session)?;
                downstream.finish()?;
                session.expect_end()?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_long_header_and_the_payload_behind_it_are_told_apart() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(NO_HEADER_TIMEOUT).start()?;
        let header = Header::of(CLIENT)?;
        // Behind 28 bytes of header and addresses, a TLV has 3 bytes of its own.
        let longest = vec![0xAA; HEADER_MAX - 28 - 3];
        let payload = noise(2, 100_000);
        let longest_header = header.clone().tlv(0xE0, &longest)?;
        assert_eq!(longest_header.bytes().len(), HEADER_MAX);
        let downstream = Balancer::default().connect(&proxy, &longest_header.then(&payload))?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, CLIENT.parse()?);
        session.expect(&payload)?;
        downstream.expect_talk(&session)?;

        let too_long = header.tlv(0xE0, &[&longest[..], b"!"].concat())?;
        // It is refused by its announced length, before it is all there.
        let beginning = Header::raw(&too_long.bytes()[..16]);
        let refused = Balancer::default().connect(&proxy, &beginning)?;
        refused.expect_over()?;
        proxy.stop()?;
        server.expect_nobody()
    })
}

#[test]
fn a_header_must_come_in_time() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1", "--header-timeout", "0.3"])
            .start()?;
        for beginning in ["", "PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\r"] {
            let started = Instant::now();
            let downstream = Balancer::default().connect(&proxy, &Header::raw(beginning))?;
            downstream.expect_over()?;
            assert!(started.elapsed() >= Duration::from_millis(300));
            let addr = downstream.local()?.to_string();
            let line = proxy.wait_for_log(|line| line["peer_addr"] == addr.as_str())?;
            assert_eq!(line["message"], "connection dropped");
            assert_eq!(
                line["error"],
                "no complete PROXY header within 0.3 s: is the sender configured with send-proxy?"
            );
        }
        assert_eq!(proxy.stop()?.total("header_errors")?, 2);
        server.expect_nobody()
    })
}

/// The deadline is for the whole header: bytes that drip in do not move it.
#[test]
fn a_dripping_header_is_too_late() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--header-timeout", "0.3"])
            .start()?;
        let header = Header::of(CLIENT)?.tlv(0xE0, &[0; 8000])?;
        let downstream = Balancer::default().connect(&proxy, &Header::none())?;
        downstream
            .stream()
            .set_read_timeout(Some(Duration::from_millis(10)))?;
        let started = Instant::now();
        for byte in header.bytes() {
            assert!(
                started.elapsed() < PATIENCE,
                "the header is still waited for"
            );
            // The proxy's end comes as a reset if it left bytes unread.
            if downstream.send(&[*byte]).is_err() {
                break;
            }
            match downstream.stream().read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert_eq!(proxy.stop()?.total("header_errors")?, 1);
        server.expect_nobody()
    })
}

/// At once: their senders are told so, and not after the deadline.
#[test]
fn what_cannot_become_a_header_ends_the_connection_with_its_reason() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1"])
            .args(NO_HEADER_TIMEOUT)
            .start()?;
        let v2 = |at: usize, byte: u8| -> TestResult<Header> {
            let mut bytes = Header::of(CLIENT)?.bytes().to_vec();
            bytes[at] = byte;
            Ok(Header::raw(bytes))
        };
        let cases = [
            (
                Header::raw("GET / HTTP/1.1\r\n\r\n"),
                "no PROXY header: is the sender",
            ),
            (
                Header::raw("\x16\x03\x01\x02\0\x01\0"),
                "no PROXY header: is the sender",
            ),
            (
                Header::raw("proxy TCP4 192.0.2.1 203.0.113.1 4000 443\r\n"),
                "no PROXY header",
            ),
            (
                Header::raw("PROXY TCP4 192.0.2.1 203.0.113.1 4000 65536\r\n"),
                "malformed port",
            ),
            (
                Header::raw("PROXY TCP4 192.0.2.1 203.0.113.1 04000 443\r\n"),
                "malformed port",
            ),
            (
                Header::raw("PROXY TCP4 192.0.2.1  203.0.113.1 4000 443\r\n"),
                "malformed address",
            ),
            (
                Header::raw("PROXY TCP4 2001:db8::1 2001:db8::2 4000 443\r\n"),
                "malformed address",
            ),
            (
                Header::raw("PROXY TCP6 192.0.2.1 203.0.113.1 4000 443\r\n"),
                "malformed address",
            ),
            (
                Header::raw("PROXY TCP5 192.0.2.1 203.0.113.1 4000 443\r\n"),
                "TCP4, TCP6 or UNKNOWN",
            ),
            (
                Header::raw("PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\n"),
                "does not end in CRLF",
            ),
            (
                Header::raw(format!("PROXY UNKNOWN {}", "x".repeat(100))),
                "no CRLF within 107",
            ),
            (v2(12, 0x31)?, "version 3"),
            (v2(12, 0x22)?, "command 2"),
            (v2(13, 0x41)?, "family 4"),
            (v2(13, 0x13)?, "transport 3"),
            (v2(13, 0x12)?, "says UDP"),
            (v2(13, 0x00)?, "names no IP address"),
            (v2(15, 8)?, "announces 8 bytes, its address family takes 12"),
            (Header::of(CLIENT)?.tlv(0x03, &[0; 4])?, "CRC32C mismatch"),
            (Header::of(CLIENT)?.tlv(0x05, &[b'x'; 129])?, "UNIQUE_ID"),
        ];
        let count = cases.len() as u64;
        for (header, reason) in cases {
            let downstream = Balancer::default().connect(&proxy, &header)?;
            downstream
                .expect_over()
                .map_err(|failure| format!("{reason}: {failure:?}"))?;
            let addr = downstream.local()?.to_string();
            let line = proxy.wait_for_log(|line| line["peer_addr"] == addr.as_str())?;
            assert_eq!(line["message"], "connection dropped");
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert_eq!(proxy.stop()?.total("header_errors")?, count);
        server.expect_nobody()
    })
}

#[test]
fn a_header_cut_short_by_the_end_is_no_header() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1"])
            .args(NO_HEADER_TIMEOUT)
            .start()?;
        for header in [Header::v1(CLIENT, "203.0.113.1:443")?, Header::of(CLIENT)?] {
            let cut = header.bytes().len() - 1;
            let downstream =
                Balancer::default().connect(&proxy, &Header::raw(&header.bytes()[..cut]))?;
            downstream.finish()?;
            downstream.expect_over()?;
            let addr = downstream.local()?.to_string();
            let line = proxy.wait_for_log(|line| line["peer_addr"] == addr.as_str())?;
            let reason = format!("the peer closed after {cut} bytes of the PROXY header");
            assert_eq!(line["error"], reason.as_str());
        }
        proxy.stop()?;
        server.expect_nobody()
    })
}
