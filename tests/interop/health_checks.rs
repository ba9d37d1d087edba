//! HAProxy's own questions whether the server is there.
//!
//! HAProxy makes them from an address of its own choice, so that it is told apart from the proxy's.

use crate::harness::Proxy;
use crate::hosts::{BALANCER_V4, add_addresses};
use crate::namespace::TestResult;
use crate::software::{Frontend, HaProxy, NginxServer};
use crate::tool::{HAPROXY, NGINX, isolated_with};

/// With version 2 they are of command LOCAL, and have no client.
#[test]
fn checks_of_version_2_are_served_from_our_own_address() -> TestResult {
    isolated_with(&[HAPROXY, NGINX], || {
        add_addresses()?;
        for options in [
            "send-proxy-v2",
            "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        ] {
            assert_eq!(visitor_of_check(options)?, "127.0.0.1");
        }
        Ok(())
    })
}

/// These checks have a header though the clients' connections have none.
#[test]
fn checks_alone_may_have_headers() -> TestResult {
    isolated_with(&[HAPROXY, NGINX], || {
        add_addresses()?;
        assert_eq!(visitor_of_check("check-send-proxy")?, BALANCER_V4);
        Ok(())
    })
}

/// With version 1 HAProxy calls itself the client.
#[test]
fn checks_of_version_1_are_served_from_the_balancers_address() -> TestResult {
    isolated_with(&[HAPROXY, NGINX], || {
        add_addresses()?;
        assert_eq!(visitor_of_check("send-proxy")?, BALANCER_V4);
        Ok(())
    })
}

/// Without a header there is no service, and the balancer can tell.
#[test]
fn checks_without_a_header_fail() -> TestResult {
    isolated_with(&[HAPROXY, NGINX], || {
        add_addresses()?;
        let server = NginxServer::start()?;
        let proxy = Proxy::tcp(server.addr_at("127.0.0.1")?).start()?;
        let mut haproxy = haproxy(&proxy, "")?;
        assert_eq!(haproxy.wait_for_check("L7RSP")?, "DOWN");
        proxy.stop()?.expect_success()
    })
}

/// Whom the server sees when HAProxy with these options asks it for a page, and is content.
fn visitor_of_check(options: &str) -> TestResult<String> {
    let mut server = NginxServer::start()?;
    let proxy = Proxy::tcp(server.addr_at("127.0.0.1")?).start()?;
    let mut haproxy = haproxy(&proxy, options)?;
    assert_eq!(haproxy.wait_for_check("L7OK")?, "UP");
    let visitor = server.wait_for_visitor("/alive")?;
    proxy.stop()?.expect_success()?;
    let (ip, _port) = visitor.split_once(' ').ok_or("no port")?;
    Ok(ip.to_owned())
}

fn haproxy(proxy: &Proxy, options: &str) -> TestResult<HaProxy> {
    let options = format!("{options} source {BALANCER_V4} check inter 100ms fall 1");
    let check = ["option httpchk GET /alive"];
    HaProxy::start(proxy.addr(), &options, Frontend::PerFamily, &check)
}
