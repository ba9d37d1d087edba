//! `--source-port any`: the kernel chooses, and many clients can have one address and port.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::{Servers, udp_header_of};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for};
use crate::namespace::{TestResult, isolated, run};

/// How many ports the kernel has to choose from in these tests.
const PORTS: u16 = 4;

/// Leaves so few ports for the kernel to choose from.
fn narrow_port_range() -> TestResult {
    let last = 40_000 + PORTS - 1;
    run(&format!(
        "echo 40000 {last} > /proc/sys/net/ipv4/ip_local_port_range"
    ))?;
    Ok(())
}

#[test]
fn over_tcp_the_address_is_the_clients_and_the_port_is_not() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let proxy = servers.proxy(&["--source-port", "any"])?;
        for client in ["192.0.2.1:4000", "[2001:db8::1]:4000"] {
            let header = Header::of(client)?;
            let client: SocketAddr = client.parse()?;
            let mut open = Vec::new();
            let mut ports = HashSet::from([client.port()]);
            for _ in 0..20 {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = servers.tcp_of(client).accept()?;
                assert_eq!(session.peer()?.ip(), client.ip());
                assert!(ports.insert(session.peer()?.port()), "{:?}", session.peer());
                open.push((downstream, session));
            }
            for (downstream, session) in &open {
                downstream.expect_talk(session)?;
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 0, "none was asked for");
        assert_eq!(exit.log_since_ready(), [""; 0]);
        exit.expect_success()
    })
}

#[test]
fn over_udp_the_address_is_the_clients_and_the_port_is_not() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let proxy = servers.proxy(&["--source-port", "any"])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let mut seen = HashSet::new();
            for port in 4000..4020 {
                let client = SocketAddr::new(ip.parse()?, port);
                let server = servers.udp_of(client);
                balancer.send(&proxy, &udp_header_of(client)?, b"question")?;
                let question = server.receive()?;
                assert_eq!(question.from.ip(), client.ip());
                assert!(seen.insert(question.from), "two flows from {question:?}");
                // The client's next datagram is of the same flow.
                balancer.send(&proxy, &udp_header_of(client)?, b"again")?;
                server.expect(&question.from.to_string(), b"again")?;
                server.send(question.from, b"answer")?;
                balancer.expect(b"answer")?;
            }
            assert!(seen.iter().any(|addr| !(4000..4020).contains(&addr.port())));
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ports_replaced")?, 0, "none was asked for");
        assert_eq!(exit.total("flows")?, 40);
        exit.expect_success()
    })
}

/// Nobody listens where the server should, and the kernel may choose any port for this end: the server's own, if that is
/// all there is. The socket would be connected to itself, the health check content, and the server could not come back.
#[test]
fn while_the_server_is_down_its_port_is_not_chosen() -> TestResult {
    isolated(|| {
        let server = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let proxy = Proxy::builder()
            .args(["-p", "both", "-v", "1", "--source-port", "any"])
            .args(["--listeners", "1"])
            .and(server)
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        // What the proxy needs a port for itself, it has with its first client.
        let first = udp_header_of("192.0.2.1:4000".parse()?)?;
        balancer.send(&proxy, &first, b"nobody hears it")?;
        proxy.wait_for_log(|line| line["client_addr"] == "192.0.2.1:4000")?;
        let check = Balancer::default().connect(&proxy, &Header::none())?;
        let own_client = Balancer::default().connect(&proxy, &Header::none())?;
        run("echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range")?;
        let loopback_client: SocketAddr = "127.0.0.1:4000".parse()?;
        for (connection, header, datagram) in [
            (&check, Header::v1_unknown(), Header::v2_local_bare()),
            (
                &own_client,
                Header::of("127.0.0.1:4000")?,
                udp_header_of(loopback_client)?,
            ),
        ] {
            connection.send(header.then(b"hello").bytes())?;
            connection.expect_reset()?;
            balancer.send(&proxy, &datagram, b"hello")?;
        }
        // Of the datagrams, the second within a second is not told of.
        let lines = proxy.wait_for_logs(3, |line| {
            let error = line["error"].as_str().unwrap_or_default();
            error == "the kernel chose the server's own port 127.0.0.1:40000: is the server down?"
        })?;
        let of_tcp = lines.iter().filter(|line| line["protocol"] == "tcp");
        assert_eq!(of_tcp.count(), 2);
        // It is as free as before, once the last datagram has been looked at.
        let tcp = TcpServer::bind_to(server)?;
        let udp = wait_for(|| Ok(UdpServer::bind_to(server).ok()))?;
        let last = udp_header_of("192.0.2.2:4000".parse()?)?;
        balancer.send(&proxy, &last, b"the first it hears")?;
        assert_eq!(udp.receive()?.payload, b"the first it hears");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("dial_errors")?, 4);
        tcp.expect_nobody()?;
        exit.expect_success()
    })
}

