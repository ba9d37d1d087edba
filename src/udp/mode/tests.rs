//! What each mode makes of the same datagrams.

use super::*;
use crate::addr::{ClientAddr, PeerAddr};
use crate::udp::flow::FrontendId;
use std::net::SocketAddr;

const IDLE: Duration = Duration::from_secs(60);
const PAYLOAD: &[u8] = b"\r\n\r\nhello";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn peer() -> PeerAddr {
    PeerAddr::new(addr("198.51.100.9:7000"))
}

const FRONTEND: FrontendId = 3;

fn from() -> Downstream {
    Downstream {
        peer: peer(),
        frontend: FRONTEND,
    }
}

/// A session of this client, for the destination in all headers.
fn client(text: &str) -> Session {
    Session {
        party: Party::Client(ClientAddr::believe(addr(text), peer()).expect("a client")),
        destination: Some(addr("192.0.2.1:27015")),
    }
}

/// One without a client.
fn itself() -> Session {
    Session {
        party: Party::Peer(peer(), FRONTEND),
        destination: None,
    }
}

/// A header of version 2 over UDP, of the client 203.0.113.`n`, port 4000.
fn v2(n: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
    header.extend([203, 0, 113, n, 192, 0, 2, 1, 0x0F, 0xA0, 0x69, 0x87]);
    header
}

fn local() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()
}

fn spp(n: u8) -> Vec<u8> {
    let mut header = vec![0x56, 0xEC];
    for ip in [[203, 0, 113, n], [192, 0, 2, 1]] {
        header.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]);
        header.extend(ip);
    }
    header.extend([0x0F, 0xA0, 0x69, 0x87]);
    header
}

fn then(mut header: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    header.extend(payload);
    header
}

/// A mode at one moment.
struct At(Mode, Instant);

impl At {
    fn new(header: UdpHeader) -> Self {
        Self(
            Mode::new(header, Trust::default(), 10, IDLE),
            Instant::now(),
        )
    }

    fn read(&mut self, datagram: &[u8]) -> Reading {
        self.0.read(datagram, from(), self.1)
    }

    #[track_caller]
    fn speaker(&mut self, datagram: &[u8]) -> (Session, Option<usize>) {
        let speaker = self.read(datagram).speaker.expect("it passes");
        (speaker.session, speaker.payload_at)
    }

    #[track_caller]
    fn refusal(&mut self, datagram: &[u8]) -> Refusal {
        self.read(datagram).speaker.expect_err("it is dropped")
    }
}

#[test]
fn v2_reads_a_header_off_each() {
    let mut mode = At::new(UdpHeader::V2);
    for n in [1, 2, 1] {
        let session = client(&format!("203.0.113.{n}:4000"));
        assert_eq!(mode.speaker(&then(v2(n), PAYLOAD)), (session, Some(28)));
        // An empty payload is a datagram.
        assert_eq!(mode.speaker(&v2(n)), (session, Some(28)));
        let refusal = mode.refusal(PAYLOAD);
        assert_eq!(refusal, Refusal::Header(HeaderError::Missing));
    }
    assert_eq!(mode.speaker(&local()), (itself(), Some(16)));
    let refusal = mode.refusal(&spp(1));
    assert_eq!(refusal, Refusal::Header(HeaderError::LooksLikeSpp));
}

#[test]
fn spp_gives_the_header_for_the_replies() {
    let mut mode = At::new(UdpHeader::Spp);
    let speaker = mode
        .read(&then(spp(7), PAYLOAD))
        .speaker
        .expect("it passes");
    assert_eq!(speaker.session, client("203.0.113.7:4000"));
    assert_eq!(speaker.payload_at, Some(38));
    assert_eq!(speaker.spp.map(Vec::from), Some(spp(7)));
    assert_eq!(mode.speaker(&spp(7)).1, Some(38));

    let refusal = mode.refusal(&v2(1));
    assert_eq!(refusal, Refusal::Header(HeaderError::V2InsteadOfSpp));
    let refusal = mode.refusal(PAYLOAD);
    assert_eq!(refusal, Refusal::Header(HeaderError::SppMissing));
    assert!(matches!(mode.refusal(&spp(7)[..20]), Refusal::Header(_)));
    let mut nowhere = spp(7);
    nowhere[14..18].fill(0);
    assert!(matches!(mode.refusal(&nowhere), Refusal::Source(_)));
}

