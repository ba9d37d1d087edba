//! `--udp-header v2-first` with several listening addresses, and with destinations that headers name.

use std::fs;

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const OTHER: &str = "192.0.2.2:4000";

/// An address of this host that is not of loopback.
const OWN: &str = "203.0.113.5";

/// A balancer may speak to all of them from one socket, and its clients are others at each.
#[test]
fn at_each_listening_address_a_peer_speaks_for_a_client_of_its_own() -> TestResult {
    isolated(|| {
        let (one, two) = (UdpServer::bind("127.0.0.2")?, UdpServer::bind("127.0.0.3")?);
        let proxy = Proxy::builder()
            .listen("127.0.0.1:2001,127.0.0.1:2002")
            .args(["-p", "udp", "-v", "2", "--udp-header", "v2-first"])
            .args(["-4", &format!("{},{}", one.addr()?, two.addr()?)])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let cases = [(2001, &one, CLIENT), (2002, &two, OTHER)];
        for (port, server, client) in cases {
            balancer.send_to(proxy.addr_on(port), &header_of(client)?, b"first")?;
            server.expect(client, b"first")?;
        }
        for (port, server, client) in cases {
            balancer.send_to(proxy.addr_on(port), &Header::none(), b"second")?;
            server.expect(client, b"second")?;
            server.send(client.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, proxy.addr_on(port));
        }
        // A new client at one of them changes nothing at the other.
        let third = "192.0.2.3:4000";
        balancer.send_to(proxy.addr_on(2001), &header_of(third)?, b"first")?;
        one.expect(third, b"first")?;
        balancer.send_to(proxy.addr_on(2002), &Header::none(), b"third")?;
        two.expect(OTHER, b"third")?;
        two.send(OTHER.parse()?, b"still there")?;
        balancer.expect(b"still there")?;
        proxy.wait_for_log(|line| {
            line["message"] == "closed"
                && line["client_addr"] == CLIENT
                && line["reason"] == "its peer speaks for another client"
        })?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        assert_eq!(exit.total("unbound")?, 0);
        exit.expect_success()
    })
}

/// A client's flow moves with it to another listening address, and so the replies and what keeps the binding alive.
#[test]
fn a_client_may_move_to_another_listening_address() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::builder()
            .listen("127.0.0.1:2001-2002")
            .args(["-p", "udp", "-v", "2", "--udp-header", "v2-first"])
            .args(["--listeners", "1", "-4", &server.addr()?.to_string()])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for port in [2001, 2002] {
            balancer.send_to(proxy.addr_on(port), &header_of(CLIENT)?, b"first")?;
            server.expect(CLIENT, b"first")?;
            server.send(CLIENT.parse()?, b"answer")?;
            assert_eq!(balancer.expect(b"answer")?.from, proxy.addr_on(port));
        }
        // The other binding is as good as before, and nobody else's flow ends with its client.
        balancer.send_to(proxy.addr_on(2001), &header_of(OTHER)?, b"first")?;
        server.expect(OTHER, b"first")?;
        server.send(CLIENT.parse()?, b"by its own way")?;
        let reply = balancer.expect(b"by its own way")?;
        assert_eq!(reply.from, proxy.addr_on(2002));
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

/// Most balancers name their own address there, and may have several.
#[test]
fn a_destination_that_nobody_asked_for_makes_no_session() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "2", "--listeners", "1", "--udp-header", "v2-first"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for destination in ["203.0.113.1:443", "203.0.113.2:443", "203.0.113.1:443"] {
            let header = Header::v2_udp(CLIENT, destination)?;
            balancer.send(&proxy, &header, b"first")?;
            server.expect(CLIENT, b"first")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

#[test]
fn what_follows_a_header_goes_to_the_destination_that_it_names() -> TestResult {
    isolated(|| {
        add_address(OWN)?;
        let (one, two) = (UdpServer::bind(OWN)?, UdpServer::bind(OWN)?);
        let proxy = Proxy::builder()
            .args(["-p", "udp", "-v", "2", "--listeners", "1"])
            .args(["--udp-header", "v2-first", "--dynamic-destination"])
            .args(["-4", "127.0.0.1:9"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (server, former) in [(&one, None), (&two, Some(&one)), (&one, Some(&two))] {
            let header = Header::v2_udp(CLIENT, &server.addr()?.to_string())?;
            balancer.send(&proxy, &header, b"first")?;
            server.expect(CLIENT, b"first")?;
            balancer.send(&proxy, &Header::none(), b"second")?;
            server.expect(CLIENT, b"second")?;
            // Of the client's session with the other server the peer is rid.
            if let Some(former) = former {
                let target = former.addr()?.to_string();
                proxy.wait_for_log(|line| {
                    line["message"] == "closed"
                        && line["target_addr"] == *target
                        && line["reason"] == "its peer speaks for another client"
                })?;
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// Guards what listens on loopback alone: a client of a balancer on this host could write the header itself.
#[test]
fn loopback_destinations_must_be_listed_whoever_names_them() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, &server.addr()?.to_string())?;
        let dynamic = ["--dynamic-destination", "-p", "udp", "-v", "2"];
        let first = ["--udp-header", "v2-first"];
        let proxy = Proxy::builder().args(dynamic).args(first).start()?;
        balancer.send(&proxy, &header, b"refused")?;
        proxy.wait_for_log(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.contains("the header may not be from this host")
        })?;
        server.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("destinations_refused")?, 1);

        let list = format!("/tmp/glommproxy-first-{}", std::process::id());
        fs::write(&list, "127.0.0.1\n")?;
        let listed = ["--allowed-destinations", &list];
        for args in [&[first, listed].concat()[..], &[]] {
            let proxy = Proxy::builder().args(dynamic).args(args).start()?;
            balancer.send(&proxy, &header, b"allowed")?;
            server.expect(CLIENT, b"allowed")?;
            proxy.stop()?.expect_success()?;
        }
        Ok(fs::remove_file(list)?)
    })
}
