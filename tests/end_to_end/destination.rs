//! `--dynamic-destination`: servers by the destination that headers name.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::{TestResult, add_address, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";

/// A balancer on another host: its addresses are not of loopback.
const ELSEWHERE: &str = "198.51.100.1";
const ELSEWHERE_V6: &str = "2001:db8:51::1";

fn dynamic(args: &[&str]) -> TestResult<Proxy> {
    Proxy::builder()
        .args(["--dynamic-destination", "-p", "both", "-v", "2"])
        .args(["--listeners", "2"])
        .args(args)
        .start()
}

/// A list in a file that goes with the folder.
fn list(text: &str) -> TestResult<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("list");
    fs::write(&path, text)?;
    Ok((folder, path.to_string_lossy().into_owned()))
}

/// Connects through a header of this version that names a server.
fn connect(proxy: &Proxy, client: &str, server: SocketAddr) -> TestResult<Connection> {
    Balancer::default().connect(proxy, &Header::v2(client, &server.to_string())?)
}

/// A client is turned away with a reset and a reason.
fn assert_refused(proxy: &Proxy, destination: &str, reason: &str) -> TestResult {
    let client = if destination.starts_with('[') {
        CLIENT_V6
    } else {
        CLIENT
    };
    connect(proxy, client, destination.parse()?)?.expect_reset()?;
    wait_for_reason(proxy, destination, reason)
}

fn wait_for_reason(proxy: &Proxy, destination: &str, reason: &str) -> TestResult {
    let destination = destination.parse::<SocketAddr>()?.to_string();
    let wanted = |line: &Value| {
        let error = line["error"].as_str().unwrap_or_default();
        line["target_addr"] == *destination && error.contains(reason)
    };
    proxy.wait_for_log(wanted).map(drop)
}

#[test]
fn tcp_clients_reach_the_server_that_their_header_names() -> TestResult {
    isolated(|| {
        let configured = TcpServer::bind("127.0.0.1")?;
        let proxy = dynamic(&["-4", &configured.addr()?.to_string()])?;
        for (ip, client) in [
            ("127.0.0.1", CLIENT),
            ("127.0.0.1", CLIENT),
            ("::1", CLIENT_V6),
        ] {
            let server = TcpServer::bind(ip)?;
            let named = server.addr()?.to_string();
            for header in [Header::v1(client, &named)?, Header::v2(client, &named)?] {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.parse()?);
                downstream.expect_talk(&session)?;
                // One after the other: they have one client's port.
                drop((downstream, session));
                proxy.wait_for_log(|line| {
                    line["message"] == "closed" && line["target_addr"] == *named
                })?;
            }
        }
        configured.expect_nobody()?;
        for header in [Header::v1_unknown(), Header::v2_local()?] {
            let downstream = Balancer::default().connect(&proxy, &header)?;
            downstream.expect_talk(&configured.accept()?)?;
        }
        proxy.stop()?.expect_success()
    })
}

/// Mapped addresses are another spelling.
#[test]
fn mapped_destinations_are_ipv4() -> TestResult {
    isolated(|| {
        let proxy = dynamic(&[])?;
        let server = TcpServer::bind("127.0.0.1")?;
        let named = format!("[::ffff:127.0.0.1]:{}", server.addr()?.port());
        let header = Header::v2("[::ffff:192.0.2.1]:4000", &named)?;
        let downstream = Balancer::default().connect(&proxy, &header)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, CLIENT.parse()?);
        downstream.expect_talk(&session)?;
        // What is left are two families in one header.
        let header = Header::v2("[::ffff:192.0.2.1]:4000", "[::1]:80")?;
        let downstream = Balancer::default().connect(&proxy, &header)?;
        downstream.expect_reset()?;
        wait_for_reason(&proxy, "[::1]:80", "is not of the family of the client")
    })
}

