//! The end.

use rustix::process::Signal;

use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

#[test]
fn it_ends_when_told_to_and_says_what_it_did() -> TestResult {
    isolated(|| {
        for signal in [Signal::TERM, Signal::INT] {
            let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).start()?;
            let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
            let client = Balancer::default().connect(&proxy, &header)?;
            client.expect_echo(b"hello")?;
            // An open connection does not keep it.
            proxy.signal(signal)?;
            let exit = proxy.exit()?;
            exit.expect_success()?;
            let last = exit.log.last().ok_or("no log")?;
            assert_eq!(
                (&last["message"], &last["connections"]),
                (&"stopped".into(), &1.into())
            );
            client.expect_over()?;
        }
        Ok(())
    })
}

#[test]
fn a_signal_during_the_start_ends_it_too() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for _ in 0..20 {
            // Signals are taken over before the list is read, which is the first thing that is logged.
            let proxy = Proxy::builder().args(["--listeners", "8"]).spawn()?;
            proxy.wait_for_log(|_| true)?;
            let exit = proxy.stop()?;
            exit.expect_success()?;
            assert_eq!(tables()?, before);
        }
        Ok(())
    })
}

/// Without a list there is nothing to reload, but a SIGHUP does not end it, as it would by default.
#[test]
fn sighup_without_a_list_is_harmless() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder().start()?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("reloading")?;
        proxy.stop()?.expect_success()
    })
}
