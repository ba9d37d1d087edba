//! Servers on other hosts, whose way back is for those hosts to know.

use std::net::SocketAddr;

use super::check;
use crate::harness::{TcpServer, UdpServer};
use crate::namespace::{TestResult, isolated, run};
use crate::other_host::OtherHost;
use crate::routes::tables;

/// A TCP server there, and a silent UDP server on the same port.
fn servers(host: &OtherHost) -> TestResult<(SocketAddr, UdpServer)> {
    let ip = host.v4();
    host.inside(move || {
        let tcp = TcpServer::echo(&ip)?;
        Ok((tcp, UdpServer::bind_to(tcp)?))
    })
}

#[test]
fn a_host_that_routes_its_answers_here_and_one_that_does_not() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let (server, _silent) = servers(&host)?;
        let target = server.to_string();
        let before = tables()?;
        let flags = [
            "-p",
            "both",
            "-4",
            &target,
            "-6",
            "[::1]:0",
            "--setup-routes",
        ];
        let found = check(flags)?;
        let wanted = [
            "--setup-routes can set them up",
            "on another host, which must route its answers here: 10.77.1.2",
        ];
        found.expect("routes-v4", "OK", &wanted)?;
        found.expect("server-v4-tcp", "OK", &[])?;
        let way_back = [
            "it is on another host, which must route its answers to clients to this one",
            "ip route add default via 10.77.1.1 src 10.77.1.2 table 123",
        ];
        let lost = [
            "answers us, but no answer to 203.0.113.1",
            way_back[0],
            way_back[1],
        ];
        found.expect("client-v4-tcp", "FAIL", &lost)?;
        let command = "ssh 10.77.1.2 ip route get 203.0.113.1 from 10.77.1.2";
        found.expect_commands("client-v4-tcp", &[command])?;
        let unsure = ["cannot tell", way_back[0], way_back[1]];
        found.expect("client-v4-udp", "WARN", &unsure)?;

        host.use_us_as_router()?;
        let found = check(flags)?;
        found.expect("client-v4-tcp", "OK", &["from 203.0.113.1"])?;
        found.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// Here, its owner has set up the routes; or not.
#[test]
fn this_host_without_setup_routes() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let (server, _silent) = servers(&host)?;
        let target = server.to_string();
        let flags = ["-4", &target, "-6", "[::1]:0"];
        let found = check(flags)?;
        found.expect("client-v4-tcp", "SKIP", &[])?;
        let row = found.expect("routes-v4", "FAIL", &["on another host"])?;
        for command in row["commands"].as_array().into_iter().flatten() {
            run(command.as_str().ok_or("no command")?)?;
        }
        let found = check(flags)?;
        let wanted = ["come back if they come to this host", "10.77.1.2"];
        found.expect("routes-v4", "OK", &wanted)?;
        found.expect("client-v4-tcp", "OK", &[])?;
        found.expect_success()
    })
}

#[test]
fn a_server_behind_a_router() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let router = host.v4();
        run(&format!("ip route add 198.51.100.0/24 via {router}"))?;
        host.inside(|| run("ip address add 198.51.100.7/32 dev lo").map(|_| ()))?;
        let server = host.inside(|| TcpServer::echo("198.51.100.7"))?.to_string();
        let found = check(["-4", &server, "-6", "[::1]:0", "--setup-routes"])?;
        let wanted = [&format!("behind {router}, and both must route") as &str];
        found.expect("client-v4-tcp", "FAIL", &wanted)?;
        Ok(())
    })
}

#[test]
fn no_route_leads_there() -> TestResult {
    isolated(|| {
        let wanted = ["no route from this host to the server at 198.51.100.7"];
        let flags = ["-4", "198.51.100.7:25565", "-6", "[::1]:0"];
        let found = check(flags)?;
        found.expect("routes-v4", "WARN", &wanted)?;
        found.expect("server-v4-tcp", "FAIL", &["unreachable"])?;
        found.expect_commands("server-v4-tcp", &["ip route get 198.51.100.7"])?;
        let found = check(flags.into_iter().chain(["--setup-routes"]))?;
        found.expect("routes-v4", "FAIL", &wanted)?;
        Ok(())
    })
}