#[test]
fn a_udp_client_has_a_flow_for_each_server_it_names() -> TestResult {
    isolated(|| {
        let configured = UdpServer::bind("127.0.0.1")?;
        let proxy = dynamic(&["-4", &configured.addr()?.to_string()])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let servers = [UdpServer::bind("127.0.0.1")?, UdpServer::bind("127.0.0.2")?];
        for round in 0..2 {
            for (n, server) in servers.iter().enumerate() {
                let question = format!("question {round} for {n}");
                let header = Header::v2_udp(CLIENT, &server.addr()?.to_string())?;
                balancer.send(&proxy, &header, question.as_bytes())?;
                server.expect(CLIENT, question.as_bytes())?;
                server.send(CLIENT.parse()?, question.as_bytes())?;
                balancer.expect(question.as_bytes())?;
            }
        }
        let server = UdpServer::bind("::1")?;
        let header = Header::v2_udp(CLIENT_V6, &server.addr()?.to_string())?;
        balancer.send(&proxy, &header, b"question")?;
        server.expect(CLIENT_V6, b"question")?;
        balancer.send(&proxy, &Header::v2_local_bare(), b"health")?;
        assert_eq!(configured.receive()?.payload, b"health");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 4);
        exit.expect_success()
    })
}

#[test]
fn datagrams_that_name_what_they_may_not_are_dropped_and_counted() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = dynamic(&["-l", "0.0.0.0:2000"])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let refused = [
            "198.51.100.9:80",
            "0.0.0.0:80",
            "127.0.0.1:0",
            "127.0.0.1:2000",
        ];
        for destination in refused {
            balancer.send(&proxy, &Header::v2_udp(CLIENT, destination)?, b"refused")?;
        }
        // Behind them, as one client is served by one shard in order.
        let header = Header::v2_udp(CLIENT, &server.addr()?.to_string())?;
        balancer.send(&proxy, &header, b"question")?;
        server.expect(CLIENT, b"question")?;
        wait_for_reason(&proxy, refused[0], "is no address of this host")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("destinations_refused")?, 4);
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// A flow that a balancer of this host has is no way in for others.
#[test]
fn a_flow_to_loopback_is_for_balancers_of_this_host() -> TestResult {
    isolated(|| {
        add_address(ELSEWHERE)?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = dynamic(&["-l", "0.0.0.0:2000"])?;
        let header = Header::v2_udp(CLIENT, &server.addr()?.to_string())?;
        let here = UdpBalancer::bind("127.0.0.1")?;
        here.send_to(proxy.addr_on(2000), &header, b"from here")?;
        server.expect(CLIENT, b"from here")?;
        let elsewhere = UdpBalancer::bind(ELSEWHERE)?;
        let door = SocketAddr::new(ELSEWHERE.parse()?, 2000);
        elsewhere.send_to(door, &header, b"from elsewhere")?;
        wait_for_reason(&proxy, &server.addr()?.to_string(), "is a loopback address")?;
        server.send(CLIENT.parse()?, b"secret")?;
        here.expect(b"secret")?;
        server.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("destinations_refused")?, 1);
        exit.expect_success()
    })
}

#[test]
fn without_a_list_only_this_host_can_be_named() -> TestResult {
    isolated(|| {
        for address in [ELSEWHERE, ELSEWHERE_V6, "203.0.113.9", "2001:db8:9::9"] {
            add_address(address)?;
        }
        run("ip rule add from 203.0.113.9 iif lo table 123")?;
        run("ip -6 rule add from 2001:db8:9::9 iif lo table 123")?;
        let proxy = dynamic(&["-l", "[::1]:0"])?;
        for (ip, client) in [("203.0.113.9", CLIENT), ("2001:db8:9::9", CLIENT_V6)] {
            let server = TcpServer::bind(ip)?;
            let downstream = connect(&proxy, client, server.addr()?)?;
            downstream.expect_talk(&server.accept()?)?;
        }
        for destination in ["192.0.2.99:80", "[2001:db8:99::1]:80"] {
            assert_refused(&proxy, destination, "is no address of this host")?;
        }
        for destination in [
            "0.0.0.0:80",
            "255.255.255.255:80",
            "224.0.0.1:80",
            "[::]:80",
            "[fe80::1]:80",
            "127.0.0.1:0",
        ] {
            assert_refused(&proxy, destination, "is no address that a server has")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("destinations_refused")?, 8);
        exit.expect_success()
    })
}

