//! What is in a datagram: the payload, all of it, and nothing else.

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";
const CLIENT_V6: &str = "[2001:db8::1]:4000";

/// The most a datagram holds: 65,535 bytes less the headers of IPv4 (RFC 791) and UDP (RFC 768).
const DATAGRAM_MAX: usize = 65_507;
/// IPv6 does not count its own header in the length (RFC 8200).
const DATAGRAM_V6_MAX: usize = 65_527;

/// `len` bytes, none of which is where it would be if a part were missing or moved.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(byte).take(len).collect()
}

#[test]
fn an_empty_datagram_is_a_datagram_either_way() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for _ in 0..3 {
            balancer.send(&proxy, &header_of(CLIENT)?, b"")?;
            server.expect(CLIENT, b"")?;
            server.send(CLIENT.parse()?, b"")?;
            balancer.expect(b"")?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn datagrams_of_any_size_pass_up_to_the_largest() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = header_of(CLIENT)?;
        for datagram in [29, 1_400, 1_500, 9_000, 65_506, DATAGRAM_MAX] {
            let question = noise(datagram - header.bytes().len());
            balancer.send(&proxy, &header, &question)?;
            assert_eq!(server.receive()?.payload, question);
            server.send(CLIENT.parse()?, &noise(datagram))?;
            assert_eq!(balancer.receive()?.payload, noise(datagram));
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn the_largest_datagrams_pass_over_ipv6() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("::1")?;
        let proxy = Proxy::udp(server.addr()?).listen("[::1]:0").start()?;
        let balancer = UdpBalancer::bind("::1")?;
        let header = header_of(CLIENT_V6)?;
        let question = noise(DATAGRAM_V6_MAX - header.bytes().len());
        balancer.send(&proxy, &header, &question)?;
        assert_eq!(server.receive()?.payload, question);
        server.send(CLIENT_V6.parse()?, &noise(DATAGRAM_V6_MAX))?;
        assert_eq!(balancer.receive()?.payload, noise(DATAGRAM_V6_MAX));
        proxy.stop()?.expect_success()
    })
}

/// An IPv6 server's largest reply does not fit into a datagram to an IPv4 balancer. The flow has to get over it.
#[test]
fn a_reply_too_large_for_the_balancers_family_is_dropped_alone() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("::1")?;
        let proxy = Proxy::udp(server.addr()?).args(["-v", "1"]).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT_V6)?, b"question")?;
        server.expect(CLIENT_V6, b"question")?;
        server.send(CLIENT_V6.parse()?, &noise(DATAGRAM_V6_MAX))?;
        server.send(CLIENT_V6.parse()?, b"answer")?;
        balancer.expect(b"answer")?;
        proxy.wait_for_message("cannot send a reply")?;
        proxy.stop()?.expect_success()
    })
}

/// Whatever follows the first header is the client's: it cannot give itself another source.
#[test]
fn a_second_header_is_payload() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let forged = header_of("192.0.2.66:6666")?;
        for forged in [forged, Header::v1("192.0.2.66:6666", "203.0.113.1:443")?] {
            balancer.send(&proxy, &header_of(CLIENT)?, forged.bytes())?;
            server.expect(CLIENT, forged.bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn extensions_of_the_header_do_not_reach_the_server() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = header_of(CLIENT)?
            .tlv(0x02, b"game.example")? // AUTHORITY
            .tlv(0x04, &[0; 300])? // NOOP
            .tlv(0xEA, b"vpce-1")?; // custom
        balancer.send(&proxy, &header, b"question")?;
        server.expect(CLIENT, b"question")?;
        proxy.stop()?.expect_success()
    })
}
