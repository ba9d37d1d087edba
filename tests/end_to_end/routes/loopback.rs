//! Loopback lacks a family: no route of it can be set up, and that is said.

use rustix::process::Signal;
use serde_json::Value;

use super::by_hand::{obey, says};
use super::tables;
use crate::harness::Proxy;
use crate::namespace::{TestResult, isolated, run};

const SET_UP: &str = "routes set up";

/// An interface that is up, with an address of each family.
fn add_interface() -> TestResult {
    run(
        "ip link add bridge0 type bridge && ip link set bridge0 up && ip address add 10.9.0.1/24 dev bridge0 && \
         ip address add fd00::1/64 dev bridge0 nodad",
    )?;
    Ok(())
}

fn lacks(line: &Value, family: &str) -> bool {
    let message = line["message"].as_str().unwrap_or_default();
    message.starts_with(&format!("loopback has no {family} address"))
}

#[test]
fn a_loopback_that_was_never_up() -> TestResult {
    isolated(|| {
        add_interface()?;
        // As it is in a new namespace.
        run("ip address del 127.0.0.1/8 dev lo && ip link set lo down")?;
        let before = tables()?;
        for setup in [true, false] {
            let proxy = Proxy::builder().listen("10.9.0.1:0");
            let proxy = if setup { proxy } else { proxy.without_routes() };
            let proxy = proxy.args(["-4", "10.9.0.2:9001"]).start()?;
            let warning = proxy.wait_for_log(|line| lacks(line, "IPv4"))?;
            assert_eq!(warning["level"], "WARN");
            assert_eq!(warning["commands"], "ip link set lo up");
            let log = proxy.log();
            assert!(!says(&log, SET_UP), "{log:#?}");
            assert!(
                !log.iter().any(|line| lacks(line, "IPv6")),
                "it was not named"
            );
            assert_eq!(tables()?, before);
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn a_loopback_without_ipv6() -> TestResult {
    isolated(|| {
        add_interface()?;
        run("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")?;
        let start = || Proxy::builder().args(["-6", "[fd00::1]:9001"]).start();
        let proxy = start()?;
        let warning = proxy.wait_for_log(|line| lacks(line, "IPv6"))?;
        let set_up = proxy.wait_for_message(SET_UP)?;
        assert_eq!(set_up["families"], "IPv4");
        assert!(!run("ip -6 rule")?.contains("proto 77"));

        obey(&warning)?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("missing rules and routes put back")?;
        assert!(run("ip -6 rule")?.contains("proto 77"));
        proxy.stop()?.expect_success()?;
        assert!(!run("ip -6 rule")?.contains("proto 77"));

        let proxy = start()?;
        let set_up = proxy.wait_for_message(SET_UP)?;
        assert_eq!(set_up["families"], "IPv4, IPv6");
        assert!(!proxy.log().iter().any(|line| lacks(line, "IPv6")));
        assert!(run("ip -6 rule")?.contains("proto 77"));
        proxy.stop()?.expect_success()
    })
}

/// What hosts without IPv6 do with the default of `-6`.
#[test]
fn a_family_that_nobody_named_is_not_missed() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let proxy = Proxy::builder().args(["-4", "127.0.0.1:9001"]).start()?;
        let set_up = proxy.wait_for_message(SET_UP)?;
        assert_eq!(set_up["families"], "IPv4");
        assert!(
            !proxy
                .log()
                .iter()
                .any(|line| line["level"] == "WARN" && lacks(line, "IPv6"))
        );
        proxy.stop()?.expect_success()
    })
}
