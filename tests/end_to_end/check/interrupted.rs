//! A check that is ended before it is over.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{PATIENCE, Proxy, UdpServer};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

/// The lines that were not there before.
fn added<'a>(before: &str, after: &'a str) -> Vec<&'a str> {
    let known: Vec<&str> = before.lines().collect();
    let lines = after.lines().filter(|line| !known.contains(line));
    lines.collect()
}

#[test]
fn it_touches_no_traffic_and_leaves_nothing_behind() -> TestResult {
    isolated(|| {
        // Its silence keeps the check waiting for a second.
        let silent = UdpServer::bind("127.0.0.1")?;
        let server = silent.addr()?.to_string();
        let before = tables()?;
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let check = Proxy::builder().bare();
            let check = check.args(["check", "-p", "udp", "-4", &server, "--setup-routes"]);
            let check = check.spawn()?;
            let deadline = Instant::now() + PATIENCE;
            let mut rehearsed = tables()?;
            while rehearsed == before {
                assert!(Instant::now() < deadline, "nothing is rehearsed");
                thread::sleep(Duration::from_millis(1));
                rehearsed = tables()?;
            }
            for line in added(&before, &rehearsed) {
                let absent = line.contains("203.0.113.1 ") || line.contains("2001:db8::1 ");
                assert!(
                    absent,
                    "\"{line}\" is for more than a client that does not exist"
                );
            }
            check.signal(signal)?;
            let exit = check.exit()?;
            assert_eq!(
                exit.code, None,
                "the signal ends it, once it has cleaned up"
            );
            assert_eq!(tables()?, before, "after {signal:?}");
        }
        Ok(())
    })
}