/// A port is chosen when it is known where to, so each serves one connection to each server, and not one in all.
#[test]
fn every_port_serves_a_connection_to_every_server() -> TestResult {
    isolated(|| {
        let servers = [TcpServer::bind("127.0.0.1")?, TcpServer::bind("127.0.0.1")?];
        let start = |server: &TcpServer| -> TestResult<Proxy> {
            Proxy::tcp(server.addr()?)
                .args(["--source-port", "any", "-v", "1"])
                .start()
        };
        let proxies = [start(&servers[0])?, start(&servers[1])?];
        // Balancers need ports as well: theirs are chosen before the range is narrow.
        let connect = |proxy: &Proxy| Balancer::default().connect(proxy, &Header::none());
        let clients = ["192.0.2.1:4000", "192.0.2.2:4000"];
        let mut waiting = Vec::new();
        for (proxy, server) in proxies.iter().zip(&servers) {
            for client in clients.repeat(PORTS.into()) {
                waiting.push((connect(proxy)?, client, server));
            }
        }
        let one_more = connect(&proxies[0])?;
        narrow_port_range()?;
        let mut sessions = Vec::new();
        for (downstream, client, server) in &waiting {
            downstream.send(Header::of(client)?.bytes())?;
            let session = server.accept()?;
            assert_eq!(session.peer()?.ip(), client.parse::<SocketAddr>()?.ip());
            downstream.expect_talk(&session)?;
            sessions.push(session);
        }

        // And not one more.
        one_more.send(Header::of("192.0.2.1:4001")?.bytes())?;
        one_more.expect_reset()?;
        let line = proxies[0].wait_for_message("connection dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        let wanted = format!(
            "no port is left between 192.0.2.1 and {}: widen net.ipv4.ip_local_port_range",
            servers[0].addr()?
        );
        assert!(error.starts_with(&wanted), "{error}");
        Ok(())
    })
}

#[test]
fn a_datagram_for_which_no_port_is_left_is_dropped() -> TestResult {
    isolated(|| {
        let servers = Servers::bind()?;
        let proxy = servers.proxy(&["--source-port", "any"])?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        narrow_port_range()?;
        for ip in ["192.0.2.1", "2001:db8::1"] {
            for port in 0..PORTS {
                let client = SocketAddr::new(ip.parse()?, 4000 + port);
                balancer.send(&proxy, &udp_header_of(client)?, b"served")?;
                assert_eq!(servers.udp_of(client).receive()?.from.ip(), client.ip());
            }
        }
        let one_more = "192.0.2.1:5000".parse()?;
        balancer.send(&proxy, &udp_header_of(one_more)?, b"dropped")?;
        let line = proxy.wait_for_message("datagram dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(
            error.starts_with("no port is left between 192.0.2.1 and "),
            "{error}"
        );
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2 * u64::from(PORTS));
        assert_eq!(exit.total("dial_errors")?, 1);
        exit.expect_success()
    })
}
