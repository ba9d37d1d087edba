//! A host with several addresses and interfaces, and its balancers on another one. Replies leave from the address that
//! the balancer wrote to, whatever the route to it suggests, and whatever the listener is bound to.

use std::net::SocketAddr;

use super::header_of;
use crate::harness::{Header, Neighbour, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated, run};

/// Ours, of two on each interface.
const GAME0: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const GAME1: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
const GAME0_V6: [&str; 2] = ["2001:db8:51::1", "2001:db8:51::2"];
const GAME1_V6: [&str; 2] = ["2001:db8:52::1", "2001:db8:52::2"];
/// The balancer's, one on each wire.
const PEER0: &str = "198.51.100.9";
const PEER1: &str = "203.0.113.9";
const PEER0_V6: &str = "2001:db8:51::9";
const PEER1_V6: &str = "2001:db8:52::9";
/// The same on both wires.
const OUR_LINK_LOCAL: &str = "fe80::1";
const PEER_LINK_LOCAL: &str = "fe80::9";

/// Another host with a wire to each of two interfaces of ours.
#[track_caller]
fn neighbour() -> TestResult<Neighbour> {
    let neighbour = Neighbour::new()?;
    neighbour.connect(
        (
            "game0",
            &[
                "198.51.100.1/24",
                "198.51.100.2/24",
                "2001:db8:51::1/64",
                "2001:db8:51::2/64",
                "fe80::1/64",
            ],
        ),
        (
            "peer0",
            &["198.51.100.9/24", "2001:db8:51::9/64", "fe80::9/64"],
        ),
    )?;
    neighbour.connect(
        (
            "game1",
            &[
                "203.0.113.1/24",
                "203.0.113.2/24",
                "2001:db8:52::1/64",
                "2001:db8:52::2/64",
                "fe80::1/64",
            ],
        ),
        (
            "peer1",
            &["203.0.113.9/24", "2001:db8:52::9/64", "fe80::9/64"],
        ),
    )?;
    Ok(neighbour)
}

/// A client's question, sent there, is answered from there.
#[track_caller]
fn expect_reply_from(balancer: &UdpBalancer, to: SocketAddr, client: &str) -> TestResult {
    balancer.send_to(to, &header_of(client)?, b"?")?;
    let reply = balancer.expect(format!("{client} ?").as_bytes())?;
    assert_eq!(reply.from, to, "to {:?}", balancer.addr()?);
    Ok(())
}

/// Also where the reply takes another interface than its address is on: the balancer writes from one wire's address to
/// that of the other.
#[test]
fn wildcard_listeners_reply_from_every_address_of_every_interface() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = UdpServer::echo("127.0.0.1")?;
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let proxy = Proxy::udp(server)
                .listen(listen)
                .args(["-v", "2"])
                .start()?;
            let mut number = 0;
            for (peers, own) in [
                ([PEER0, PEER1], [GAME0, GAME1].concat()),
                ([PEER0_V6, PEER1_V6], [GAME0_V6, GAME1_V6].concat()),
            ] {
                for peer in peers {
                    let balancer = neighbour.udp_balancer(peer)?;
                    for own in &own {
                        number += 1;
                        let client = format!("192.0.2.{number}:4000");
                        expect_reply_from(&balancer, proxy.addr_at(own)?, &client)?;
                    }
                    // IPv4 peers are logged as such, whatever the listener's family.
                    let peer = balancer.addr()?.to_string();
                    proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
                }
            }
            assert_eq!(number, 16);
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn specific_listeners_reply_from_their_address() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = UdpServer::echo("127.0.0.1")?;
        for (peers, own) in [
            ([PEER0, PEER1], [GAME0, GAME1].concat()),
            ([PEER0_V6, PEER1_V6], [GAME0_V6, GAME1_V6].concat()),
        ] {
            for own in own {
                let listen = SocketAddr::new(own.parse()?, 0).to_string();
                let proxy = Proxy::udp(server).listen(&listen).start()?;
                for (number, peer) in peers.into_iter().enumerate() {
                    let client = format!("192.0.2.{number}:4000");
                    let balancer = neighbour.udp_balancer(peer)?;
                    expect_reply_from(&balancer, proxy.addr(), &client)?;
                }
                proxy.stop()?.expect_success()?;
            }
        }
        Ok(())
    })
}

