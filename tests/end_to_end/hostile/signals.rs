//! Signals that come by the thousand, in the wrong moment, or by mistake.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Balancer, Header, NameServer, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

/// Names, lists and the access log are looked at again, as often as is sensible.
#[test]
fn a_storm_of_sighups_is_bounded_work_and_disturbs_nobody() -> TestResult {
    const TIMES: usize = 20_000;
    isolated(|| {
        let before = tables()?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).into_os_string();
        fs::write(at("allowed"), "127.0.0.0/8\n")?;
        fs::write(at("denied"), "192.0.2.66\n")?;
        let server = TcpServer::echo("127.0.0.1")?;
        let names = NameServer::start()?;
        names.write_hosts("127.0.0.1 game.internal\n")?;
        let target = format!("game.internal:{}", server.port());
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .args(["-4", &target, "-p", "both"])
            .args(["--listeners", "1"])
            .args(["--allowed-subnets".into(), at("allowed")])
            .args(["--denied-clients".into(), at("denied")])
            .args(["--access-log".into(), at("access.log")])
            .start()?;
        let reloads = |message: &str| {
            let lines = proxy.log();
            lines
                .iter()
                .filter(|line| line["message"] == message)
                .count()
        };
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("the host name has the address it had")?;
        let files = proxy.open_files()?;
        let began = Instant::now();
        for time in 0..TIMES {
            proxy.signal(Signal::HUP)?;
            if time % 1000 == 0 {
                client.expect_echo(b"hello")?;
                let port = 10_000 + time / 1000;
                let header = Header::of(&format!("192.0.2.2:{port}"))?;
                let visitor = Balancer::default().connect(&proxy, &header)?;
                visitor.expect_echo(b"hello")?;
            }
        }
        // What came last is heeded, too.
        fs::write(at("denied"), "192.0.2.66\n192.0.2.67\n")?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("denied clients reloaded")?;
        let count = reloads("reloading");
        // The one before the storm, and not more than five a second, however long it has taken.
        let count_max = 1 + began.elapsed().as_millis() / 200 + 2;
        assert!(
            count <= usize::try_from(count_max)?,
            "{count} reloads, not {count_max}"
        );
        assert!(reloads("access log reopened") <= count);
        proxy.wait_for_open_files(&files)?;
        client.expect_echo(b"hello")?;
        for _ in 0..100 {
            proxy.signal(Signal::HUP)?;
        }
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// They mean something to nginx and to HAProxy. The kernel would end a process that does not know them, on the spot.
#[test]
fn signals_without_a_meaning_are_told_of_and_do_nothing() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--drain-timeout", "600"])
            .start()?;
        let client = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        let told = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("SIGUSR1 and SIGUSR2 mean nothing here")
        };
        for signal in [Signal::USR1, Signal::USR2, Signal::PIPE] {
            for _ in 0..1000 {
                proxy.signal(signal)?;
            }
            client.expect_echo(b"hello")?;
        }
        proxy.wait_for_log(told)?;
        let lines = proxy.log();
        let count = lines.iter().filter(|line| told(line)).count();
        assert!(count < 100, "{count} lines");
        // Nor do they end a drain.
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("draining")?;
        proxy.signal(Signal::USR1)?;
        client.expect_echo(b"still here")?;
        drop(client);
        proxy.exit()?.expect_success()
    })
}

/// The old one stands still while the newcomer asks for its sockets, so that the signal comes first.
#[test]
fn a_newcomer_that_is_told_to_stop_leaves_the_service_to_the_old_one() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let server = TcpServer::echo("127.0.0.1")?;
        let builder = || Proxy::tcp(server).args(["-p", "both", "--listeners", "2"]);
        let old = builder().args(["--drain-timeout", "600"]).start()?;
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        let with_old = tables()?;
        for signal in [Signal::TERM, Signal::INT] {
            let mut newcomer = None;
            old.at_once(|| {
                let started = builder()
                    .args(["--takeover"])
                    .listen(&old.addr().to_string())
                    .spawn()?;
                started.wait_for_log(|_| true)?;
                started.signal(signal)?;
                newcomer = Some(started);
                Ok(())
            })?;
            let exit = newcomer.ok_or("no newcomer")?.exit()?;
            exit.expect_success()?;
            assert!(exit.log.iter().all(|line| line["message"] != "ready"));
            client.expect_echo(b"still here")?;
            let other = Balancer::default().connect(&old, &Header::of("192.0.2.2:4000")?)?;
            other.expect_echo(b"hello")?;
            other.reset()?;
            assert_eq!(tables()?, with_old);
        }
        assert!(old.log().iter().all(|line| line["message"] != "draining"));
        // And it can be taken over still.
        let newcomer = builder()
            .args(["--takeover"])
            .listen(&old.addr().to_string())
            .start()?;
        old.wait_for_message("draining")?;
        drop(client);
        old.exit()?.expect_success()?;
        newcomer.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}