#[test]
fn v2_first_knows_the_others_by_their_peer() {
    let mut mode = At::new(UdpHeader::V2First);
    let unbound = Refusal::Unbound(HeaderError::Missing);
    assert_eq!(mode.refusal(PAYLOAD), unbound);
    let (one, two) = (client("203.0.113.1:4000"), client("203.0.113.2:4000"));
    assert_eq!(mode.speaker(&then(v2(1), PAYLOAD)), (one, Some(28)));
    // Whatever they begin with, short of a signature, and empty ones too.
    for payload in [PAYLOAD, b"", b"\r\n\r\n\0\r\nQUIT", b"PROXY TCP4 ", &spp(3)] {
        assert_eq!(mode.speaker(payload), (one, Some(0)));
    }

    // A header alone is no datagram for the server.
    let reading = mode.read(&v2(2));
    assert_eq!(reading.former, Some(one));
    let speaker = reading.speaker.expect("it passes");
    assert_eq!((speaker.session, speaker.payload_at), (two, None));
    assert!(speaker.is_new);
    assert_eq!(mode.speaker(PAYLOAD), (two, Some(0)));
    let again = mode.read(&then(v2(2), PAYLOAD));
    assert_eq!(again.former, None);
    assert!(!again.speaker.expect("it passes").is_new);

    let other_peer = Downstream {
        peer: PeerAddr::new(addr("198.51.100.9:7001")),
        ..from()
    };
    let other_frontend = Downstream {
        frontend: FRONTEND + 1,
        ..from()
    };
    for other in [other_peer, other_frontend] {
        let reading = mode.0.read(PAYLOAD, other, mode.1);
        assert_eq!(reading.speaker, Err(Refusal::Unbound(HeaderError::Missing)));
    }
}

#[test]
fn v2_first_forwards_nothing_behind_a_refused_header() {
    let cut = |len: usize| v2(2)[..len].to_vec();
    let mut nowhere = v2(2);
    nowhere[16..20].fill(0);
    for refused in [cut(12), cut(16), cut(27), nowhere, local()] {
        let mut mode = At::new(UdpHeader::V2First);
        let one = client("203.0.113.1:4000");
        mode.speaker(&v2(1));
        let reading = mode.read(&refused);
        assert!(reading.speaker.is_err());
        assert_eq!(reading.former, Some(one));
        assert!(matches!(mode.refusal(PAYLOAD), Refusal::Unbound(_)));
        assert!(matches!(mode.refusal(&local()), Refusal::HostBehindClient));
        mode.speaker(&v2(1));
        assert_eq!(mode.speaker(PAYLOAD), (one, Some(0)));
    }
}

/// Addresses are found before TLVs are looked at, which must make a client of none of them.
#[test]
fn broken_tlvs_speak_for_nobody() {
    let with = |tlvs: &[u8]| {
        let mut header = then(v2(7), tlvs);
        header[15] += tlvs.len() as u8;
        then(header, PAYLOAD)
    };
    for (tlvs, kind) in [
        (b"\x04\0\x05".as_slice(), "tlvs_malformed"),
        (b"\x03\0\x02\0\0", "crc_malformed"),
        (b"\x03\0\x04\0\0\0\0", "crc_mismatch"),
    ] {
        let datagram = with(tlvs);
        for header in [UdpHeader::V2, UdpHeader::V2First] {
            let mut mode = At::new(header);
            let refused = mode.read(&datagram).speaker;
            assert!(
                matches!(refused, Err(Refusal::Header(error)) if error.kind() == kind),
                "{refused:?}"
            );
        }

        let mut first = At::new(UdpHeader::V2First);
        first.speaker(&v2(8));
        assert_eq!(
            first.read(&datagram).former,
            Some(client("203.0.113.8:4000"))
        );
        let behind = first.read(PAYLOAD).speaker;
        assert_eq!(behind, Err(Refusal::Unbound(HeaderError::Missing)));
    }
}

#[test]
fn v2_first_binds_a_peer_without_a_client_to_itself() {
    let mut mode = At::new(UdpHeader::V2First);
    assert_eq!(mode.speaker(&then(local(), PAYLOAD)), (itself(), Some(16)));
    assert_eq!(mode.speaker(PAYLOAD), (itself(), Some(0)));
    assert_eq!(mode.speaker(&local()), (itself(), None));
    assert_eq!(mode.read(&v2(1)).former, Some(itself()));
}

#[test]
fn v2_first_forgets_with_time() {
    let mut mode = At::new(UdpHeader::V2First);
    mode.speaker(&v2(1));
    assert_eq!(mode.0.next_expiry(), Some(mode.1 + IDLE));
    mode.1 += IDLE / 2;
    mode.0.answer(from(), mode.1);
    mode.1 += IDLE / 2;
    assert!(!mode.0.expire(mode.1));
    mode.1 += IDLE / 2;
    assert!(mode.0.expire(mode.1));
    assert!(matches!(mode.refusal(PAYLOAD), Refusal::Unbound(_)));
}

#[test]
fn reasons_tell_what_to_do() {
    for (header, datagram, words) in [
        (UdpHeader::V2, spp(1), "--udp-header spp"),
        (UdpHeader::V2First, spp(1), "--udp-header spp"),
        (UdpHeader::V2First, PAYLOAD.to_vec(), "--close-after"),
        (UdpHeader::V2First, b"PROXY TCP4 ".to_vec(), "version 1"),
        (UdpHeader::Spp, v2(1), "--udp-header v2"),
        (UdpHeader::Spp, PAYLOAD.to_vec(), "--udp-header spp"),
    ] {
        let reason = At::new(header).refusal(&datagram).to_string();
        assert!(reason.contains(words), "{reason}");
    }
}
