//! Names that come to nothing.

use std::fs;

use rustix::process::Signal;

use super::{CLIENT, NAME, connect, tcp_proxy};
use crate::harness::{NameServer, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

const KEPT: &str = "the server's old address stays in use";

#[test]
fn a_start_names_the_flag_and_the_value() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        names.set("v6only.internal", &["2001:db8::7"])?;
        names.set("blocked.internal", &["0.0.0.0", "::"])?;
        let before = tables()?;
        for (flag, value, words) in [
            ("-4", "nowhere.internal:25565", "cannot be looked up"),
            ("--ipv4", "v6only.internal:25565", "cannot be looked up"),
            ("-6", "nowhere.internal:25565", "cannot be looked up"),
            (
                "-4",
                "blocked.internal:1",
                "has no IPv4 address of a server",
            ),
            (
                "-6",
                "blocked.internal:1",
                "has no IPv6 address of a server",
            ),
        ] {
            let proxy = Proxy::builder().under(names.wrapper());
            let exit = proxy.args([flag, value]).start_in_vain()?;
            exit.expect_failure(&[&format!("{flag} \"{value}\" "), words, "want a host name"])?;
        }
        let variable = "GLOMMPROXY_TARGET_V4";
        let proxy = Proxy::builder().under(names.wrapper());
        let exit = proxy
            .env(variable, "nowhere.internal:25565")
            .start_in_vain()?;
        exit.expect_failure(&[variable, "\"nowhere.internal:25565\""])?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn a_start_does_not_wait_for_ever() -> TestResult {
    isolated(|| {
        let names = NameServer::silent()?;
        let proxy = Proxy::builder().under(names.wrapper());
        let exit = proxy.args(["-4", "game.internal:25565"]).start_in_vain()?;
        exit.expect_failure(&["-4 \"game.internal:25565\" was not found within 10 s"])
    })
}

#[test]
fn a_start_that_waits_can_be_stopped() -> TestResult {
    isolated(|| {
        let names = NameServer::silent()?;
        let proxy = Proxy::builder().under(names.wrapper());
        let proxy = proxy.args(["-4", "game.internal:25565"]).spawn()?;
        // It says so just before.
        proxy.wait_for_log(|line| {
            line["message"]
                .as_str()
                .is_some_and(|it| it.contains("--allowed-subnets"))
        })?;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert!(exit.log.iter().any(|line| line["message"] == "stopping"));
        Ok(())
    })
}

#[test]
fn after_sighup_the_old_address_stays_in_use() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let server = TcpServer::echo("127.0.0.7")?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = tcp_proxy(&names, server.port())?;
        names.set(NAME, &["::1"])?;
        proxy.signal(Signal::HUP)?;
        let line = proxy.wait_for_message(KEPT)?;
        assert_eq!(line["level"], "WARN");
        let error = line["error"].as_str().ok_or("no error")?;
        assert!(
            error.contains(&format!("-4 \"{NAME}:{}\"", server.port())),
            "{error}"
        );
        connect(&proxy, CLIENT.0)?.expect_echo(b"still here")?;
        proxy.stop()?.expect_success()
    })
}

/// Nothing leads to the new address, and so no routes can be set up for it.
#[test]
fn an_address_out_of_reach_is_not_used() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let server = TcpServer::echo("127.0.0.7")?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = tcp_proxy(&names, server.port())?;
        let before = tables()?;
        names.set(NAME, &["198.51.100.7"])?;
        for attempt in 1..=2 {
            proxy.signal(Signal::HUP)?;
            let lines = proxy.wait_for_logs(attempt, |line| {
                line["message"]
                    == "no routes for the server's new address: the old one stays in use"
            })?;
            let error = lines[0]["error"].as_str().ok_or("no error")?;
            assert!(error.contains("no route from this host to the server at 198.51.100.7"));
        }
        connect(&proxy, CLIENT.0)?.expect_echo(b"still here")?;
        assert_eq!(tables()?, before);
        proxy.stop()?.expect_success()
    })
}

/// Everything else goes on meanwhile.
#[test]
fn a_lookup_that_takes_long_is_in_nobodys_way() -> TestResult {
    isolated(|| {
        let names = NameServer::silent()?;
        let server = TcpServer::echo("127.0.0.7")?;
        names.write_hosts(&format!("127.0.0.7 {NAME}\n"))?;
        let proxy = tcp_proxy(&names, server.port())?;
        names.write_hosts("")?;
        for times in 1..=3 {
            proxy.signal(Signal::HUP)?;
            proxy.wait_for_logs(times, |line| line["message"] == "reloading")?;
            connect(&proxy, CLIENT.0)?.expect_echo(b"hello")?;
        }
        let threads = fs::read_dir(format!("/proc/{}/task", proxy.pid().as_raw_nonzero()))?;
        let names = threads.map(|it| Ok(fs::read_to_string(it?.path().join("comm"))?));
        let names = names.collect::<TestResult<Vec<String>>>()?;
        let lookups = names.iter().filter(|name| name.trim() == "lookup").count();
        assert_eq!(lookups, 1, "{names:?}");
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert!(
            exit.log.iter().all(|line| line["message"] != KEPT),
            "it was still waiting"
        );
        Ok(())
    })
}
