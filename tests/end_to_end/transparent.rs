//! `--listen-transparent`: a range of ports that a rule of the kernel redirects to one listener.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";
const DESTINATION: &str = "203.0.113.1:443";
const DESTINATION_V6: &str = "[2001:db8::443]:443";

/// What balancers write to.
const PUBLIC: &str = "198.51.100.10";
const PUBLIC_V6: &str = "2001:db8:51::10";

/// Where the redirected traffic goes.
const LISTENING: u16 = 25577;

/// As `isolated`, if the machine has nft. Says so if not, which is a failure in continuous integration (`CI=true`).
macro_rules! isolated_with_nft {
    ($body:expr) => {{
        if run("nft --version").is_err() {
            if env::var("CI").is_ok_and(|ci| ci == "true") {
                return Err("nft is missing: install nftables (or unset CI)".into());
            }
            let words = b"NOT TESTED: nft is missing: install nftables\n";
            return Ok(io::stderr().write_all(words)?);
        }
        isolated($body)
    }};
}

/// Redirects these ports of the public addresses, in this namespace.
fn redirect(ports: &str) -> TestResult {
    add_address(PUBLIC)?;
    add_address(PUBLIC_V6)?;
    run("nft add table inet ranges")?;
    run("nft 'add chain inet ranges before { type filter hook prerouting priority mangle; }'")?;
    for protocol in ["tcp", "udp"] {
        for (family, ip) in [("ip", PUBLIC), ("ip6", PUBLIC_V6)] {
            run(&format!(
                "nft add rule inet ranges before {family} daddr {ip} {protocol} dport {ports} \
                 tproxy {family} to :{LISTENING}"
            ))?;
        }
    }
    Ok(())
}

fn transparent(args: &[&str]) -> TestResult<Proxy> {
    Proxy::builder()
        .listen(&format!("0.0.0.0:{LISTENING}"))
        .args(["--listen-transparent", "-p", "both", "-v", "2"])
        .args(["--listeners", "2"])
        .args(args)
        .start()
}

fn public(ip: &str, port: u16) -> TestResult<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// Both families: public address, client, what its header says of the destination, server.
const FAMILIES: [(&str, &str, &str, &str); 2] = [
    (PUBLIC, CLIENT, DESTINATION, "127.0.0.1"),
    (PUBLIC_V6, CLIENT_V6, DESTINATION_V6, "::1"),
];

#[test]
fn connections_to_a_range_of_ports_reach_the_server() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let (v4, v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = transparent(&["-4", &v4.addr()?.to_string(), "-6", &v6.addr()?.to_string()])?;
        for (ip, client, destination, _) in FAMILIES {
            let server = if ip == PUBLIC { &v4 } else { &v6 };
            for port in [2000, 2050, 2099] {
                let addr = public(ip, port)?;
                let header = Header::v2(client, destination)?;
                let downstream = Balancer::default().connect_to(addr, &header)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.parse()?);
                downstream.expect_talk(&session)?;
                drop((downstream, session));
                // Where the connection went, not where it was redirected to.
                let addr = addr.to_string();
                proxy.wait_for_log(|line| {
                    line["message"] == "closed" && line["listen_addr"] == *addr
                })?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn datagrams_to_a_range_of_ports_are_answered_from_there() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let (v4, v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = transparent(&["-4", &v4.addr()?.to_string(), "-6", &v6.addr()?.to_string()])?;
        for (ip, client, destination, here) in FAMILIES {
            let server = if ip == PUBLIC { &v4 } else { &v6 };
            let balancer = UdpBalancer::bind(here)?;
            // One client through several ports, and the listener's own, which nothing redirects.
            for port in [2000, 2050, 2099, 2000, LISTENING] {
                let addr = public(ip, port)?;
                balancer.send_to(addr, &Header::v2_udp(client, destination)?, b"question")?;
                server.expect(client, b"question")?;
                for answer in [b"first", b"again"] {
                    server.send(client.parse()?, answer)?;
                    assert_eq!(balancer.expect(answer)?.from, addr);
                }
            }
            let addr = public(ip, 2000)?.to_string();
            proxy.wait_for_log(|line| {
                line["message"] == "flow opened" && line["listen_addr"] == *addr
            })?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        assert_eq!(exit.total("downstream_errors")?, 0);
        exit.expect_success()
    })
}

/// The kernel chooses the socket by the balancer's address; two threads with a flow each would share the client's port.
#[test]
fn a_client_through_many_balancer_sockets_has_one_flow() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = transparent(&["--no-pin", "-4", &server.addr()?.to_string()])?;
        for port in 2000..2020 {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let addr = public(PUBLIC, port)?;
            balancer.send_to(addr, &Header::v2_udp(CLIENT, DESTINATION)?, b"question")?;
            server.expect(CLIENT, b"question")?;
            server.send(CLIENT.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, addr);
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// It has a socket for each listener, which all have to be read by the one that can answer.
#[test]
fn all_balancer_sockets_are_answered_where_another_instance_is_taken_over() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let server_v4 = server.addr()?.to_string();
        let old = Proxy::builder()
            .listen(&format!("0.0.0.0:{LISTENING}"))
            .args(["-p", "both", "--listeners", "4", "-4", &server_v4])
            .args(["--drain-timeout", "10"])
            .start()?;
        let newcomer = transparent(&["--takeover", "--listeners", "4", "-4", &server_v4])?;
        old.exit()?.expect_success()?;
        // Several clients through each, and the listener's own port, which nothing redirects.
        for port in [2000, LISTENING] {
            let addr = public(PUBLIC, port)?;
            for n in 1..=16 {
                let balancer = UdpBalancer::bind("127.0.0.1")?;
                for client in [CLIENT.to_owned(), format!("192.0.2.{}:4000", 1 + n)] {
                    balancer.send_to(addr, &Header::v2_udp(&client, DESTINATION)?, b"question")?;
                    server.expect(&client, b"question")?;
                    server.send(client.parse()?, b"answer")?;
                    assert_eq!(balancer.expect(b"answer")?.from, addr);
                }
            }
        }
        let exit = newcomer.stop()?;
        assert_eq!(exit.total("flows")?, 17);
        assert_eq!(exit.total("downstream_errors")?, 0);
        exit.expect_success()
    })
}

