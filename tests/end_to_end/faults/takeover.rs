//! A newcomer that takes over (`--takeover`) and comes to nothing, after it has the sockets and before it is ready.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use super::strace::STRACE;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, run};
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

/// Whoever asks for the sockets waits until there are descriptors again, and nobody with him.
#[test]
fn a_newcomer_at_the_door_of_one_without_descriptors_keeps_it_from_nothing() -> TestResult {
    isolated_with(&[], || {
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?).start()?;
        let pid = proxy.pid().as_raw_nonzero();
        run(&format!("prlimit --pid {pid} --nofile=3:"))?;
        let newcomer = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
        let door = SocketAddrUnix::new_abstract_name(b"glommproxy-takeover-0")?;
        connect(&newcomer, &door)?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("reloading")?;
        // It needs some for its end.
        run(&format!("prlimit --pid {pid} --nofile=200:"))?;
        proxy.stop()?.expect_success()
    })
}
