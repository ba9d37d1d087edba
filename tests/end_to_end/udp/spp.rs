//! `--udp-header spp`: Cloudflare Spectrum's header on every datagram, and back on every reply.

use std::collections::{HashMap, HashSet};

use rustix::process::Signal;

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";
const EDGE: &str = "203.0.113.1:443";

/// The most a datagram holds: 65,535 bytes less the headers of IPv4 (RFC 791) and UDP (RFC 768).
const DATAGRAM_MAX: usize = 65_507;
/// IPv6 does not count its own header in the length (RFC 8200).
const DATAGRAM_V6_MAX: usize = 65_527;
const HEADER_LEN: usize = 38;

fn spp(client: &str) -> TestResult<Header> {
    Header::spp(client, EDGE)
}

/// What a reply with this header and payload is, byte by byte.
fn framed(header: &Header, payload: &[u8]) -> Vec<u8> {
    [header.bytes(), payload].concat()
}

#[test]
fn replies_begin_with_the_clients_own_header() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let by_hand = Header::raw(
            *b"\x56\xEC\
               \0\0\0\0\0\0\0\0\0\0\xFF\xFF\xC0\0\x02\x01\
               \0\0\0\0\0\0\0\0\0\0\xFF\xFF\xCB\0\x71\x01\
               \x0F\xA0\
               \x01\xBB",
        );
        assert_eq!(by_hand.bytes(), spp(CLIENT)?.bytes());
        let v6 = Header::spp(CLIENT_V6, "[2001:db8::443]:443")?;
        let mixed = Header::spp(CLIENT, "[2001:db8::443]:443")?;
        let cases = [
            (&server, CLIENT, by_hand),
            (&server_v6, CLIENT_V6, v6),
            (&server, CLIENT, mixed),
        ];
        // From a wildcard address, replies leave with their sender's address as well as with their header.
        for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
            let proxy = Proxy::udp(server.addr()?)
                .and(server_v6.addr()?)
                .listen(listen)
                .args(["--udp-header", "spp"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            for (server, client, header) in &cases {
                assert_eq!(header.bytes().len(), HEADER_LEN);
                balancer.send(&proxy, header, b"question")?;
                let question = server.expect(client, b"question")?;
                for answer in [b"answer".as_slice(), b"", b"another"] {
                    server.send(question.from, answer)?;
                    let reply = balancer.expect(&framed(header, answer))?;
                    assert_eq!(reply.from, proxy.addr());
                }
                // Empty datagrams are datagrams.
                balancer.send(&proxy, header, b"")?;
                server.expect(client, b"")?;
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 2);
            // Headers are no payload.
            assert_eq!(exit.total("bytes_downstream")?, 3 * 13);
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// In one batch, in which a header could end up in front of another's payload.
#[test]
fn clients_of_one_socket_get_their_replies_under_their_own_headers() -> TestResult {
    isolated(|| {
        const CLIENTS: usize = 10;
        const REPLIES: usize = 6;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "spp", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (1..=CLIENTS).map(|n| format!("192.0.2.{n}:4000")).collect();
        for client in &clients {
            balancer.send(&proxy, &spp(client)?, client.as_bytes())?;
            server.expect(client, client.as_bytes())?;
        }
        proxy.signal(Signal::STOP)?;
        for n in 0..REPLIES {
            for client in &clients {
                server.send(client.parse()?, format!("{client} {n}").as_bytes())?;
            }
        }
        proxy.signal(Signal::CONT)?;
        let mut next = HashMap::new();
        for _ in 0..REPLIES * CLIENTS {
            let reply = balancer.receive()?.payload;
            let (header, payload) = reply.split_at(HEADER_LEN);
            let payload = String::from_utf8(payload.to_vec())?;
            let (client, n) = payload.split_once(' ').ok_or("not what was sent")?;
            assert_eq!(header, spp(client)?.bytes(), "the header of {payload}");
            let next = next.entry(client.to_owned()).or_insert(0);
            assert_eq!(n.parse::<usize>()?, *next, "of {client}");
            *next += 1;
        }
        assert_eq!(next.len(), CLIENTS);
        balancer.expect_nothing()?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_roaming_client_gets_its_latest_header_at_its_latest_socket() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "spp", "--listeners", "4", "-v", "2"])
            .start()?;
        let balancers = (0..4)
            .map(|_| UdpBalancer::bind("127.0.0.1"))
            .collect::<TestResult<Vec<_>>>()?;
        for round in 0..3 {
            for (n, balancer) in balancers.iter().enumerate() {
                // Another edge each time, and the latest is the one that counts.
                let header = Header::spp(CLIENT, &format!("203.0.113.{n}:{}", 443 + round))?;
                balancer.send(&proxy, &header, b"question")?;
                server.expect(CLIENT, b"question")?;
                for push in [b"one", b"two"] {
                    server.send(CLIENT.parse()?, push)?;
                    balancer.expect(&framed(&header, push))?;
                }
            }
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
fn clients_spread_over_shards_and_stay() -> TestResult {
    isolated(|| {
        const CLIENTS: usize = 100;
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--udp-header", "spp", "--listeners", "4", "-v", "2"])
            .start()?;
        let balancers = [
            UdpBalancer::bind("127.0.0.1")?,
            UdpBalancer::bind("127.0.0.1")?,
        ];
        for n in 1..=CLIENTS {
            let of_both = [
                (&server, format!("192.0.2.{n}:4000")),
                (&server_v6, format!("[2001:db8::{n:x}]:4000")),
            ];
            for (server, client) in of_both {
                for balancer in &balancers {
                    balancer.send(&proxy, &spp(&client)?, b"question")?;
                    server.expect(&client, b"question")?;
                    server.send(client.parse()?, b"answer")?;
                    balancer.expect(&framed(&spp(&client)?, b"answer"))?;
                }
            }
        }
        let exit = proxy.stop()?;
        let opened = exit.log.iter();
        let opened = opened.filter(|line| line["message"] == "flow opened");
        let shards: HashSet<_> = opened.map(|line| line["listener"].as_u64()).collect();
        assert_eq!(shards.len(), 4);
        assert_eq!(exit.total("flows")?, 2 * CLIENTS as u64);
        exit.expect_success()
    })
}

#[test]
fn datagrams_pass_up_to_the_largest_with_their_header() -> TestResult {
    isolated(|| {
        for (ip, client, datagram_max) in [
            ("127.0.0.1", CLIENT, DATAGRAM_MAX),
            ("::1", CLIENT_V6, DATAGRAM_V6_MAX),
        ] {
            let server = UdpServer::bind(ip)?;
            let listen = if ip == "::1" {
                "[::1]:0"
            } else {
                "127.0.0.1:0"
            };
            let proxy = Proxy::udp(server.addr()?)
                .listen(listen)
                .args(["--udp-header", "spp", "-v", "1"])
                .start()?;
            let balancer = UdpBalancer::bind(ip)?;
            let header = spp(client)?;
            let largest: Vec<u8> = (0..datagram_max - HEADER_LEN).map(|n| n as u8).collect();
            balancer.send(&proxy, &header, &largest)?;
            assert_eq!(server.receive()?.payload, largest);
            server.send(client.parse()?, &largest)?;
            assert_eq!(balancer.receive()?.payload, framed(&header, &largest));

            // The server may send more than fits behind a header. The flow has to get over it.
            for too_large in [datagram_max - HEADER_LEN + 1, datagram_max] {
                server.send(client.parse()?, &vec![7; too_large])?;
                server.send(client.parse()?, b"answer")?;
                balancer.expect(&framed(&header, b"answer"))?;
            }
            let line = proxy.wait_for_message("cannot send a reply")?;
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.contains("too long"), "{error}");
            let exit = proxy.stop()?;
            assert_eq!(exit.total("downstream_errors")?, 2);
            exit.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn what_has_no_such_header_is_dropped_for_a_reason() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let good = spp(CLIENT)?;
        let cut = |len: usize| Header::raw(&good.bytes()[..len]);
        for (header, reason) in [
            (Header::none(), "no Simple Proxy Protocol header"),
            (Header::raw("hello"), "no Simple Proxy Protocol header"),
            (cut(2), "ends before"),
            (cut(37), "ends before"),
            (header_of(CLIENT)?, "needs --udp-header v2 or v2-first"),
        ] {
            // One proxy each: a second reason within the second would not be written.
            let proxy = Proxy::udp(server.addr()?)
                .args(["--udp-header", "spp", "-v", "1", "--listeners", "1"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header, b"")?;
            balancer.send(&proxy, &good, b"good")?;
            server.expect(CLIENT, b"good")?;
            let line = proxy.wait_for_message("datagram dropped")?;
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.contains(reason), "{error} does not tell of {reason}");
            let exit = proxy.stop()?;
            assert_eq!(exit.total("header_errors")?, 1, "{reason}");
            exit.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn every_cut_of_a_header_is_dropped() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "spp", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = spp(CLIENT)?;
        for len in 0..HEADER_LEN {
            balancer.send(&proxy, &Header::raw(&header.bytes()[..len]), b"")?;
        }
        balancer.send(&proxy, &header, b"good")?;
        server.expect(CLIENT, b"good")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("header_errors")?, HEADER_LEN as u64);
        exit.expect_success()
    })
}

/// The same rules as for PROXY headers: the server must not see its own host.
#[test]
fn sources_that_no_client_has_are_dropped() -> TestResult {
    isolated(|| {
        add_address("198.51.100.9")?;
        let (server, server_v6) = (UdpServer::bind("127.0.0.1")?, UdpServer::bind("::1")?);
        let proxy = Proxy::udp(server.addr()?)
            .and(server_v6.addr()?)
            .args(["--udp-header", "spp", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("198.51.100.9")?;
        let forbidden = [
            "0.0.0.0:4000",
            "127.0.0.1:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "192.0.2.1:0",
            "[::]:4000",
            "[::1]:4000",
            "[ff02::1]:4000",
            "[fe80::1]:4000",
        ];
        for source in forbidden {
            balancer.send(&proxy, &spp(source)?, source.as_bytes())?;
        }
        for (server, client) in [(&server, CLIENT), (&server_v6, CLIENT_V6)] {
            balancer.send(&proxy, &spp(client)?, b"good")?;
            server.expect(client, b"good")?;
            server.expect_nothing()?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("sources_refused")?, forbidden.len() as u64);
        exit.expect_success()
    })
}

#[test]
fn without_the_flag_it_is_recognised_and_named() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        for mode in ["v2", "v2-first"] {
            let proxy = Proxy::udp(server.addr()?)
                .args(["--udp-header", mode, "-v", "1", "--listeners", "1"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &spp(CLIENT)?, b"hello")?;
            let line = proxy.wait_for_message("datagram dropped")?;
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.contains("needs --udp-header spp"), "{error}");
            proxy.stop()?.expect_success()?;
        }
        server.expect_nothing()
    })
}

/// Replies of all listening addresses are fetched in one batch, and sent in one for each.
#[test]
fn clients_of_several_listening_addresses_get_their_replies_from_there() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::builder()
            .listen("127.0.0.1:2001-2003")
            .args(["-p", "udp", "--listeners", "1", "--udp-header", "spp"])
            .args(["-4", &server.addr()?.to_string()])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (0..30)
            .map(|n| (format!("192.0.2.{n}:4000"), 2001 + n % 3))
            .collect();
        for (client, port) in &clients {
            let (addr, header) = (proxy.addr_on(*port), spp(client)?);
            balancer.send_to(addr, &header, client.as_bytes())?;
            server.expect(client, client.as_bytes())?;
        }
        proxy.signal(Signal::STOP)?;
        for answer in [b"answer".as_slice(), b"another"] {
            for (client, _) in &clients {
                server.send(client.parse()?, answer)?;
            }
        }
        proxy.signal(Signal::CONT)?;
        let mut expected = HashSet::new();
        for answer in [b"answer".as_slice(), b"another"] {
            for (client, port) in &clients {
                expected.insert((proxy.addr_on(*port), framed(&spp(client)?, answer)));
            }
        }
        for _ in 0..2 * clients.len() {
            let reply = balancer.receive()?;
            assert!(expected.remove(&(reply.from, reply.payload)));
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn the_proxy_address_in_the_header_may_choose_the_server() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .args(["-p", "udp", "--udp-header", "spp", "--dynamic-destination"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for (ip, client) in [
            ("127.0.0.1", CLIENT),
            ("127.0.0.2", CLIENT),
            ("::1", CLIENT_V6),
        ] {
            let server = UdpServer::bind(ip)?;
            let header = Header::spp(client, &server.addr()?.to_string())?;
            balancer.send(&proxy, &header, b"question")?;
            server.expect(client, b"question")?;
            server.send(client.parse()?, b"answer")?;
            balancer.expect(&framed(&header, b"answer"))?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}