/// Which keeps its socket there while it drains.
#[test]
fn what_another_instance_answered_from_is_answered_from_by_its_successor() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let server_v4 = server.addr()?.to_string();
        let start = |args: &[&str]| transparent(&[args, &["-4", &server_v4]].concat());
        let old = start(&["--drain-timeout", "3600"])?;
        let addr = public(PUBLIC, 2000)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, DESTINATION)?;
        balancer.send_to(addr, &header, b"question")?;
        server.expect(CLIENT, b"question")?;
        let newcomer = start(&["--takeover"])?;
        old.wait_for_message("draining")?;
        server.send(CLIENT.parse()?, b"from the old one")?;
        assert_eq!(balancer.expect(b"from the old one")?.from, addr);
        balancer.send_to(addr, &header, b"question")?;
        server.expect(CLIENT, b"question")?;
        server.send(CLIENT.parse()?, b"from the newcomer")?;
        assert_eq!(balancer.expect(b"from the newcomer")?.from, addr);
        drop(old);
        let exit = newcomer.stop()?;
        assert_eq!(exit.total("downstream_errors")?, 0);
        exit.expect_success()
    })
}

#[test]
fn together_with_destinations_from_headers() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let _proxy = transparent(&["--dynamic-destination"])?;
        let (tcp, udp) = (TcpServer::bind("127.0.0.1")?, UdpServer::bind("127.0.0.1")?);
        let header = Header::v2(CLIENT, &tcp.addr()?.to_string())?;
        let downstream = Balancer::at("127.0.0.1")?.connect_to(public(PUBLIC, 2001)?, &header)?;
        downstream.expect_talk(&tcp.accept()?)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, &udp.addr()?.to_string())?;
        balancer.send_to(public(PUBLIC, 2002)?, &header, b"question")?;
        udp.expect(CLIENT, b"question")?;
        udp.send(CLIENT.parse()?, b"answer")?;
        assert_eq!(balancer.expect(b"answer")?.from, public(PUBLIC, 2002)?);
        Ok(())
    })
}

/// Such as a server that is reached directly as well, from where no answer of ours can come then.
#[test]
fn a_port_that_a_server_has_everywhere_cannot_be_answered_from() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-2099")?;
        let server = UdpServer::bind_to("0.0.0.0:2001".parse()?)?;
        let proxy = transparent(&["-4", "127.0.0.1:2001"])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, DESTINATION)?;
        balancer.send_to(public(PUBLIC, 2001)?, &header, b"question")?;
        let told = proxy.wait_for_message("datagram dropped")?;
        let error = told["error"].as_str().unwrap_or_default();
        let wanted = "cannot answer from 198.51.100.10:2001, where it was sent to: ";
        assert!(error.starts_with(wanted), "{error}");
        assert!(error.contains("bind it to a loopback address"), "{error}");
        // The server's other ports are as good as ever.
        balancer.send_to(public(PUBLIC, 2002)?, &header, b"question")?;
        server.expect(CLIENT, b"question")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("downstream_errors")?, 1);
        exit.expect_success()
    })
}

#[test]
fn more_ports_than_reply_sockets_take_turns() -> TestResult {
    isolated_with_nft!(|| {
        redirect("2000-3199")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = transparent(&["--max-flows", "8", "-4", &server.addr()?.to_string()])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for port in 2000..3200 {
            let client = format!("192.0.2.1:{port}");
            let addr = public(PUBLIC, port)?;
            balancer.send_to(addr, &Header::v2_udp(&client, DESTINATION)?, b"question")?;
            server.expect(&client, b"question")?;
            server.send(client.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, addr);
        }
        let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.pid().as_raw_pid()))?.count();
        assert!((1024..1100).contains(&descriptors), "{descriptors}");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1200);
        assert_eq!(exit.total("downstream_errors")?, 0);
        exit.expect_success()
    })
}

#[test]
fn a_listener_may_have_an_address_that_the_host_has_not() -> TestResult {
    isolated(|| {
        let start = |args: &[&str]| {
            Proxy::builder()
                .listen("203.0.113.9:2000")
                .args(args)
                .spawn()
        };
        let refused = start(&[])?.exit()?;
        refused.expect_failure(&["203.0.113.9:2000", "this host has no such address"])?;
        let proxy = start(&["--listen-transparent", "-p", "both"])?;
        proxy.wait_for_message("ready")?;
        proxy.stop()?.expect_success()
    })
}
