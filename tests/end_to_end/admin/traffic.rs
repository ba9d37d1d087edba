//! What is told of connections, flows and what they carry.

use super::ADMIN;
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, metric};
use crate::namespace::{TestResult, isolated};

#[test]
fn connections_are_counted_from_begin_to_end() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = super::proxy(server)?;
        let admin = proxy.admin()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?.then(b"ping");
        let connection = Balancer::default().connect(&proxy, &header)?;
        connection.expect(b"ping")?;
        let bytes = |direction: &str| {
            format!("glommproxy_relayed_bytes_total{{protocol=\"tcp\",direction=\"{direction}\"}}")
        };
        admin.wait_for_metric(&bytes("upstream"), "4")?;
        admin.wait_for_metric(&bytes("downstream"), "4")?;
        admin.wait_for_metric("glommproxy_connections_open", "1")?;
        admin.wait_for_metric("glommproxy_connections_total", "1")?;
        admin.wait_for_metric("glommproxy_dial_duration_seconds_count", "1")?;
        admin.wait_for_metric("glommproxy_connection_duration_seconds_count", "0")?;
        assert_eq!(admin.status()?["connections_open"], 1);
        drop(connection);
        admin.wait_for_metric("glommproxy_connections_open", "0")?;
        admin.wait_for_metric("glommproxy_connection_duration_seconds_count", "1")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn what_is_dropped_has_a_reason() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .args(ADMIN)
            .args(["-p", "both", "--header-timeout", "0.2"])
            .and(TcpServer::echo("127.0.0.1")?)
            .start()?;
        let admin = proxy.admin()?;
        let late = Balancer::default().connect(&proxy, &Header::none())?;
        let bad = Balancer::default().connect(&proxy, &Header::none().then(b"GET / HTTP/1.1"))?;
        let sender = UdpBalancer::bind("127.0.0.1")?;
        sender.send(&proxy, &Header::none(), b"getstatus")?;
        for (protocol, kind) in [("tcp", "timed_out"), ("tcp", "missing"), ("udp", "missing")] {
            let labels = format!("{{protocol=\"{protocol}\",kind=\"{kind}\"}}");
            admin.wait_for_metric(&format!("glommproxy_header_errors_total{labels}"), "1")?;
        }
        for (protocol, count) in [("tcp", "2"), ("udp", "1")] {
            let labels = format!("{{protocol=\"{protocol}\",reason=\"header\"}}");
            admin.wait_for_metric(&format!("glommproxy_dropped_total{labels}"), count)?;
        }
        drop((late, bad));
        proxy.stop()?.expect_success()
    })
}

#[test]
fn flows_are_counted_from_begin_to_end() -> TestResult {
    isolated(|| {
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .args(["--close-after", "1", "--listeners", "1"])
            .start()?;
        let admin = proxy.admin()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"ping")?;
        balancer.expect(b"192.0.2.1:4000 ping")?;
        admin.wait_for_metric("glommproxy_flows_total", "1")?;
        for direction in ["upstream", "downstream"] {
            let sample = format!("glommproxy_datagrams_total{{direction=\"{direction}\"}}");
            admin.wait_for_metric(&sample, "1")?;
        }
        admin.wait_for_metric("glommproxy_flow_duration_seconds_count", "1")?;
        admin.wait_for_metric("glommproxy_flows_open", "0")?;
        proxy.stop()?.expect_success()
    })
}

/// A shard that has worked was awake, and one that sleeps does not work.
#[test]
fn work_shows_as_time_awake() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .args(["--listeners", "1"])
            .start()?;
        let admin = proxy.admin()?;
        let busy = || -> TestResult<f64> {
            let text = admin.get("/metrics")?.body;
            let sample = "glommproxy_shard_busy_seconds_total{shard=\"0\"}";
            Ok(metric(&text, sample).ok_or("no busy time")?.parse()?)
        };
        let before = busy()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let connection = Balancer::default().connect(&proxy, &header)?;
        for _ in 0..100 {
            connection.expect_echo(&[0; 10_000])?;
        }
        let after = busy()?;
        assert!(after > before, "{before} {after}");
        // However long this took, most of it was spent elsewhere or asleep.
        assert!(after < 30.0, "{after}");
        proxy.stop()?.expect_success()
    })
}
