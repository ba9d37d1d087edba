//! Without `--setup-routes`: what start-up says is missing is what is missing.

use serde_json::Value;

use super::expect_service;
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated, run};

pub(crate) const MISSING: &str =
    "the server's replies would not come back: add --setup-routes, or run these commands";
const MISSING_FOR_WILDCARD: &str =
    "a UDP server bound to 0.0.0.0 or [::] needs --setup-routes, or these commands as well";

/// Types the commands of a log line.
pub(crate) fn obey(line: &Value) -> TestResult {
    let commands = line["commands"].as_str().ok_or("no commands")?;
    run(&format!("set -e; {commands}"))?;
    Ok(())
}

pub(crate) fn says(log: &[Value], message: &str) -> bool {
    log.iter().any(|line| line["message"] == message)
}

#[test]
fn the_commands_it_prints_make_tcp_work() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let start = || {
            let proxy = Proxy::tcp(v4).and(v6).without_routes();
            proxy.args(["-v", "1", "--connect-timeout", "0.2"]).start()
        };
        let proxy = start()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_over()?;
        proxy.wait_for_message("connection dropped")?;

        let missing = proxy.wait_for_message(MISSING)?;
        assert_eq!(missing["level"], "WARN");
        obey(&missing)?;
        expect_service(&proxy)?;
        proxy.stop()?.expect_success()?;

        let satisfied = start()?;
        assert!(!says(&satisfied.log(), MISSING));
        expect_service(&satisfied)
    })
}

#[test]
fn the_commands_it_prints_make_udp_servers_on_the_wildcard_work() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("0.0.0.0")?;
        let start = || Proxy::udp(server).without_routes().start();
        let proxy = start()?;
        obey(&proxy.wait_for_message(MISSING)?)?;
        obey(&proxy.wait_for_message(MISSING_FOR_WILDCARD)?)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"ping")?;
        balancer.expect(b"192.0.2.1:4000 ping")?;

        let log = start()?.log();
        assert!(!says(&log, MISSING) && !says(&log, MISSING_FOR_WILDCARD));
        Ok(())
    })
}

#[test]
fn a_quiet_start_does_not_look() -> TestResult {
    isolated(|| {
        for flag in ["-q", "--quiet"] {
            let proxy = Proxy::builder().without_routes().args([flag]);
            let log = proxy.start()?.log();
            assert!(!says(&log, MISSING) && !says(&log, MISSING_FOR_WILDCARD));
        }
        Ok(())
    })
}

/// Whoever sets the routes up needs CAP_NET_ADMIN; the proxy then does not.
#[test]
fn cap_net_raw_alone_is_enough() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let proxy = Proxy::tcp(v4)
            .and(v6)
            .without_routes()
            .under(["setpriv", "--bounding-set", "-all,+net_raw"])
            .start()?;
        obey(&proxy.wait_for_message(MISSING)?)?;
        expect_service(&proxy)?;
        proxy.stop()?.expect_success()
    })
}
