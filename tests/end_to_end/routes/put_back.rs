//! What somebody removes while it runs is there again after SIGHUP.

use rustix::process::Signal;
use serde_json::Value;

use super::{expect_service, tables};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated, run};
use crate::other_host::OtherHost;

const PUT_BACK: &str = "missing rules and routes put back";
const CANNOT: &str = "cannot put the routes back";

/// As systemd-networkd does when it is started again.
fn remove_all() -> TestResult {
    run(
        "for family in -4 -6; do while ip $family rule del priority 900 2> /dev/null; do :; done; \
         ip $family route flush table 123; done",
    )?;
    Ok(())
}

fn count(log: &[Value], message: &str) -> usize {
    log.iter().filter(|line| line["message"] == message).count()
}

/// With names it is the same, whether they have moved or not.
#[test]
fn sighup_puts_back_what_was_removed() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let before = tables()?;
        for server in [v4.to_string(), format!("localhost:{}", v4.port())] {
            let proxy = Proxy::builder().args(["-4", &server]).and(v6).start()?;
            let with = tables()?;
            for round in 1..=2 {
                remove_all()?;
                assert_eq!(tables()?, before);
                proxy.signal(Signal::HUP)?;
                let lines = proxy.wait_for_logs(round, |line| line["message"] == PUT_BACK)?;
                assert_eq!(lines[round - 1]["count"], 4, "{lines:?}");
                assert_eq!(lines[round - 1]["level"], "INFO");
                assert_eq!(tables()?, with);
                expect_service(&proxy)?;
            }
            proxy.stop()?.expect_success()?;
            assert_eq!(tables()?, before);
        }
        Ok(())
    })
}

#[test]
fn sighup_leaves_alone_what_is_there() -> TestResult {
    isolated(|| {
        let (v4, v6) = (TcpServer::echo("127.0.0.1")?, TcpServer::echo("::1")?);
        let before = tables()?;
        let proxy = Proxy::tcp(v4).and(v6).start()?;
        let with = tables()?;
        for round in 1..=3 {
            proxy.signal(Signal::HUP)?;
            proxy.wait_for_logs(round, |line| line["message"] == "reloading")?;
        }
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(count(&exit.log, PUT_BACK) + count(&exit.log, CANNOT), 0);
        assert_eq!(tables()?, before);
        assert_ne!(with, before);
        Ok(())
    })
}

/// A container's network that is made anew has the same addresses, and another interface.
#[test]
fn sighup_follows_an_interface_that_was_made_anew() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let v4 = host.v4();
        let server = host.inside(move || TcpServer::echo(&v4))?;
        let before = tables()?;
        let proxy = Proxy::tcp(server).start()?;
        run(&format!(
            "ip link set {0} down && ip link set {0} name anew && ip link set anew up",
            host.interface()
        ))?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message(PUT_BACK)?;
        let rules = run("ip rule")?;
        assert!(
            rules.contains(&format!("from {} iif anew", host.v4())),
            "{rules}"
        );
        proxy.stop()?.expect_success()?;
        assert!(!run("ip rule")?.contains("proto 77"), "{before}");
        Ok(())
    })
}

#[test]
fn a_server_that_is_unreachable_now_gets_its_rules_back() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let proxy = Proxy::tcp(format!("{}:9001", host.v4()).parse()?).start()?;
        let with = tables()?;
        remove_all()?;
        run(&format!("ip link set {} down", host.interface()))?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message(PUT_BACK)?;
        let no_route = "there is no route from this host to the server at";
        let line = proxy.wait_for_message(&format!("{no_route} {}", host.v4()))?;
        assert_eq!(line["level"], "WARN");
        let rules = run("ip rule")?;
        assert!(
            rules.contains(&format!("from {}", host.v4())),
            "{rules} {with}"
        );
        proxy.stop()?.expect_success()
    })
}
