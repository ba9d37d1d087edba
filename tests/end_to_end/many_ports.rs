//! Several listening addresses, and ranges of ports, in one process.

use std::fs;
use std::net::SocketAddr;

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";
const DESTINATION: &str = "203.0.113.1:443";
const DESTINATION_V6: &str = "[2001:db8::443]:443";

fn threads(proxy: &Proxy) -> TestResult<usize> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid().as_raw_pid()))?;
    Ok(tasks.count())
}

/// A connection through this port, and one datagram, end at servers on that port, and their answers come back.
fn assert_served(proxy: &Proxy, port: u16, server_port: u16) -> TestResult {
    for (ip, client, destination) in [
        ("127.0.0.1", CLIENT, DESTINATION),
        ("::1", CLIENT_V6, DESTINATION_V6),
    ] {
        let at = SocketAddr::new(ip.parse()?, server_port);
        let addr = proxy.addr_on(port);
        let server = TcpServer::bind_to(at)?;
        let header = Header::v2(client, destination)?;
        let downstream = Balancer::default().connect_to(addr, &header)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, client.parse()?);
        downstream.expect_talk(&session)?;

        // As most game servers are bound.
        let any = if ip == "::1" { "::" } else { "0.0.0.0" };
        let server = UdpServer::bind_to(SocketAddr::new(any.parse()?, server_port))?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send_to(addr, &Header::v2_udp(client, destination)?, b"question")?;
        server.expect(client, b"question")?;
        server.send(client.parse()?, b"answer")?;
        assert_eq!(balancer.expect(b"answer")?.from, addr);
    }
    Ok(())
}

