//! What a client can have for an address, and what of it is believed.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use super::*;

const REMOTE_PEER: &str = "192.0.2.1:4000";

fn believe(source: &str, peer: &str) -> Result<String, &'static str> {
    let source = source.parse().expect("an address");
    let peer = PeerAddr::new(peer.parse().expect("an address"));
    ClientAddr::believe(source, peer)
        .map(|client| client.to_string())
        .map_err(SourceError::kind)
}

#[test]
fn believes_what_a_client_can_have() {
    for source in [
        "203.0.113.7:1",
        "10.0.0.1:65535",
        "1.0.0.0:5000",
        "223.255.255.255:5000",
        // 240/4: Cloudflare's "Pseudo IPv4" gives such addresses to IPv6 clients.
        "240.0.0.0:5000",
        "240.0.0.1:5000",
        "255.255.255.254:5000",
        "169.254.1.1:5000",
        "[2001:db8::1]:5000",
        "[fd00::1]:5000",
        "[fec0::1]:5000",
        // Next to what is refused.
        "[::1:0:0]:5000",
        "[::1:7f00:1]:5000",
        "[::fffe:7f00:1]:5000",
        "[::ffff:0:7f00:1]:5000",
        "[64:ff9b::7f00:1]:5000",
    ] {
        assert_eq!(believe(source, REMOTE_PEER), Ok(source.to_owned()));
    }
}

#[test]
fn unmaps_a_mapped_source() {
    assert_eq!(
        believe("[::ffff:203.0.113.7]:5000", REMOTE_PEER),
        Ok("203.0.113.7:5000".to_owned())
    );
}

#[test]
fn a_peer_is_told_as_the_operator_knows_it() {
    for (addr, told) in [
        ("192.0.2.1:4000", "192.0.2.1:4000"),
        ("[::ffff:192.0.2.1]:4000", "192.0.2.1:4000"),
        ("[2001:db8::1]:4000", "[2001:db8::1]:4000"),
        ("[2001:db8::1%3]:4000", "[2001:db8::1]:4000"),
        ("[fe80::1%3]:4000", "[fe80::1%3]:4000"),
    ] {
        let peer = PeerAddr::new(addr.parse().expect("an address"));
        assert_eq!(peer.to_string(), told);
    }
    let labelled = SocketAddrV6::new("fe80::1".parse().expect("an address"), 4000, 7, 3);
    let peer = PeerAddr::new(labelled.into());
    assert_eq!(
        peer,
        PeerAddr::new("[fe80::1%3]:4000".parse().expect("an address"))
    );
}

#[test]
fn drops_the_zone_of_a_source() {
    let source = SocketAddrV6::new("2001:db8::1".parse().expect("an address"), 5000, 7, 3);
    let peer = PeerAddr::new(REMOTE_PEER.parse().expect("an address"));
    let client = ClientAddr::believe(source.into(), peer).expect("a client's address");
    assert_eq!(
        client.addr(),
        "[2001:db8::1]:5000".parse().expect("an address")
    );
}

#[test]
fn refuses_what_no_client_can_have() {
    for (source, kind) in [
        ("0.0.0.0:5000", "unspecified"),
        ("0.0.0.1:5000", "unspecified"),
        ("0.255.255.255:5000", "unspecified"),
        ("[::]:5000", "unspecified"),
        ("[::ffff:0.0.0.0]:5000", "unspecified"),
        ("[::ffff:0.1.2.3]:5000", "unspecified"),
        ("224.0.0.1:5000", "multicast"),
        ("239.255.255.255:5000", "multicast"),
        ("[ff02::1]:5000", "multicast"),
        ("[ff00::]:5000", "multicast"),
        ("[::ffff:224.0.0.1]:5000", "multicast"),
        ("[::ffff:239.255.255.255]:5000", "multicast"),
        (
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:5000",
            "multicast",
        ),
        ("255.255.255.255:5000", "broadcast"),
        ("[::ffff:255.255.255.255]:5000", "broadcast"),
        ("[::2]:5000", "v4_compatible"),
        ("[::0.0.0.2]:5000", "v4_compatible"),
        ("[::127.0.0.1]:5000", "v4_compatible"),
        ("[::224.0.0.1]:5000", "v4_compatible"),
        ("[::203.0.113.7]:5000", "v4_compatible"),
        ("[::255.255.255.255]:5000", "v4_compatible"),
        ("[fe80::1]:5000", "link_local"),
        ("[febf:ffff::1]:5000", "link_local"),
        ("203.0.113.7:0", "port_zero"),
        ("[::ffff:203.0.113.7]:0", "port_zero"),
        ("[2001:db8::1]:0", "port_zero"),
        ("127.0.0.1:5000", "loopback"),
        ("127.255.255.254:5000", "loopback"),
        ("[::1]:5000", "loopback"),
        ("[::ffff:127.0.0.1]:5000", "loopback"),
        ("[::ffff:127.255.255.255]:5000", "loopback"),
    ] {
        assert_eq!(believe(source, REMOTE_PEER), Err(kind), "{source}");
    }
}

#[test]
fn believes_a_loopback_source_from_a_loopback_peer_only() {
    for peer in [
        "127.0.0.1:4000",
        "127.9.9.9:4000",
        "[::1]:4000",
        "[::ffff:127.0.0.1]:4000",
    ] {
        for source in ["127.0.0.1:5000", "127.1.2.3:5000", "[::1]:5000"] {
            assert_eq!(believe(source, peer), Ok(source.to_owned()), "{peer}");
        }
        // Everything else is refused from such a peer, too.
        assert_eq!(believe("0.0.0.0:5000", peer), Err("unspecified"));
        assert_eq!(believe("127.0.0.1:0", peer), Err("port_zero"));
    }
    assert_eq!(believe("[::1]:5000", "[2001:db8::1]:4000"), Err("loopback"));
}

#[test]
fn every_source_error_is_one_line_under_a_listed_label() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let errors = [
        SourceError::Unspecified(ip),
        SourceError::Multicast(ip),
        SourceError::Broadcast(ip),
        SourceError::V4Compatible(ip),
        SourceError::LinkLocal(ip),
        SourceError::PortZero(ip),
        SourceError::Loopback(ip),
    ];
    assert_eq!(errors.map(SourceError::kind), SourceError::KINDS);
    for error in errors {
        let line = error.to_string();
        assert!(
            line.starts_with("source 127.0.0.1 ") && !line.contains('\n'),
            "{line}"
        );
    }
}
