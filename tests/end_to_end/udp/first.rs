//! `--udp-header v2-first`: the first datagram of a session has a header, and those behind it are known by their peer.

use rustix::process::Signal;

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const OTHER: &str = "192.0.2.2:4000";

/// A proxy of one shard in this mode.
fn start(server: &UdpServer) -> TestResult<Proxy> {
    Proxy::udp(server.addr()?)
        .args(["--udp-header", "v2-first", "-v", "2", "--listeners", "1"])
        .start()
}

fn bare(balancer: &UdpBalancer, proxy: &Proxy, payload: &[u8]) -> TestResult {
    balancer.send(proxy, &Header::none(), payload)
}

#[test]
fn payloads_follow_a_header() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--udp-header", "v2-first"])
            .start()?;
        for (server, client) in [
            (&server, CLIENT),
            (&server_v6, "[2001:db8::1]:4000"),
            (&server, OTHER),
        ] {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header_of(client)?, b"first")?;
            server.expect(client, b"first")?;
            // Whatever they are: a header of another format, or the beginning of one, is payload, too.
            let payloads: [&[u8]; 5] = [b"second", b"", b"\r\n\r\n\0\r\nQUIT", b"PROXY ", b"V\xEC"];
            for payload in payloads {
                bare(&balancer, &proxy, payload)?;
                server.expect(client, payload)?;
                server.send(client.parse()?, payload)?;
                balancer.expect(payload)?;
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        assert_eq!(exit.total("unbound")? + exit.total("header_errors")?, 0);
        exit.expect_success()
    })
}

/// Cloudflare Spectrum was seen to send these.
#[test]
fn a_header_alone_binds_and_forwards_nothing() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"")?;
        bare(&balancer, &proxy, b"first")?;
        server.expect(CLIENT, b"first")?;
        // Behind the flow's beginning, too.
        balancer.send(&proxy, &header_of(CLIENT)?, b"")?;
        bare(&balancer, &proxy, b"second")?;
        server.expect(CLIENT, b"second")?;

        // It makes its peer the client's latest, as any datagram would.
        let after = UdpBalancer::bind("127.0.0.1")?;
        after.send(&proxy, &header_of(CLIENT)?, b"")?;
        bare(&balancer, &proxy, b"from another, to be in step")?;
        server.expect(CLIENT, b"from another, to be in step")?;
        after.send(&proxy, &header_of(CLIENT)?, b"")?;
        let pair = UdpBalancer::bind("127.0.0.1")?;
        pair.send(&proxy, &header_of(OTHER)?, b"in step")?;
        server.expect(OTHER, b"in step")?;
        server.send(CLIENT.parse()?, b"to the latest")?;
        after.expect(b"to the latest")?;
        balancer.expect_nothing()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

/// The same in mode v2, where it is an empty datagram.
#[test]
fn with_a_header_on_each_a_header_alone_is_an_empty_datagram() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "v2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"")?;
        server.expect(CLIENT, b"")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_new_header_gives_the_peer_to_another_client() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for client in [CLIENT, OTHER, CLIENT, "192.0.2.3:4000"] {
            balancer.send(&proxy, &header_of(client)?, b"first")?;
            server.expect(client, b"first")?;
            bare(&balancer, &proxy, b"second")?;
            server.expect(client, b"second")?;
            server.send(client.parse()?, client.as_bytes())?;
            balancer.expect(client.as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}

/// A reply has no header. Whoever is behind the peer now would get what is for the client that was there before.
#[test]
fn replies_to_a_former_client_do_not_reach_its_successor() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"question")?;
        server.expect(CLIENT, b"question")?;
        balancer.send(&proxy, &header_of(OTHER)?, b"question")?;
        server.expect(OTHER, b"question")?;
        server.send(CLIENT.parse()?, b"private")?;
        server.send(OTHER.parse()?, b"answer")?;
        balancer.expect(b"answer")?;
        let line = proxy.wait_for_message("closed")?;
        assert_eq!(line["client_addr"], CLIENT);
        assert_eq!(line["reason"], "its peer speaks for another client");

        // A client that has come to another peer before keeps its flow.
        let elsewhere = UdpBalancer::bind("127.0.0.1")?;
        elsewhere.send(&proxy, &header_of(OTHER)?, b"moved")?;
        server.expect(OTHER, b"moved")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"back")?;
        server.expect(CLIENT, b"back")?;
        server.send(OTHER.parse()?, b"still yours")?;
        elsewhere.expect(b"still yours")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// All in one batch, in which a flow's end and its datagrams meet.