#[test]
fn hundreds_of_ports_take_no_thread_and_no_set_up_each() -> TestResult {
    isolated(|| {
        let both = ["-p", "both", "--listeners", "2", "-v", "2"];
        let one = Proxy::builder().args(both).start()?;
        let threads_for_one = threads(&one)?;
        one.stop()?.expect_success()?;

        let proxy = Proxy::builder()
            .listen("0.0.0.0:2000-2299")
            .args(["-4", "127.0.0.1:3000-3299", "-6", "[::1]:3000-3299"])
            .args(both)
            .start()?;
        assert_eq!(threads(&proxy)?, threads_for_one);
        // One rule for all ports, and one for loopback, of each family.
        let ours = run("(ip rule; ip -6 rule) | grep -c 'proto 77'")?;
        assert_eq!(ours.trim(), "4");
        for port in [2000, 2150, 2299] {
            assert_served(&proxy, port, port + 1000)?;
            let listen_addr = format!("0.0.0.0:{port}");
            proxy.wait_for_log(|line| {
                line["message"] == "flow opened" && line["listen_addr"] == *listen_addr
            })?;
        }
        let ready = proxy.wait_for_message("ready")?;
        assert_eq!(ready["listen_addr"], "0.0.0.0:2000-2299");
        assert_eq!(ready["target_v4"], "127.0.0.1:3000-3299");
        assert_eq!(ready["ports"], 300);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn addresses_are_typed_one_by_one_or_with_commas() -> TestResult {
    isolated(|| {
        for [listen, target] in [["-l", "-4"], ["--listen", "--ipv4"]] {
            let proxy = Proxy::builder()
                .listen("127.0.0.1:2000")
                .args([listen, "0.0.0.0:2001-2002,[::1]:2005"])
                .args([target, "127.0.0.1:3000", target, "127.0.0.1:3001-3002"])
                .args([target, "127.0.0.1:3005", "-6", "[::1]:3000"])
                .args(["-p", "both", "--listeners", "2"])
                .start()?;
            for (addr, server_port) in [
                ("127.0.0.1:2000", 3000),
                ("127.0.0.1:2002", 3002),
                ("[::1]:2001", 3001),
                ("[::1]:2005", 3005),
            ] {
                let server = TcpServer::bind_to(([127, 0, 0, 1], server_port).into())?;
                let header = Header::of(CLIENT)?;
                let downstream = Balancer::default().connect_to(addr.parse()?, &header)?;
                downstream.expect_talk(&server.accept()?)?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// Go's flags would not get here: the last `-l` would count alone.
#[test]
fn the_environment_names_several() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .bare()
            .env("GLOMMPROXY_LISTEN", "127.0.0.1:2000,127.0.0.1:2002")
            .env("GLOMMPROXY_TARGET_V4", "127.0.0.1:3000,127.0.0.1:3002")
            .args(["--setup-routes", "--log-format", "json"])
            .start()?;
        let server = TcpServer::bind_to(([127, 0, 0, 1], 3002).into())?;
        let header = Header::of(CLIENT)?;
        let downstream = Balancer::default().connect_to(proxy.addr_on(2002), &header)?;
        downstream.expect_talk(&server.accept()?)?;
        Ok(())
    })
}

/// To the server they are one peer, and its answers are for the latest of both.
#[test]
fn one_client_through_two_ports_to_one_server_is_one_flow() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("127.0.0.1:2000-2001")
            .args(["--listeners", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, DESTINATION)?;
        for port in [2000, 2001, 2000] {
            let addr = proxy.addr_on(port);
            balancer.send_to(addr, &header, b"question")?;
            server.expect(CLIENT, b"question")?;
            server.send(CLIENT.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, addr);
        }
        // Without a client there are two of them: their sockets are the proxy's own.
        for port in [2000, 2001] {
            let addr = proxy.addr_on(port);
            balancer.send_to(addr, &Header::v2_local_bare(), b"health")?;
            let asked = server.receive()?;
            server.send(asked.from, b"well")?;
            assert_eq!(balancer.expect(b"well")?.from, addr);
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// All at once, so that datagrams of many ports are in one turn, and replies through many ports in one batch.
#[test]
fn replies_of_many_ports_leave_through_their_own() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("127.0.0.1")?;
        let proxy = Proxy::udp(server)
            .listen("127.0.0.1:2000-2099")
            .args(["--listeners", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for round in 0..5 {
            for port in 2000..2100 {
                let header = Header::v2_udp(&format!("192.0.2.1:{port}"), DESTINATION)?;
                let payload = format!("{round} {port}");
                balancer.send_to(proxy.addr_on(port), &header, payload.as_bytes())?;
            }
            let mut seen = Vec::new();
            for _ in 0..100 {
                let reply = balancer.receive()?;
                let port = reply.from.port();
                let want = format!("192.0.2.1:{port} {round} {port}");
                assert_eq!(String::from_utf8(reply.payload)?, want);
                seen.push(port);
            }
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(2000..2100), "{seen:?}");
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 100);
        exit.expect_success()
    })
}

#[test]
fn the_cap_of_flows_is_for_all_ports_together() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("127.0.0.1:2000-2009")
            .args(["--listeners", "1", "--max-flows", "4"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for port in 2000..2010 {
            let client = format!("192.0.2.1:{port}");
            let header = Header::v2_udp(&client, DESTINATION)?;
            balancer.send_to(proxy.addr_on(port), &header, b"question")?;
            server.expect(&client, b"question")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 10);
        assert_eq!(exit.total("flows_evicted")?, 6);
        exit.expect_success()
    })
}

#[test]
fn what_does_not_fit_together_is_told() -> TestResult {
    isolated(|| {
        let start = |listen: &str, args: &[&str]| {
            Proxy::builder().listen(listen).args(args).start_in_vain()
        };
        start("0.0.0.0:2456-2458", &["-4", "127.0.0.1:3456-3457"])?.expect_failure(&[
            r#"-l "0.0.0.0:2456-2458" has 3 ports and -4 "127.0.0.1:3456-3457" has 2"#,
        ])?;
        start("0.0.0.0:2456-2458", &["-l", "127.0.0.1:2457"])?.expect_failure(&[
            r#"-l "0.0.0.0:2456-2458" and "127.0.0.1:2457" overlap at port 2457"#,
        ])?;
        let holder = TcpServer::bind_to(([127, 0, 0, 1], 2457).into())?;
        start("127.0.0.1:2456-2458", &[])?.expect_failure(&[
            "cannot listen on tcp 127.0.0.1:2457",
            "another process has the port",
        ])?;
        drop(holder);
        Ok(())
    })
}

/// Each listening socket is a descriptor of every shard.
#[test]
fn too_many_ports_for_the_limit_of_open_files_are_told() -> TestResult {
    isolated(|| {
        let start = |listen: &str| {
            Proxy::builder()
                .under(["prlimit", "--nofile=300:300"])
                .listen(listen)
                .args(["-p", "both", "--listeners", "2"])
                .start_in_vain()
        };
        start("127.0.0.1:2000-2099")?.expect_failure(&[
            "only 300 files may be open (RLIMIT_NOFILE)",
            "2 listeners need 484",
        ])
    })
}

#[test]
fn routes_follow_all_targets() -> TestResult {
    isolated(|| {
        add_address("192.0.2.7")?;
        let proxy = Proxy::builder()
            .listen("127.0.0.1:2000-2002")
            .args(["-l", "127.0.0.1:2005", "-p", "both", "--listeners", "2"])
            .args(["-4", "192.0.2.7:3000-3002", "-4", "127.0.0.1:3005"])
            .start()?;
        let rules = run("ip rule | grep 'proto 77'")?;
        for rule in [
            "from 192.0.2.7 iif lo ipproto tcp sport 3000-3002 lookup 123",
            "from 192.0.2.7 iif lo ipproto udp sport 3000-3002 lookup 123",
            "from 127.0.0.1/8 iif lo lookup 123",
        ] {
            assert!(rules.contains(rule), "no {rule:?} in\n{rules}");
        }
        let warned = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("do not work at 127.0.0.1: bind those")
        };
        assert_eq!(proxy.wait_for_log(warned)?["level"], "WARN");
        for (port, server) in [(2001, "192.0.2.7:3001"), (2005, "127.0.0.1:3005")] {
            let server = TcpServer::bind_to(server.parse()?)?;
            let header = Header::of("198.51.100.1:4000")?;
            let downstream = Balancer::default().connect_to(proxy.addr_on(port), &header)?;
            downstream.expect_talk(&server.accept()?)?;
        }
        proxy.stop()?.expect_success()?;
        assert_eq!(run("ip rule")?.matches("proto 77").count(), 0);
        Ok(())
    })
}
