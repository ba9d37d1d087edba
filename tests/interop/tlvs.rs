//! What HAProxy tells beside the addresses: the log shows it, and its checksum may be required.

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Proxy, TcpServer};
use crate::hosts::{BALANCER_V4, CLIENT_V4, add_addresses, connect};
use crate::namespace::TestResult;
use crate::software::{Balancer, Certificate, Frontend, HaProxy, TlsClient};
use crate::tool::{HAPROXY, OPENSSL, isolated_with};

/// All that HAProxy 2.6 can tell and we show, and the checksum of it.
const EVERYTHING: &str = "send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,unique-id,crc32c";
const UNIQUE_ID: &str = r"unique-id-format client-%ci";
/// Where HAProxy speaks TLS, beside its other port.
const TLS_PORT: u16 = 8443;

#[test]
fn what_haproxy_tells_of_a_tls_client_is_in_the_log() -> TestResult {
    isolated_with(&[HAPROXY, OPENSSL], || {
        add_addresses()?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?);
        let proxy = proxy.args(["-v", "2", "--require-crc32c"]).start()?;
        let (own, player) = (
            Certificate::new("play.example")?,
            Certificate::new("player one")?,
        );
        let bind = format!(
            "bind 127.0.0.1:{TLS_PORT} ssl crt {} ca-file {} verify optional alpn minecraft",
            own.file_with_key().display(),
            player.file().display()
        );
        let lines = [UNIQUE_ID, &bind];
        let _haproxy = HaProxy::start(proxy.addr(), EVERYTHING, Frontend::PerFamily, &lines)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], TLS_PORT));

        let clients = [
            (Some(&player), Value::from("player one")),
            (None, Value::Null),
        ];
        for (number, (certificate, common_name)) in (1..).zip(clients) {
            let _client = TlsClient::connect(addr, "play.example", "minecraft", certificate)?;
            let _session = server.accept()?;
            let lines = proxy.wait_for_logs(number, |line| line["message"] == "connected")?;
            let connected = lines.last().ok_or("no line")?;
            assert_eq!(connected["authority"], "play.example");
            assert_eq!(connected["alpn"], "minecraft");
            assert_eq!(connected["unique_id"], "client-127.0.0.1");
            assert_eq!(connected["ssl_version"], "TLSv1.3");
            assert_eq!(connected["ssl_cn"], common_name);
            assert_eq!(connected["ssl_verified"], certificate.is_some());
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn what_haproxy_tells_of_a_plain_client_is_in_the_log() -> TestResult {
    isolated_with(&[HAPROXY], || {
        add_addresses()?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(["-v", "2"]).start()?;
        let haproxy = HaProxy::start(proxy.addr(), EVERYTHING, Frontend::PerFamily, &[UNIQUE_ID])?;
        let client = connect(CLIENT_V4, haproxy.addr_at(BALANCER_V4)?)?;
        client.expect_talk(&server.accept()?)?;
        let connected = proxy.wait_for_message("connected")?;
        assert_eq!(connected["client_addr"], client.local()?.to_string());
        assert_eq!(connected["unique_id"], format!("client-{CLIENT_V4}"));
        // HAProxy sends the TLV about TLS all the same: that there is none.
        for field in ["authority", "alpn", "ssl_version", "ssl_cn", "ssl_verified"] {
            assert_eq!(connected.get(field), None, "{field}");
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_required_checksum_comes_with_the_option_crc32c_only() -> TestResult {
    isolated_with(&[HAPROXY], || {
        add_addresses()?;
        let server = TcpServer::bind("127.0.0.1")?;
        for (options, has_checksum) in [
            ("send-proxy-v2 proxy-v2-options crc32c", true),
            ("send-proxy-v2 proxy-v2-options crc32c,unique-id", true),
            ("send-proxy-v2", false),
            ("send-proxy-v2 proxy-v2-options unique-id", false),
            ("send-proxy", false),
        ] {
            let proxy = Proxy::tcp(server.addr()?)
                .args(["-v", "1", "--require-crc32c"])
                .start()?;
            let haproxy = HaProxy::start(proxy.addr(), options, Frontend::PerFamily, &[UNIQUE_ID])?;
            let client = connect(CLIENT_V4, haproxy.addr_at(BALANCER_V4)?)?;
            if has_checksum {
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.local()?, "{options}");
                client.expect_talk(&session)?;
            } else {
                client.expect_over()?;
                let dropped = proxy.wait_for_message("connection dropped")?;
                let error = dropped["error"].as_str().unwrap_or_default();
                assert!(error.contains("no CRC32C TLV"), "{options}: {error}");
            }
            proxy.stop()?.expect_success()?;
            server.expect_nobody()?;
        }
        Ok(())
    })
}

/// Its health checks are of command LOCAL, and have the checksum with the same option.
#[test]
fn a_required_checksum_is_required_of_health_checks() -> TestResult {
    isolated_with(&[HAPROXY], || {
        add_addresses()?;
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server).args(["--require-crc32c"]).start()?;
        for (options, status, state) in [
            ("send-proxy-v2 proxy-v2-options crc32c", "L7OK", "UP"),
            ("send-proxy-v2", "L7RSP", "DOWN"),
        ] {
            let options = format!("{options} source {BALANCER_V4} check inter 100ms fall 1");
            // What is said comes back from the server, through the proxy.
            let check = [
                "option tcp-check",
                "tcp-check send alive",
                "tcp-check expect string alive",
            ];
            let mut haproxy = HaProxy::start(proxy.addr(), &options, Frontend::PerFamily, &check)?;
            assert_eq!(haproxy.wait_for_check(status)?, state, "{options}");
        }
        proxy.stop()?.expect_success()
    })
}