#[test]
fn a_peer_that_changes_clients_at_once_mixes_nothing_up() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (1..=20)
            .map(|n| format!("192.0.2.{}:4000", n % 3))
            .collect();
        proxy.signal(Signal::STOP)?;
        for client in &clients {
            balancer.send(&proxy, &header_of(client)?, client.as_bytes())?;
            for _ in 0..2 {
                bare(&balancer, &proxy, client.as_bytes())?;
            }
        }
        proxy.signal(Signal::CONT)?;
        for client in &clients {
            for _ in 0..3 {
                server.expect(client, client.as_bytes())?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn replies_go_to_the_clients_latest_peer() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancers = [
            UdpBalancer::bind("127.0.0.1")?,
            UdpBalancer::bind("127.0.0.1")?,
        ];
        for balancer in &balancers {
            balancer.send(&proxy, &header_of(CLIENT)?, b"first")?;
            server.expect(CLIENT, b"first")?;
        }
        // Both stay bound, and it takes no header to be the latest.
        for balancer in balancers.iter().chain(&balancers) {
            bare(balancer, &proxy, b"question")?;
            server.expect(CLIENT, b"question")?;
            server.send(CLIENT.parse()?, b"answer")?;
            balancer.expect(b"answer")?;
        }
        for balancer in &balancers {
            balancer.expect_nothing()?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

#[test]
fn what_no_header_came_before_is_dropped_and_counted() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let bound = UdpBalancer::bind("127.0.0.1")?;
        bound.send(&proxy, &header_of(CLIENT)?, b"")?;
        let unbound = UdpBalancer::bind("127.0.0.1")?;
        for payload in [b"hello".as_slice(), b"", b"hello again"] {
            bare(&unbound, &proxy, payload)?;
        }
        bare(&bound, &proxy, b"good")?;
        server.expect(CLIENT, b"good")?;
        server.expect_nothing()?;
        let line = proxy.wait_for_message("datagram dropped")?;
        assert_eq!(line["peer_addr"], unbound.addr()?.to_string());
        assert_eq!(line["level"], "DEBUG");
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains("--close-after"), "{error}");
        let number = proxy.wait_for_message("datagram dropped (repeated)")?;
        assert_eq!(number["count"], 2);
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, 3);
        assert_eq!(exit.total("header_errors")?, 0);
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// It was to say who sends what follows: not the former client, and not the proxy itself.
#[test]
fn behind_a_refused_header_nothing_is_forwarded() -> TestResult {
    isolated(|| {
        add_address("198.51.100.9")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let whole = header_of(OTHER)?;
        let cut = |len: usize| Header::raw(&whole.bytes()[..len]);
        let refused = [
            cut(12),
            cut(27),
            Header::v2(OTHER, "203.0.113.1:443")?, // over TCP
            whole.clone().tlv(0x03, &[0; 4])?,     // a checksum that is none
            header_of("127.0.0.1:4000")?,          // no client of a remote peer
        ];
        let proxy = start(&server)?;
        for header in &refused {
            let balancer = UdpBalancer::bind("198.51.100.9")?;
            balancer.send(&proxy, &header_of(CLIENT)?, b"first")?;
            server.expect(CLIENT, b"first")?;
            balancer.send(&proxy, header, b"")?;
            bare(&balancer, &proxy, b"whose?")?;
            balancer.send(&proxy, &header_of(CLIENT)?, b"mine again")?;
            server.expect(CLIENT, b"mine again")?;
            bare(&balancer, &proxy, b"and this")?;
            server.expect(CLIENT, b"and this")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, refused.len() as u64);
        assert_eq!(exit.total("header_errors")?, refused.len() as u64 - 1);
        assert_eq!(exit.total("sources_refused")?, 1);
        exit.expect_success()
    })
}

#[test]
fn a_peer_without_a_client_is_bound_to_itself() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancers = [
            UdpBalancer::bind("127.0.0.1")?,
            UdpBalancer::bind("127.0.0.1")?,
        ];
        let mut seen = Vec::new();
        for balancer in &balancers {
            balancer.send(&proxy, &Header::v2_local_bare(), b"are you there?")?;
            let question = server.receive()?;
            assert_eq!(question.payload, b"are you there?");
            assert_eq!(question.from.ip(), server.addr()?.ip());
            bare(balancer, &proxy, b"still?")?;
            server.expect(&question.from.to_string(), b"still?")?;
            server.send(question.from, b"yes")?;
            balancer.expect(b"yes")?;
            seen.push(question.from);
        }
        assert_ne!(seen[0], seen[1]);
        // A client may come behind it.
        balancers[0].send(&proxy, &header_of(CLIENT)?, b"first")?;
        server.expect(CLIENT, b"first")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// All but the first datagram are the client's from their first byte on: it must not get an address that servers trust by
/// writing such a header itself, not even behind a balancer on this host.
#[test]
fn a_client_cannot_make_itself_this_host() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = start(&server)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"first")?;
        server.expect(CLIENT, b"first")?;
        let mut broken = header_of(CLIENT)?.bytes().to_vec();
        broken[12] = 0x11; // version 1
        for header in [
            Header::v2_local_bare(),
            Header::raw(broken),
            Header::v2_local_bare(),
            Header::v2_local()?,
            header_of("127.0.0.1:4000")?,
        ] {
            balancer.send(&proxy, &header, b"let me in")?;
            bare(&balancer, &proxy, b"and me")?;
        }
        balancer.send(&proxy, &header_of(CLIENT)?, b"last")?;
        server.expect(CLIENT, b"last")?;
        let line = proxy.wait_for_message("datagram dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains("LOCAL"), "{error}");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("header_errors")?, 5);
        assert_eq!(exit.total("unbound")?, 5);
        exit.expect_success()
    })
}

/// Who runs such a sender in the default mode learns which flag is missing.
#[test]
fn without_the_flag_the_missing_headers_are_explained() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["-v", "1", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"first")?;
        server.expect(CLIENT, b"first")?;
        bare(&balancer, &proxy, b"second")?;
        let line = proxy.wait_for_message("datagram dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains("add --udp-header v2-first"), "{error}");
        proxy.stop()?.expect_success()?;
        server.expect_nothing()
    })
}
