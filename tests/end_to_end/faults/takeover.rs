//! A newcomer that takes over (`--takeover`) and comes to nothing, after it has the sockets and before it is ready.

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::strace::STRACE;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::TestResult;
use crate::tool::isolated_with;

/// Stops what it executes where it first listens: a proxy of UDP does so for its successor, once its sockets are bound.
const HELD_UP: [&str; 8] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "--output=/dev/null",
    "--trace=listen",
    "--inject=listen:signal=SIGSTOP",
    "--",
];

/// Each of 20 clients comes through each of 8 balancer sockets.
fn all_are_answered(proxy: &Proxy) -> TestResult {
    for _ in 0..8 {
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for n in 1..=20 {
            let client = format!("192.0.2.{n}:4000");
            let header = Header::v2_udp(&client, "203.0.113.1:443")?;
            balancer.send(proxy, &header, b"question")?;
            balancer.expect(format!("{client} question").as_bytes())?;
        }
    }
    Ok(())
}

/// Its own sockets, which share the port already, would lose whatever came to them.
#[test]
fn datagrams_keep_to_the_sockets_of_the_old_one_until_the_newcomer_is_ready() -> TestResult {
    isolated_with(&[STRACE], || {
        for count in ["1", "2", "4"] {
            let server = UdpServer::echo("127.0.0.1")?;
            let builder = |listeners| Proxy::udp(server).args(["--listeners", listeners]);
            let old = builder(count).start()?;
            all_are_answered(&old)?;
            let newcomer = builder("4")
                .listen(&old.addr().to_string())
                .args(["--takeover"])
                .under(HELD_UP)
                .spawn()?;
            waitid(WaitId::Pid(newcomer.pid()), WaitIdOptions::STOPPED)?;
            all_are_answered(&old)?;
            drop(newcomer);
            all_are_answered(&old)?;
            let exit = old.stop()?;
            assert_eq!(exit.total("flows")?, 20, "{count} listeners");
            exit.expect_success()?;
        }
        Ok(())
    })
}
