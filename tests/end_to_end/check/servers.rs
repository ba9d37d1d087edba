//! The server, as this host and as clients see it.

use std::net::UdpSocket;
use std::thread;

use super::check;
use crate::harness::{TcpServer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// An address where nobody listens.
const NOBODY: &str = "127.0.0.1:9";

#[test]
fn nobody_listens() -> TestResult {
    isolated(|| {
        let found = check([
            "-p",
            "both",
            "-4",
            NOBODY,
            "-6",
            "[::1]:9",
            "--setup-routes",
        ])?;
        for (family, flag) in [("v4", "with -4"), ("v6", "with -6")] {
            let wanted = ["nobody listens there", flag];
            found.expect(&format!("server-{family}-tcp"), "FAIL", &wanted)?;
            found.expect(&format!("client-{family}-tcp"), "SKIP", &[])?;
            found.expect(&format!("client-{family}-udp"), "FAIL", &wanted)?;
        }
        let found = check(["-p", "udp", "-4", NOBODY])?;
        // Without routes as well.
        found.expect("client-v4-udp", "FAIL", &["nobody listens there"])?;
        Ok(())
    })
}

/// What nobody named is no reason to fail, but worth a look.
#[test]
fn nobody_listens_where_nobody_said_so() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let found = check(["-4", &server, "--setup-routes"])?;
        found.expect("server-v6-tcp", "WARN", &["[::1]:443", "nobody named it"])?;
        found.expect_success()?;
        let found = check(["-4", &server, "-6", "[::1]:0", "--setup-routes"])?;
        found.expect("routes-v6", "SKIP", &["-6 says that there is no server"])?;
        assert_eq!(found.all("WARN"), ["allowed-subnets"]);
        found.expect_success()?;
        // With neither named, the defaults are what was meant.
        let found = check(["--setup-routes"])?;
        found.expect("server-v4-tcp", "FAIL", &["127.0.0.1:443"])?;
        Ok(())
    })
}

/// It would listen where it sends to.
#[test]
fn the_server_is_the_proxy_itself() -> TestResult {
    isolated(|| {
        let found = check(["-l", "0.0.0.0:25565", "-4", "127.0.0.1:25565"])?;
        found.expect("itself-v4", "FAIL", &["127.0.0.1:25565", "itself"])?;
        // Nobody named it.
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let found = check(["-l", "[::]:443", "-4", &server, "--setup-routes"])?;
        found.expect("itself-v6", "WARN", &["[::1]:443", "listen on"])?;
        found.expect_success()
    })
}

#[test]
fn one_port_of_a_range_has_no_server() -> TestResult {
    isolated(|| {
        let _first = TcpServer::bind_to("127.0.0.1:3456".parse()?)?;
        let _last = TcpServer::bind_to("127.0.0.1:3458".parse()?)?;
        let target = "127.0.0.1:3456-3458";
        let found = check(["-l", "127.0.0.1:2456-2458", "-4", target, "--setup-routes"])?;
        found.expect("server-v4-tcp", "FAIL", &["127.0.0.1:3457: nobody"])?;
        found.expect("client-v4-tcp", "SKIP", &["127.0.0.1:3457: "])?;
        Ok(())
    })
}

#[test]
fn of_thousands_of_ports_some_are_tried() -> TestResult {
    isolated(|| {
        let found = check(["-l", "127.0.0.1:10000-13999", "-4", "127.0.0.1:20000-23999"])?;
        let wanted = ["127.0.0.1:20000-20063", "3936 more were not tried"];
        found.expect("server-v4-tcp", "FAIL", &wanted)?;
        Ok(())
    })
}

#[test]
fn a_udp_server_that_keeps_silent() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let target = server.addr()?.to_string();
        let found = check(["-p", "udp", "-4", &target, "--setup-routes"])?;
        found.expect(
            "client-v4-udp",
            "WARN",
            &["no answer within 1 s", "cannot tell"],
        )?;
        found.expect_success()?;
        // One from our own address and one from the client's, both empty.
        let mut from = [server.receive()?, server.receive()?].map(|it| {
            assert_eq!(it.payload, b"");
            it.from.ip().to_string()
        });
        from.sort();
        assert_eq!(from, ["127.0.0.1", "203.0.113.1"]);
        server.expect_nothing()
    })
}

/// As one behind a firewall that lets nothing but this host through.
#[test]
fn a_udp_server_that_answers_this_host_only() -> TestResult {
    isolated(|| {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let target = server.local_addr()?.to_string();
        thread::spawn(move || {
            while let Ok((_, from)) = server.recv_from(&mut [0]) {
                if from.ip().is_loopback() {
                    let _ = server.send_to(b"answer", from);
                }
            }
        });
        let found = check(["-p", "udp", "-4", &target, "--setup-routes"])?;
        let wanted = [
            "answers us",
            "no answer to 203.0.113.1 comes back within 1 s",
        ];
        found.expect("client-v4-udp", "FAIL", &wanted)?;
        Ok(())
    })
}

/// What headers name is elsewhere.
#[test]
fn nobody_listens_where_few_are_led() -> TestResult {
    isolated(|| {
        let flags = ["-4", NOBODY, "-6", "[::1]:0", "--dynamic-destination"];
        let found = check(flags.into_iter().chain(["--setup-routes"]))?;
        let wanted = ["nobody listens there", "headers without a client"];
        found.expect("server-v4-tcp", "WARN", &wanted)?;
        found.expect_success()
    })
}

/// The second time the client's port may still be taken.
#[test]
fn the_clients_port_tells_nothing() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        for _ in 0..3 {
            let flags = ["-4", &server, "--setup-routes", "--source-port", "strict"];
            check(flags)?.expect("client-v4-tcp", "OK", &[])?;
        }
        Ok(())
    })
}
