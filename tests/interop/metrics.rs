//! The metrics as Prometheus reads them.

use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::TestResult;
use crate::software::Prometheus;
use crate::tool::{PROMETHEUS, isolated_with};

#[test]
fn prometheus_scrapes_without_complaint() -> TestResult {
    isolated_with(&[PROMETHEUS], || {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--admin", "127.0.0.1:0", "--listeners", "2"])
            .start()?;
        let mut prometheus = Prometheus::start(proxy.admin()?.addr())?;
        let (health, error) = prometheus.wait_for_target()?;
        assert_eq!((health.as_str(), error.as_str()), ("up", ""));

        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?.then(b"ping");
        let connection = Balancer::default().connect(&proxy, &header)?;
        connection.expect(b"ping")?;
        for (query, wanted) in [
            ("up", "1"),
            ("glommproxy_ready", "1"),
            ("glommproxy_connections_open", "1"),
            ("glommproxy_connections_total", "1"),
            ("sum(glommproxy_relayed_bytes_total)", "8"),
            ("glommproxy_dial_duration_seconds_bucket{le=\"+Inf\"}", "1"),
            ("count(glommproxy_shard_busy_seconds_total)", "2"),
            ("count(glommproxy_build_info)", "1"),
        ] {
            prometheus.wait_for(&query.replace('+', "%2B"), wanted)?;
        }
        // Read as OpenMetrics: the older format knows no units, and has `_total` in the names of counters.
        let about = prometheus.metadata("glommproxy_relayed_bytes")?;
        assert_eq!(
            (&about["type"], &about["unit"]),
            (&"counter".into(), &"bytes".into())
        );
        proxy.stop()?.expect_success()
    })
}

/// What the text would be if it were wrong is noticed: the test above can fail.
#[test]
fn prometheus_complains_of_what_is_no_metrics() -> TestResult {
    isolated_with(&[PROMETHEUS], || {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).start()?;
        let mut prometheus = Prometheus::start(proxy.addr())?;
        let (health, error) = prometheus.wait_for_target()?;
        assert_eq!(health, "down");
        assert!(!error.is_empty());
        proxy.stop()?.expect_success()
    })
}
