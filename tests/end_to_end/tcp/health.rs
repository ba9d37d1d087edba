//! Health checks of balancers. They come every few seconds for ever, so nothing of them is worth a line.

use serde_json::Value;

use super::NO_HEADER_TIMEOUT;
use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn health_checks_are_no_errors() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "2"])
            .args(NO_HEADER_TIMEOUT)
            .start()?;

        // Bare: connected, closed.
        let check = Balancer::default().connect(&proxy, &Header::none())?;
        check.finish()?;
        check.expect_end()?;
        // As HAProxy closes them: with a reset, so that nothing stays in TIME_WAIT.
        Balancer::default()
            .connect(&proxy, &Header::none())?
            .reset()?;
        // With a header that says so: these reach the server.
        for header in [
            Header::v2_local_bare(),
            Header::v2_local()?,
            Header::v1_unknown(),
        ] {
            let check = Balancer::default().connect(&proxy, &header)?;
            let session = server.accept()?;
            check.finish()?;
            session.expect_end()?;
            session.finish()?;
            check.expect_end()?;

            let check = Balancer::default().connect(&proxy, &header)?;
            let session = server.accept()?;
            check.reset()?;
            session.expect_reset()?;
        }

        // The errors of `-v 1` are at the level DEBUG; what `-v 2` adds is at TRACE.
        let checks = 2 + 2 * 3;
        let ends = ["closed", "closed without a byte", "connection dropped"];
        let is_end = |line: &Value| ends.iter().any(|end| line["message"] == *end);
        proxy.wait_for_logs(checks, is_end)?;
        for line in proxy.stop()?.log_since_ready() {
            assert_eq!(line["level"], "TRACE", "{line}");
        }
        Ok(())
    })
}
