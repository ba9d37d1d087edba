//! TLVs in the log at `-v 2`: as fields of their own, and as nothing but text.

use serde_json::{Value, json};

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const SERVER: &str = "203.0.113.1:443";

/// A header with one TLV of each kind there is.
fn with_all(header: Header) -> TestResult<Header> {
    let ssl = [
        &[0x07][..],            // TLS, with a certificate over this connection and session
        &[0, 0, 0, 0],          // which is good
        b"\x21\x00\x07TLSv1.3", // version
        b"\x23\x00\x03ABC",     // cipher, which is not shown
        b"\x22\x00\x0Calice\" \x1b[31m", // common name
    ]
    .concat();
    header
        .tlv(0x01, b"minecraft")? // ALPN
        .tlv(0x02, b"play.example ssl_verified=false\r\nforged")? // AUTHORITY
        .tlv(0x05, &[0x00, 0xC0, 0xFF, 0xEE])? // UNIQUE_ID
        .tlv(0x20, &ssl)? // SSL
        .tlv(0x30, b"netns-of-the-sender")? // NETNS, which is not shown
        .tlv(0xE0, b"custom")? // custom, which is not shown
        .tlv(0xEA, b"\x01vpce-0123456789abcdef0")? // AWS
        .tlv(0xEE, &[0x01, 0x2A, 0x00, 0x00, 0x00])? // Azure
        .crc32c()
}

/// Its fields in JSON.
fn fields_of_all() -> Value {
    json!({
        "alpn": "minecraft",
        "authority": r"play.example ssl_verified=false\r\nforged",
        "unique_id": "0x00c0ffee",
        "ssl_version": "TLSv1.3",
        "ssl_cn": r#"alice\" \x1b[31m"#,
        "ssl_verified": true,
        "aws_vpce_id": "vpce-0123456789abcdef0",
        "azure_link_id": 42,
    })
}

/// What a line says beyond what every line of a connection says.
fn fields_beside_the_usual(line: &Value) -> TestResult<Value> {
    const USUAL: [&str; 9] = [
        "timestamp",
        "level",
        "message",
        "listener",
        "protocol",
        "listen_addr",
        "peer_addr",
        "client_addr",
        "target_addr",
    ];
    let fields = line.as_object().ok_or("no JSON object")?.iter();
    let others = fields.filter(|(name, _)| !USUAL.contains(&name.as_str()));
    Ok(others
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

#[test]
fn over_tcp_they_are_fields_of_the_line_that_tells_of_the_connection() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "2", "--listeners", "1"])
            .start()?;
        for (header, want) in [
            (with_all(Header::v2(CLIENT, SERVER)?)?, fields_of_all()),
            (
                Header::v2("192.0.2.2:4000", SERVER)?.tlv(0x02, b"one.example")?,
                json!({"authority": "one.example"}),
            ),
            (Header::v2("192.0.2.3:4000", SERVER)?, json!({})),
            (Header::v1("192.0.2.4:4000", SERVER)?, json!({})),
            (
                // A health check's.
                Header::v2_local_bare().tlv(0x05, b"check-1")?,
                json!({"unique_id": "check-1"}),
            ),
        ] {
            // With the header alone, and with the first bytes behind it.
            let downstream = Balancer::default().connect(&proxy, &header.then(b"hello"))?;
            let session = server.accept()?;
            session.expect(b"hello")?;
            let peer = downstream.local()?.to_string();
            let of_it = |line: &Value| line["peer_addr"] == peer.as_str();
            let connected =
                proxy.wait_for_log(|line| of_it(line) && line["message"] == "connected")?;
            assert_eq!(fields_beside_the_usual(&connected)?, want);
            drop(session);
            downstream.finish()?;
            let closed = proxy.wait_for_log(|line| of_it(line) && line["message"] == "closed")?;
            assert_eq!(closed["authority"], Value::Null);
        }
        // In pieces, the TLVs are as whole as the rest.
        let header = with_all(Header::v2("192.0.2.5:4000", SERVER)?)?;
        let downstream = Balancer::default().connect(&proxy, &Header::none())?;
        for piece in header.bytes().chunks(7) {
            downstream.send(piece)?;
        }
        let session = server.accept()?;
        downstream.expect_talk(&session)?;
        let connected = proxy.wait_for_log(|line| {
            line["message"] == "connected" && line["client_addr"] == "192.0.2.5:4000"
        })?;
        assert_eq!(fields_beside_the_usual(&connected)?, fields_of_all());
        proxy.stop()?.expect_success()
    })
}

