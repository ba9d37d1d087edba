//! What is not named is left alone.

use crate::harness::{Proxy, UdpServer};
use crate::namespace::{TestResult, isolated, run};

/// The default of a target is port 443, where another server of the host may speak QUIC.
#[test]
fn a_target_that_is_not_named_gets_no_rule_for_wildcard_servers() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        assert!(run("ip rule")?.contains("ipproto udp"));
        assert!(!run("ip -6 rule")?.contains("ipproto udp"));
        proxy.stop()?.expect_success()
    })
}
