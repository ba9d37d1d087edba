//! `--require-crc32c`

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const SERVER: &str = "203.0.113.1:443";

const REASON: &str = "the PROXY header has no CRC32C TLV, as --require-crc32c wants: make the sender add it, in version 2";

/// A header with a checksum that is not its own.
fn corrupted(header: Header) -> TestResult<Header> {
    let mut bytes = header.crc32c()?.bytes().to_vec();
    bytes[16] ^= 1; // the source's first byte
    Ok(Header::raw(bytes))
}

#[test]
fn over_tcp_a_header_without_a_checksum_is_refused_where_one_is_required() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1", "--require-crc32c"])
            .start()?;
        let without = [
            Header::v2(CLIENT, SERVER)?,
            // Another TLV is none.
            Header::v2(CLIENT, SERVER)?.tlv(0x05, b"unique")?,
            Header::v1(CLIENT, SERVER)?,
            Header::v1_unknown(),
            Header::v2_local_bare(),
            Header::v2_local()?,
        ];
        for header in &without {
            let refused = Balancer::default().connect(&proxy, &header.clone().then(b"hello"))?;
            refused.expect_over()?;
            let peer = refused.local()?.to_string();
            let line = proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
            assert_eq!(line["message"], "connection dropped");
            assert_eq!(line["error"], REASON, "{header:?}");
        }
        let refused = Balancer::default().connect(&proxy, &corrupted(Header::of(CLIENT)?)?)?;
        refused.expect_over()?;
        let mismatch = proxy.wait_for_log(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.starts_with("CRC32C mismatch in the PROXY header")
        })?;
        assert_eq!(mismatch["message"], "connection dropped");
        server.expect_nobody()?;

        // A client's, a client's in two pieces, and a health check's.
        let whole = Header::of(CLIENT)?.crc32c()?;
        let downstream = Balancer::default().connect(&proxy, &whole)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, CLIENT.parse()?);
        downstream.expect_talk(&session)?;
        let (first, second) = ("192.0.2.2:4000", Header::of("192.0.2.2:4000")?.crc32c()?);
        let (beginning, end) = second.bytes().split_at(second.bytes().len() - 2);
        let downstream = Balancer::default().connect(&proxy, &Header::raw(beginning))?;
        downstream.send(end)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, first.parse()?);
        downstream.expect_talk(&session)?;
        let check = Header::v2_local_bare().crc32c()?;
        let downstream = Balancer::default().connect(&proxy, &check)?;
        downstream.expect_talk(&server.accept()?)?;

        let exit = proxy.stop()?;
        assert_eq!(exit.total("header_errors")?, without.len() as u64 + 1);
        exit.expect_success()
    })
}

#[test]
fn over_udp_a_header_without_a_checksum_is_refused_where_one_is_required() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let good = Header::v2_udp(CLIENT, SERVER)?.crc32c()?;
        for header in [
            Header::v2_udp(CLIENT, SERVER)?,
            Header::v2_udp(CLIENT, SERVER)?.tlv(0x04, b"padding")?,
            Header::v2_local_bare(),
        ] {
            // One proxy each: a second line within the second would not be written.
            let proxy = Proxy::udp(server.addr()?)
                .args(["-v", "1", "--listeners", "1", "--require-crc32c"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header, b"without")?;
            // Its flow is there: that does not help.
            balancer.send(&proxy, &good, b"with")?;
            server.expect(CLIENT, b"with")?;
            balancer.send(&proxy, &header, b"without")?;
            balancer.send(&proxy, &good, b"with")?;
            server.expect(CLIENT, b"with")?;
            let line = proxy.wait_for_message("datagram dropped")?;
            assert_eq!(line["error"], REASON, "{header:?}");
            server.expect_nothing()?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("header_errors")?, 2);
            assert_eq!(exit.total("flows")?, 1);
            exit.expect_success()?;
        }
        let proxy = Proxy::udp(server.addr()?)
            .args(["--require-crc32c"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &Header::v2_local_bare().crc32c()?, b"check")?;
        let check = server.receive()?;
        server.send(check.from, b"alive")?;
        balancer.expect(b"alive")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_checksum_that_nobody_requires_is_verified_all_the_same() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(["-v", "1"]).start()?;
        let refused = Balancer::default().connect(&proxy, &corrupted(Header::of(CLIENT)?)?)?;
        refused.expect_over()?;
        let line = proxy.wait_for_message("connection dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("CRC32C mismatch"), "{error}");
        for (client, header) in [
            (CLIENT, Header::of(CLIENT)?),
            ("192.0.2.2:4000", Header::of("192.0.2.2:4000")?.crc32c()?),
        ] {
            let downstream = Balancer::default().connect(&proxy, &header)?;
            let session = server.accept()?;
            assert_eq!(session.peer()?, client.parse()?);
            downstream.expect_talk(&session)?;
        }
        Ok(())
    })
}
