//! Clients that have an address of this host. The kernel looks up its own addresses before any rule, so a server bound to
//! everything answers such a client from the client's own address, not from the one that was written to.

use std::net::SocketAddr;

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

const OWN: &str = "198.51.100.7:4000";
const OWN_V6: &str = "[2001:db8:7::7]:4000";
/// Of an interface other than the loopback device.
const OWN_ELSEWHERE: &str = "198.51.100.9:4000";
const OWN_ELSEWHERE_V6: &str = "[2001:db8:9::9]:4000";
const FOREIGN: &str = "192.0.2.1:4000";
const FOREIGN_V6: &str = "[2001:db8::1]:4000";

/// Gives this host all the addresses above that are its own.
#[track_caller]
fn add_own_addresses() -> TestResult {
    add_address("198.51.100.7")?;
    add_address("2001:db8:7::7")?;
    run(
        "set -e; ip link add game0 type veth peer name game1; ip link set game0 up; ip link set game1 up; \
         ip address add 198.51.100.9/24 dev game0; ip address add 2001:db8:9::9/64 dev game0 nodad",
    )?;
    Ok(())
}

/// The server sees this client, and its answers and pushes reach the balancer.
#[track_caller]
fn expect_talk(proxy: &Proxy, server: &UdpServer, client: &str, seen: &str) -> TestResult {
    let balancer = UdpBalancer::bind("127.0.0.1")?;
    for round in 0..3 {
        balancer.send(proxy, &header_of(client)?, b"question")?;
        let question = server.expect(seen, b"question")?;
        for payload in [format!("answer {round}"), format!("push {round}")] {
            server.send(question.from, payload.as_bytes())?;
            balancer
                .expect(payload.as_bytes())
                .map_err(|error| format!("{client}: {error:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_server_bound_to_everything_is_heard_by_clients_of_its_own_host() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        let (server, server_v6) = (UdpServer::bind("0.0.0.0")?, UdpServer::bind("::")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["-v", "1"])
            .start()?;
        let clients = [OWN, OWN_ELSEWHERE, FOREIGN, "127.0.0.9:4000"];
        let clients_v6 = [OWN_V6, OWN_ELSEWHERE_V6, FOREIGN_V6, "[::1]:4000"];
        for (client, client_v6) in clients.into_iter().zip(clients_v6) {
            expect_talk(&proxy, &server, client, client)?;
            expect_talk(&proxy, &server_v6, client_v6, client_v6)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 8);
        assert_eq!(exit.log_since_ready(), [""; 0]);
        exit.expect_success()
    })
}

#[test]
fn so_is_one_with_one_socket_for_both_families() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        let server = UdpServer::bind("::")?;
        let v4 = SocketAddr::from(([127, 0, 0, 1], server.addr()?.port()));
        let proxy = Proxy::udp(v4).and(server.addr()?).start()?;
        for (client, seen) in [
            (OWN, "[::ffff:198.51.100.7]:4000"),
            (OWN_ELSEWHERE, "[::ffff:198.51.100.9]:4000"),
            (OWN_V6, OWN_V6),
        ] {
            expect_talk(&proxy, &server, client, seen)?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn so_is_one_that_is_bound_to_its_address() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        for (ip, ip_v6) in [("127.0.0.1", "::1"), ("198.51.100.7", "2001:db8:7::7")] {
            let (server, server_v6) = (UdpServer::bind(ip)?, UdpServer::bind(ip_v6)?);
            let proxy = Proxy::udp(server.addr()?).and(server_v6.addr()?).start()?;
            for client in [OWN, OWN_ELSEWHERE, FOREIGN] {
                expect_talk(&proxy, &server, client, client)?;
            }
            for client in [OWN_V6, OWN_ELSEWHERE_V6, FOREIGN_V6] {
                expect_talk(&proxy, &server_v6, client, client)?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// The target is an address of its own, and the server bound to everything.
#[test]
fn the_target_may_be_any_address_of_the_server() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        for (target, target_v6) in [("127.0.0.2", "::1"), ("198.51.100.7", "2001:db8:7::7")] {
            let (server, server_v6) = (UdpServer::bind("0.0.0.0")?, UdpServer::bind("::")?);
            let at = |ip: &str, server: &UdpServer| -> TestResult<SocketAddr> {
                Ok(SocketAddr::new(ip.parse()?, server.addr()?.port()))
            };
            let proxy = Proxy::udp(at(target, &server)?)
                .and(at(target_v6, &server_v6)?)
                .start()?;
            for client in [OWN, OWN_ELSEWHERE, FOREIGN, "127.0.0.9:4000"] {
                expect_talk(&proxy, &server, client, client)?;
            }
            for client in [OWN_V6, OWN_ELSEWHERE_V6, FOREIGN_V6, "[::1]:4000"] {
                expect_talk(&proxy, &server_v6, client, client)?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// Where the server is bound to may change while a flow lives.
#[test]
fn a_flow_hears_the_server_whatever_it_is_bound_to_next() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        let server = UdpServer::bind("127.0.0.1")?;
        let target = server.addr()?;
        let proxy = Proxy::udp(target).start()?;
        expect_talk(&proxy, &server, OWN, OWN)?;
        drop(server);
        for ip in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
            let server = UdpServer::bind_to(SocketAddr::new(ip.parse()?, target.port()))?;
            expect_talk(&proxy, &server, OWN, OWN)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// The client's port is taken by the client itself: it is on this host.
#[test]
fn a_replaced_port_makes_no_difference() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        let server = UdpServer::bind("0.0.0.0")?;
        for args in [&[][..], &["--source-port", "any"]] {
            let proxy = Proxy::udp(server.addr()?).args(args).start()?;
            let _client = UdpServer::bind_to(OWN.parse()?)?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            for _ in 0..2 {
                balancer.send(&proxy, &header_of(OWN)?, b"question")?;
                let question = server.receive()?;
                assert_eq!(question.from.ip(), OWN.parse::<SocketAddr>()?.ip());
                assert_ne!(question.from, OWN.parse()?);
                server.send(question.from, b"answer")?;
                balancer.expect(b"answer")?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// With the listener on the server's port at another address, an answer to a balancer with the client's address and port
/// looks like an answer of the server. It must not go round and round.
#[test]
fn the_proxys_own_replies_are_not_taken_for_the_servers() -> TestResult {
    isolated(|| {
        add_own_addresses()?;
        let server = UdpServer::bind("127.0.0.1")?;
        let listen = format!("198.51.100.7:{}", server.addr()?.port());
        let proxy = Proxy::udp(server.addr()?).listen(&listen).start()?;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&OWN.parse::<SocketAddr>()?.into())?;
        let balancer = std::net::UdpSocket::from(socket);
        let datagram = [header_of(OWN)?.bytes(), b"question"].concat();
        balancer.send_to(&datagram, proxy.addr())?;
        let question = server.expect(OWN, b"question")?;
        server.send(question.from, b"answer")?;
        // Somebody else's, so that the proxy has handled the answer when it is stopped.
        let other = UdpBalancer::bind("198.51.100.7")?;
        for _ in 0..100 {
            other.send(&proxy, &header_of(FOREIGN)?, b"question")?;
            let question = server.expect(FOREIGN, b"question")?;
            server.send(question.from, b"answer")?;
            other.expect(b"answer")?;
        }
        let exit = proxy.stop()?;
        let answers = 101 * b"answer".len() as u64;
        assert_eq!(exit.total("bytes_downstream")?, answers);
        exit.expect_success()
    })
}