/// One balancer socket, connected or not, that writes to one address after the other: each reply is from the latest.
#[test]
fn a_flow_follows_its_balancer_from_interface_to_interface() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = UdpServer::echo("127.0.0.1")?;
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let proxy = Proxy::udp(server).listen(listen).start()?;
            let balancers = [
                (neighbour.udp_balancer(PEER0)?, GAME0[1]),
                (neighbour.udp_balancer(PEER1)?, GAME1[1]),
                (neighbour.udp_balancer(PEER0_V6)?, GAME0_V6[1]),
                (neighbour.udp_balancer(PEER1)?, GAME0[0]),
                (neighbour.udp_balancer(PEER1_V6)?, GAME1_V6[0]),
            ];
            for (balancer, own) in balancers.iter().chain(&balancers) {
                expect_reply_from(balancer, proxy.addr_at(own)?, "192.0.2.1:4000")?;
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 1, "one client is one flow");
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// Both interfaces have the same link-local address, and so have the balancer's: only the interface tells them apart.
#[test]
fn link_local_balancers_get_their_replies_on_their_own_wire() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = UdpServer::echo("127.0.0.1")?;
        let peer = |wire: &str| neighbour.udp_balancer(&format!("{PEER_LINK_LOCAL}%{wire}"));
        let ours = |wire: &str, port| neighbour.addr(&format!("{OUR_LINK_LOCAL}%{wire}"), port);
        for (listen, wires) in [
            ("[::]:0", &["peer0", "peer1"][..]),
            ("0.0.0.0:0", &["peer1", "peer0"]),
            ("[fe80::1%game0]:0", &["peer0"]),
            ("[fe80::1%game1]:0", &["peer1"]),
        ] {
            let proxy = Proxy::udp(server).listen(listen).start()?;
            for (number, wire) in wires.iter().enumerate() {
                let balancer = peer(wire)?;
                let to = ours(wire, proxy.addr().port())?;
                for round in 0..2 {
                    // The same client on the other wire comes with another port.
                    let client = format!("192.0.2.{round}:{}", 4000 + number);
                    expect_reply_from(&balancer, to, &client)?;
                }
                // A balancer with an address that means something everywhere may write to a link-local one.
                let balancer = neighbour.udp_balancer(match *wire {
                    "peer0" => PEER0_V6,
                    _ => PEER1_V6,
                })?;
                expect_reply_from(&balancer, to, &format!("192.0.2.9:{}", 4000 + number))?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// Health checks have no client, so a flow is its peer's. Two peers with one address and port, on two wires, are two.
#[test]
fn link_local_health_checks_are_told_apart_by_their_wire() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = UdpServer::bind("::1")?;
        let proxy = Proxy::udp(server.addr()?)
            .listen("[::]:0")
            .args(["-v", "2"])
            .start()?;
        let first = neighbour.udp_balancer(&format!("{PEER_LINK_LOCAL}%peer0"))?;
        let port = first.addr()?.port();
        let second = neighbour.udp_balancer_at(&format!("{PEER_LINK_LOCAL}%peer1"), port)?;
        let mut questions = Vec::new();
        for (balancer, wire) in [(&first, "peer0"), (&second, "peer1")] {
            let to = neighbour.addr(&format!("{OUR_LINK_LOCAL}%{wire}"), proxy.addr().port())?;
            balancer.send_to(to, &Header::v2_local_bare(), wire.as_bytes())?;
            let question = server.receive()?;
            assert_eq!(question.payload, wire.as_bytes());
            questions.push(question);
        }
        for question in questions {
            server.send(question.from, &question.payload)?;
        }
        first.expect(b"peer0")?;
        second.expect(b"peer1")?;
        for interface in ["game0", "game1"] {
            let link = run(&format!("ip -o link show dev {interface}"))?;
            let (index, _) = link.split_once(':').ok_or("no interface number")?;
            let peer = format!("[{PEER_LINK_LOCAL}%{index}]:{port}");
            proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

/// TCP needs nothing of this; it is to work on such a host all the same.
#[test]
fn tcp_balancers_of_every_kind_are_served() -> TestResult {
    isolated(|| {
        let neighbour = neighbour()?;
        let server = TcpServer::bind("127.0.0.1")?;
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let proxy = Proxy::tcp(server.addr()?).listen(listen).start()?;
            for (number, (peer, own)) in [
                (PEER0, GAME0[1]),
                (PEER1, GAME0[0]),
                (PEER0_V6, GAME0_V6[1]),
                (PEER1_V6, GAME0_V6[0]),
                ("fe80::9%peer0", "fe80::1%peer0"),
                ("fe80::9%peer1", "fe80::1%peer1"),
            ]
            .into_iter()
            .enumerate()
            {
                let client = format!("192.0.2.{number}:{}", proxy.addr().port() ^ 1);
                let to = neighbour.addr(own, proxy.addr().port())?;
                let downstream = neighbour.connect_tcp(peer, to, &Header::of(&client)?)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.parse()?);
                downstream.expect_talk(&session)?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}
