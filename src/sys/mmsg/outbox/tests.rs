//! What the kernel finds behind the pointers it gets is what was to be sent: without it, so that Miri can look.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::super::address::address;
use super::super::pktinfo::local_address;
use super::super::{LocalAddr, Span, segments::Datagrams};
use super::*;

/// What a datagram comes to: its bytes, and its destination.
type Sent = (Vec<u8>, Option<SocketAddr>, Option<LocalAddr>);

/// Reads the first headers as `sendmmsg(2)` does, and takes pieces apart.
fn transmit(outbox: &Outbox, pieces: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    for (place, header) in outbox.headers[..pieces].iter().enumerate() {
        let header = header.msg_hdr;
        let (mut bytes, mut to, mut from, mut segment_len) = (Vec::new(), None, None, None);
        // SAFETY: as for the call in `send`, whose headers and payloads are still there.
        unsafe {
            for n in 0..header.msg_iovlen {
                let part = *header.msg_iov.add(n);
                bytes.extend_from_slice(std::slice::from_raw_parts(
                    part.iov_base.cast::<u8>(),
                    part.iov_len,
                ));
            }
            if !header.msg_name.is_null() {
                let name = &*header.msg_name.cast::<libc::sockaddr_storage>();
                to = address(name, header.msg_namelen);
            }
            if !header.msg_control.is_null() {
                let control = &*header.msg_control.cast::<Control>();
                for message in control.messages(header.msg_controllen) {
                    from = from.or(local_address(message));
                    if message.kind == libc::UDP_SEGMENT {
                        segment_len = message.value::<u16>().map(usize::from);
                    }
                }
            }
        }
        let whole = Span {
            place: place as u32,
            start: 0,
            end: bytes.len() as u32,
        };
        for span in Datagrams::new(whole, segment_len) {
            let (start, end) = (span.start as usize, span.end as usize);
            sent.push((bytes[start..end].to_vec(), to, from));
        }
    }
    sent
}

fn destination(n: u8) -> Option<Destination> {
    let v4 = SocketAddr::from(([192, 0, 2, n], 4000));
    let v6 = SocketAddr::from(([0x2001, 0xDB8, 0, 0, 0, 0, 0, u16::from(n)], 4000));
    let from = |ip| {
        let interface = 0;
        Some(LocalAddr { ip, interface })
    };
    let (to, from) = match n {
        0 => return None,
        1 => (v4, None),
        2 => (v4, from([198, 51, 100, 1].into())),
        _ => (v6, from([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1].into())),
    };
    Some(Destination { to, from })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 16 } else { 500 },
        // Miri has no files.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_to_be_sent_is_found_in_order(
        datagrams in prop::collection::vec((0..4_u8, 0..3_usize, 0..4_usize, 0..4_usize), 1..80),
    ) {
        let bytes = [1, 2, 3, 4, 5, 6];
        let datagrams: Vec<_> = datagrams
            .into_iter()
            .map(|(to, header, payload, segment_max)| Outgoing {
                header: &bytes[..header],
                payload: &bytes[6 - payload..],
                to: destination(to),
                segment_max,
            })
            .collect();
        let mut outbox = Outbox::new();
        let mut rest = &datagrams[..];
        while !rest.is_empty() {
            outbox.fill(rest.len(), |n| rest[n]);
            outbox.point();
            let sent = transmit(&outbox, outbox.pieces.len());
            prop_assert!(!sent.is_empty());
            for ((bytes, to, from), outgoing) in sent.iter().zip(rest) {
                prop_assert_eq!(bytes, &[outgoing.header, outgoing.payload].concat());
                prop_assert_eq!(*to, outgoing.to.map(|it| it.to));
                prop_assert_eq!(*from, outgoing.to.and_then(|it| it.from));
            }
            rest = &rest[sent.len()..];
        }
    }
}
