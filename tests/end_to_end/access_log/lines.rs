//! What the lines tell.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{LogFile, visit, wait_for_json, wait_for_lines};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn a_connection_in_json() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server).args(file.flags()).start()?;
        visit(&proxy, "192.0.2.1:4000")?;
        let mut line = wait_for_json(&file.path, 1)?.remove(0);
        let timestamp = line["timestamp"].as_str().ok_or("no timestamp")?;
        assert!(
            timestamp.starts_with("20") && timestamp.ends_with('Z'),
            "{line}"
        );
        let duration = line["duration_seconds"].as_f64().ok_or("no duration")?;
        assert!(duration > 0.0, "{line}");
        let peer = line["peer_addr"].as_str().ok_or("no peer")?;
        assert!(peer.starts_with("127.0.0.1:"), "{line}");
        for field in ["timestamp", "duration_seconds", "peer_addr"] {
            line[field].take();
        }
        let wanted = json!({
            "timestamp": null,
            "duration_seconds": null,
            "peer_addr": null,
            "protocol": "tcp",
            "client_addr": "192.0.2.1:4000",
            "listen_addr": proxy.addr().to_string(),
            "target_addr": server.to_string(),
            "bytes_upstream": 4,
            "bytes_downstream": 4,
            "reason": "both sides closed",
        });
        assert_eq!(line, wanted);
        // It names clients.
        let mode = fs::metadata(&file.path)?.permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
        proxy.stop()?.expect_success()
    })
}

#[test]
fn text_where_it_is_asked_for() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .args(["--access-log-format", "text"])
            .start()?;
        visit(&proxy, "192.0.2.1:4000")?;
        let line = wait_for_lines(&file.path, 1)?.remove(0);
        assert!(
            line.contains(" tcp client=192.0.2.1:4000 peer=127.0.0.1:"),
            "{line}"
        );
        assert!(line.ends_with(" reason=\"both sides closed\""), "{line}");
        proxy.stop()?.expect_success()
    })
}

#[test]
fn standard_output_has_both_logs() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--access-log", "-"])
            .start()?;
        visit(&proxy, "192.0.2.1:4000")?;
        let line = proxy.wait_for_log(|line| line["reason"] == "both sides closed")?;
        assert_eq!(line["client_addr"], "192.0.2.1:4000");
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_connection_that_did_not_get_through_has_its_reason() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let gone = TcpServer::bind("127.0.0.1")?.addr()?;
        let proxy = Proxy::tcp(gone).args(file.flags()).start()?;
        // A health check is not worth a line.
        let check = Balancer::default().connect(&proxy, &Header::none())?;
        check.finish()?;
        check.expect_end()?;
        let bad = Balancer::default().connect(&proxy, &Header::none().then(b"GET / HTTP/1.1"))?;
        bad.expect_over()?;
        wait_for_json(&file.path, 1)?;
        let refused = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        Balancer::default()
            .connect(&proxy, &refused)?
            .expect_reset()?;
        let lines = wait_for_json(&file.path, 2)?;
        let reason = |line: &Value| line["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!(lines.len(), 2);
        assert!(
            reason(&lines[0]).starts_with("no PROXY header"),
            "{}",
            lines[0]
        );
        assert_eq!(lines[0]["client_addr"], Value::Null);
        assert_eq!(lines[0]["target_addr"], Value::Null);
        assert!(reason(&lines[1]).contains("refused"), "{}", lines[1]);
        assert_eq!(lines[1]["client_addr"], "192.0.2.1:4000");
        assert_eq!(lines[1]["target_addr"], gone.to_string());
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_flow_that_was_idle() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .args(["--close-after", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"ping")?;
        balancer.expect(b"192.0.2.1:4000 ping")?;
        let line = wait_for_json(&file.path, 1)?.remove(0);
        assert_eq!(
            (&line["protocol"], &line["reason"]),
            (&"udp".into(), &"idle".into())
        );
        assert_eq!(line["client_addr"], "192.0.2.1:4000");
        assert_eq!(line["peer_addr"], balancer.addr()?.to_string());
        assert_eq!(
            (&line["bytes_upstream"], &line["bytes_downstream"]),
            (&4.into(), &19.into())
        );
        let duration = line["duration_seconds"].as_f64().ok_or("no duration")?;
        assert!(duration >= 1.0, "{line}");
        proxy.stop()?.expect_success()
    })
}

/// The end of the process waits for the lines that are left.
#[test]
fn the_last_lines_are_written() -> TestResult {
    isolated(|| {
        let file = LogFile::new()?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(file.flags())
            .args(["-v", "2"])
            .start()?;
        for client in 1..=50 {
            visit(&proxy, &format!("192.0.2.{client}:4000"))?;
        }
        proxy.wait_for_logs(50, |line| line["message"] == "closed")?;
        proxy.stop()?.expect_success()?;
        assert_eq!(wait_for_json(&file.path, 50)?.len(), 50);
        Ok(())
    })
}