/// What listens on loopback alone does so to be out of reach.
#[test]
fn a_balancer_elsewhere_cannot_name_loopback_unless_it_is_listed() -> TestResult {
    isolated(|| {
        add_address(ELSEWHERE)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let named = server.addr()?.to_string();
        let header = Header::v2(CLIENT, &named)?;
        let (_folder, path) = list("127.0.0.1\n")?;
        for listed in [false, true] {
            let builder =
                Proxy::builder()
                    .listen("0.0.0.0:0")
                    .args(["--dynamic-destination", "-v", "2"]);
            let proxy = if listed {
                builder.args(["--allowed-destinations", &path]).start()?
            } else {
                builder.start()?
            };
            let at = proxy.addr_at(ELSEWHERE)?;
            let downstream = Balancer::at(ELSEWHERE)?.connect_to(at, &header)?;
            if listed {
                downstream.expect_talk(&server.accept()?)?;
            } else {
                downstream.expect_reset()?;
                wait_for_reason(&proxy, &named, "is a loopback address")?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_list_says_what_can_be_named_and_is_read_again() -> TestResult {
    isolated(|| {
        let (first, second) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("127.0.0.2")?);
        let (_folder, path) = list("127.0.0.1 # the first\n")?;
        let proxy = dynamic(&["--allowed-destinations", &path])?;
        let loaded = proxy.wait_for_message("allowed destinations loaded")?;
        assert_eq!(loaded["subnets"], 1);
        connect(&proxy, CLIENT, first.addr()?)?.expect_talk(&first.accept()?)?;
        let unlisted = second.addr()?.to_string();
        assert_refused(
            &proxy,
            &unlisted,
            "is not in the list of --allowed-destinations",
        )?;

        fs::write(&path, "127.0.0.2/31\n")?;
        proxy.wait_for_message("allowed destinations reloaded")?;
        // All shards have it a moment later.
        wait_for(|| {
            let downstream = connect(&proxy, "192.0.2.1:4001", second.addr()?)?;
            let addr = downstream.local()?.to_string();
            let told = proxy.wait_for_log(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                line["peer_addr"] == addr.as_str()
                    && ["connected", "connection dropped"].contains(&message)
            })?;
            let is_connected = told["message"] == "connected";
            is_connected.then(|| second.accept()).transpose()
        })?;
        let unlisted = first.addr()?.to_string();
        assert_refused(
            &proxy,
            &unlisted,
            "is not in the list of --allowed-destinations",
        )?;

        fs::write(&path, "127.0.0.300\n")?;
        let message = "the old list of allowed destinations stays in force";
        proxy.wait_for_message(message)?;
        connect(&proxy, "192.0.2.1:4002", second.addr()?)?.expect_talk(&second.accept()?)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_bad_list_keeps_it_from_starting() -> TestResult {
    isolated(|| {
        let start = |path: &str| {
            Proxy::builder()
                .args(["--dynamic-destination", "--allowed-destinations", path])
                .start_in_vain()
        };
        start("/nowhere/list")?.expect_failure(&["/nowhere/list: cannot read it"])?;
        let (_folder, path) = list("127.0.0.1\n127.0.0.1:80\n")?;
        start(&path)?.expect_failure(&[&format!("{path}:2: "), "without the list"])?;
        Ok(())
    })
}

#[test]
fn an_empty_list_allows_no_destination() -> TestResult {
    isolated(|| {
        let (_folder, path) = list("")?;
        let proxy = dynamic(&["--allowed-destinations", &path])?;
        let server = TcpServer::bind("127.0.0.1")?.addr()?.to_string();
        assert_refused(
            &proxy,
            &server,
            "is not in the list of --allowed-destinations",
        )?;
        Ok(())
    })
}

/// It would connect to itself, and go on doing so.
#[test]
fn its_own_listeners_are_refused_even_if_listed() -> TestResult {
    isolated(|| {
        add_address("203.0.113.9")?;
        let (_folder, path) = list("0.0.0.0/0\n::/0\n")?;
        let proxy = Proxy::builder()
            .listen("0.0.0.0:2000-2001")
            .args(["-l", "127.0.0.5:2005", "-4", "127.0.0.1:3000"])
            .args(["--dynamic-destination", "--allowed-destinations", &path])
            .args(["-p", "both", "-v", "2", "--listeners", "2"])
            .start()?;
        for destination in [
            "127.0.0.1:2000",
            "127.0.0.9:2001",
            "203.0.113.9:2000",
            "127.0.0.5:2005",
            "[::1]:2001",
        ] {
            assert_refused(&proxy, destination, "it would talk to itself")?;
        }
        // The port of a listener at another address is somebody else's.
        let server = TcpServer::bind_to("127.0.0.6:2005".parse()?)?;
        connect(&proxy, CLIENT, server.addr()?)?.expect_talk(&server.accept()?)?;
        Ok(())
    })
}