#[test]
fn over_udp_they_are_fields_of_the_line_that_tells_of_the_flow() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).args(["-v", "2"]).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (client, header, want) in [
            (
                CLIENT,
                with_all(Header::v2_udp(CLIENT, SERVER)?)?,
                fields_of_all(),
            ),
            (
                "192.0.2.2:4000",
                Header::v2_udp("192.0.2.2:4000", SERVER)?.tlv(0x01, b"doq")?,
                json!({"alpn": "doq"}),
            ),
            (
                "192.0.2.3:4000",
                Header::v2_udp("192.0.2.3:4000", SERVER)?,
                json!({}),
            ),
        ] {
            for payload in [b"first", b"again"] {
                balancer.send(&proxy, &header, payload)?;
                server.expect(client, payload)?;
            }
            let opened =
                |line: &Value| line["message"] == "flow opened" && line["client_addr"] == client;
            let line = proxy.wait_for_log(opened)?;
            assert_eq!(fields_beside_the_usual(&line)?, want);
        }
        let exit = proxy.stop()?;
        let told = |line: &&Value| line.get("authority").is_some();
        assert_eq!(exit.log.iter().filter(told).count(), 1, "once a flow");
        exit.expect_success()
    })
}

/// One field cannot pass for another, nor a value steer the terminal that shows it.
#[test]
fn in_text_they_are_quoted_and_escaped() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::builder()
            .bare()
            .args(["-l", "127.0.0.1:25577", "-4"])
            .args([server.addr()?.to_string()])
            .args(["--setup-routes", "-v", "2", "--log-format", "text"])
            .listen("127.0.0.1:25577")
            .spawn()?;
        let text = |line: &Value| line.as_str().unwrap_or_default().to_owned();
        proxy.wait_for_log(|line| text(line).contains(" ready "))?;
        let header = with_all(Header::v2(CLIENT, SERVER)?)?;
        let downstream = Balancer::default().connect(&proxy, &header)?;
        downstream.expect_talk(&server.accept()?)?;
        let line = text(&proxy.wait_for_log(|line| text(line).contains("connected"))?);
        for field in [
            r#" alpn="minecraft" "#,
            r#" authority="play.example ssl_verified=false\\r\\nforged" "#,
            r#" unique_id="0x00c0ffee" "#,
            r#" ssl_version="TLSv1.3" "#,
            r#" ssl_cn="alice\\\" \\x1b[31m" "#,
            r#" ssl_verified=true "#,
            r#" aws_vpce_id="vpce-0123456789abcdef0" "#,
            r#" azure_link_id=42"#,
        ] {
            assert!(line.contains(field), "{field} is not in {line}");
        }
        assert!(!line.contains(char::is_control), "{line:?}");
        for hidden in ["netns", "custom", "ABC"] {
            assert!(!line.contains(hidden), "{hidden} is in {line}");
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn below_2_nothing_of_them_is_logged() -> TestResult {
    isolated(|| {
        let tcp = TcpServer::bind("127.0.0.1")?;
        let udp = UdpServer::bind_to(tcp.addr()?)?;
        for verbosity in ["0", "1"] {
            let proxy = Proxy::builder()
                .args(["-p", "both", "-v", verbosity])
                .and(tcp.addr()?)
                .start()?;
            let header = with_all(Header::v2(CLIENT, SERVER)?)?;
            let downstream = Balancer::default().connect(&proxy, &header)?;
            let session = tcp.accept()?;
            downstream.expect_talk(&session)?;
            session.reset()?;
            downstream.expect_reset()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let header = with_all(Header::v2_udp(CLIENT, SERVER)?)?;
            balancer.send(&proxy, &header, b"hello")?;
            udp.expect(CLIENT, b"hello")?;
            let exit = proxy.stop()?;
            assert_eq!(exit.log_since_ready(), [] as [Value; 0]);
            exit.expect_success()?;
        }
        Ok(())
    })
}
