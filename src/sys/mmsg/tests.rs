//! Through loopback: what goes in comes out.

use super::*;
use crate::sys::sockopt::IntOption;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

fn pair() -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let b = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    a.connect(b.local_addr().expect("bound")).expect("loopback");
    (a, b)
}

#[test]
fn batches_keep_order_sizes_and_senders() {
    let (a, b) = pair();
    IntOption::PKTINFO_V4.set(&b, 1).expect("known option");
    let payloads: Vec<Vec<u8>> = [0usize, 1, 1200, 65_507]
        .iter()
        .map(|&n| vec![n as u8; n])
        .collect();
    let mut outbox = Outbox::new();
    let sent = outbox.send(&a, payloads.len(), |i| Outgoing {
        header: &[],
        payload: &payloads[i],
        to: None,
        segment_max: 0,
    });
    assert_eq!(sent.expect("sent"), payloads.len());

    let mut inbox = Inbox::with_addresses();
    assert_eq!(inbox.receive(&b, 60, 4).expect("received"), 4);
    for (i, payload) in payloads.iter().enumerate() {
        let datagrams: Vec<_> = inbox.datagrams(60 + i).collect();
        assert_eq!(datagrams.len(), 1);
        assert_eq!(inbox.bytes(datagrams[0]), payload);
        assert_eq!(inbox.sender(60 + i), Some(a.local_addr().expect("bound")));
        assert_eq!(
            inbox.local_addr(60 + i),
            Some(LocalAddr {
                ip: Ipv4Addr::LOCALHOST.into(),
                interface: 0
            })
        );
    }
    let empty = inbox.receive(&b, 0, BATCH_MAX).expect_err("nothing left");
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_header_goes_ahead_of_its_payload() {
    let (a, b) = pair();
    let datagrams: [(&[u8], &[u8]); 5] = [
        (b"", b"bare"),
        (b"header ", b"payload"),
        (b"header", b""),
        (b"", b""),
        (b"another ", b"payload"),
    ];
    let mut outbox = Outbox::new();
    // A second time, over what the first has left in its place.
    for shift in [0, 1] {
        let datagram = |i: usize| datagrams[(i + shift) % datagrams.len()];
        let sent = outbox.send(&a, datagrams.len(), |i| Outgoing {
            header: datagram(i).0,
            payload: datagram(i).1,
            to: None,
            segment_max: 0,
        });
        assert_eq!(sent.expect("sent"), datagrams.len());
        let received = pieces(&mut Inbox::of_payloads(), &b).concat();
        let sent = (0..datagrams.len()).map(|i| [datagram(i).0, datagram(i).1].concat());
        assert_eq!(received, sent.collect::<Vec<_>>());
    }
}

#[test]
fn replies_leave_from_the_address_asked_for() {
    for (bound, client, from) in [
        ("0.0.0.0:0", "127.0.0.1:0", IpAddr::from([127, 0, 0, 9])),
        ("[::]:0", "127.0.0.1:0", IpAddr::from([127, 0, 0, 9])),
        ("[::]:0", "[::1]:0", IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        let server = UdpSocket::bind(bound).expect("loopback");
        let client = UdpSocket::bind(client).expect("loopback");
        let to = client.local_addr().expect("bound");
        // A dual-stack socket knows IPv4 peers by their mapped addresses.
        let to = match (bound, to) {
            ("[::]:0", SocketAddr::V4(v4)) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            (_, to) => to,
        };
        let destination = Destination {
            to,
            from: Some(LocalAddr {
                ip: from,
                interface: 0,
            }),
        };
        let sent = Outbox::new().send(&server, 1, |_| Outgoing {
            header: &[],
            payload: b"hi",
            to: Some(destination),
            segment_max: 0,
        });
        assert_eq!(sent.expect("sent"), 1);
        let (_, seen) = client.recv_from(&mut [0; 2]).expect("a reply");
        assert_eq!(seen.ip(), from);
    }
}

#[test]
fn the_local_address_of_mapped_datagrams_is_unmapped() {
    let server = UdpSocket::bind("[::]:0").expect("loopback");
    IntOption::PKTINFO_V6.set(&server, 1).expect("known option");
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    client
        .send_to(
            b"x",
            ("127.0.0.7", server.local_addr().expect("bound").port()),
        )
        .expect("sent");
    let mut inbox = Inbox::with_addresses();
    assert_eq!(inbox.receive(&server, 0, 1).expect("received"), 1);
    assert_eq!(
        inbox.local_addr(0),
        Some(LocalAddr {
            ip: [127, 0, 0, 7].into(),
            interface: 0
        })
    );
}

/// `count` datagrams of these lengths, none like another.
fn payloads(lens: &[usize]) -> Vec<Vec<u8>> {
    let payload = |(n, &len): (usize, &usize)| (0..len).map(|i| (7 * n + i) as u8).collect();
    lens.iter().enumerate().map(payload).collect()
}

/// Sends them all, in as many calls as it takes.
fn send_all(outbox: &mut Outbox, socket: &UdpSocket, outgoing: &[Outgoing<'_>]) {
    let mut sent = 0;
    while sent < outgoing.len() {
        let taken = outbox.send(socket, outgoing.len() - sent, |i| outgoing[sent + i]);
        sent += taken.expect("sent");
    }
}

fn together<'a>(payloads: &'a [Vec<u8>], to: Option<Destination>) -> Vec<Outgoing<'a>> {
    let outgoing = |payload: &'a Vec<u8>| Outgoing {
        header: &[],
        payload,
        to,
        segment_max: usize::MAX,
    };
    payloads.iter().map(outgoing).collect()
}

/// The datagrams of each piece that waits at a socket.
fn pieces(inbox: &mut Inbox, socket: &UdpSocket) -> Vec<Vec<Vec<u8>>> {
    let received = inbox.receive(socket, 0, BATCH_MAX).expect("received");
    (0..received)
        .map(|place| {
            let datagrams = inbox.datagrams(place);
            datagrams.map(|span| inbox.bytes(span).to_vec()).collect()
        })
        .collect()
}

#[test]
fn neighbours_of_one_length_leave_in_one_piece_and_come_apart_again() {
    let (a, b) = pair();
    IntOption::RECEIVE_PIECES.set(&b, 1).expect("Linux 5.0");
    for (lens, expected) in [
        (&[100; 5][..], &[5][..]),
        (&[100, 100, 99, 100], &[3, 1]),
        (&[100, 101, 101], &[1, 2]),
        (&[9, 8, 8, 7], &[2, 2]),
        (&[0, 0, 5, 5, 0, 5], &[1, 1, 2, 1, 1]),
        (&[1; 70], &[64, 6]),
        // 64 KiB in all is the limit.
        (&[30_000; 5], &[2, 2, 1]),
        (&[21_825, 21_825, 21_823], &[3]),
        (&[21_825, 21_825, 21_824], &[2, 1]),
        (&[65_507, 1], &[1, 1]),
    ] {
        let payloads = payloads(lens);
        send_all(&mut Outbox::new(), &a, &together(&payloads, None));
        let received = pieces(&mut Inbox::of_payloads(), &b);
        let counts: Vec<_> = received.iter().map(Vec::len).collect();
        assert_eq!(counts, expected, "of {lens:?}");
        assert_eq!(received.concat(), payloads, "of {lens:?}");
    }
}

/// A datagram's length is that of its header and its payload, and each begins with its own header.
#[test]
fn datagrams_in_two_parts_share_pieces_too() {
    let (a, b) = pair();
    IntOption::RECEIVE_PIECES.set(&b, 1).expect("Linux 5.0");
    let bytes = payloads(&[100; 200]);
    for (cuts, expected) in [
        // Where each datagram's header ends, and where its payload does.
        (&[(38, 100); 4][..], &[4][..]),
        (&[(38, 100), (38, 90), (38, 100)], &[2, 1]),
        (&[(10, 50), (0, 50), (50, 50), (20, 50)], &[4]),
        (&[(0, 0), (38, 38), (38, 38), (38, 39)], &[1, 2, 1]),
        (&[(38, 100); 200], &[64, 64, 64, 8]),
    ] {
        let datagrams: Vec<_> = bytes.iter().zip(cuts).collect();
        let outgoing: Vec<_> = datagrams
            .iter()
            .map(|&(bytes, &(header, end))| Outgoing {
                header: &bytes[..header],
                payload: &bytes[header..end],
                to: None,
                segment_max: usize::MAX,
            })
            .collect();
        let mut outbox = Outbox::new();
        send_all(&mut outbox, &a, &outgoing);
        // Over what the others have left.
        send_all(&mut outbox, &a, &outgoing[..1]);
        let received = pieces(&mut Inbox::of_payloads(), &b);
        let counts: Vec<_> = received.iter().map(Vec::len).collect();
        assert_eq!(counts, [expected, &[1]].concat(), "of {cuts:?}");
        let whole = datagrams
            .iter()
            .map(|&(bytes, &(_, end))| bytes[..end].to_vec());
        let mut sent: Vec<_> = whole.collect();
        sent.push(sent[0].clone());
        assert_eq!(received.concat(), sent, "of {cuts:?}");
    }
}

#[test]
fn receivers_that_know_of_no_pieces_get_datagrams() {
    let (a, b) = pair();
    let payloads = payloads(&[1_200, 1_200, 1_200, 7]);
    send_all(&mut Outbox::new(), &a, &together(&payloads, None));
    let received = pieces(&mut Inbox::of_payloads(), &b);
    assert_eq!(received.len(), 4);
    assert_eq!(received.concat(), payloads);
}

#[test]
fn more_datagrams_than_one_call_takes_leave_in_several() {
    let (a, b) = pair();
    IntOption::RECEIVE_PIECES.set(&b, 1).expect("Linux 5.0");
    let (mut outbox, mut inbox) = (Outbox::new(), Inbox::of_payloads());
    let payloads = payloads(&[3; 3_000]);
    send_all(&mut outbox, &a, &together(&payloads, None));
    assert_eq!(pieces(&mut inbox, &b).concat(), payloads);
}

/// Replies to a piece: packet information and the segment length are told at once, either way.
#[test]
fn pieces_have_local_addresses_too() {
    for (bound, client, option) in [
        ("0.0.0.0:0", "127.0.0.9:0", IntOption::PKTINFO_V4),
        ("[::]:0", "127.0.0.9:0", IntOption::PKTINFO_V6),
        ("[::]:0", "[::1]:0", IntOption::PKTINFO_V6),
    ] {
        let server = UdpSocket::bind(bound).expect("loopback");
        let client = UdpSocket::bind(client).expect("loopback");
        let at = client.local_addr().expect("bound").ip();
        let port = server.local_addr().expect("bound").port();
        for socket in [&server, &client] {
            IntOption::RECEIVE_PIECES.set(socket, 1).expect("Linux 5.0");
        }
        option.set(&server, 1).expect("known option");
        client.connect((at, port)).expect("loopback");

        let payloads = payloads(&[200, 200, 200, 1]);
        let (mut inbox, mut outbox) = (Inbox::with_addresses(), Outbox::new());
        send_all(&mut outbox, &client, &together(&payloads, None));
        assert_eq!(pieces(&mut inbox, &server), [&payloads[..]]);
        let local = inbox.local_addr(0);
        assert_eq!(local.map(|local| local.ip), Some(at), "on {bound}");

        // The client is connected: it hears the address it wrote to, and no other.
        let to = inbox.sender(0).map(|to| Destination { to, from: local });
        send_all(&mut outbox, &server, &together(&payloads, to));
        assert_eq!(pieces(&mut inbox, &client), [&payloads[..]], "on {bound}");
    }
}

#[test]
fn only_neighbours_with_one_destination_share_a_piece() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let clients = ["127.0.0.1:0", "127.0.0.1:0"].map(|addr| {
        let client = UdpSocket::bind(addr).expect("loopback");
        IntOption::RECEIVE_PIECES
            .set(&client, 1)
            .expect("Linux 5.0");
        client
    });
    let payloads = payloads(&[10; 6]);
    let mut outgoing = together(&payloads, None);
    for (place, outgoing) in outgoing.iter_mut().enumerate() {
        let to = clients[usize::from((2..4).contains(&place))].local_addr();
        outgoing.to = Some(Destination {
            to: to.expect("bound"),
            from: None,
        });
    }
    send_all(&mut Outbox::new(), &server, &outgoing);
    let mut inbox = Inbox::with_addresses();
    let halves = [&payloads[..2], &payloads[4..]];
    assert_eq!(pieces(&mut inbox, &clients[0]), halves);
    assert_eq!(pieces(&mut inbox, &clients[1]), [&payloads[2..4]]);
}

/// The places of earlier calls are still read when a later call has filled the next ones.
#[test]
fn a_batch_may_come_from_several_sockets() {
    let (mut inbox, mut outbox) = (Inbox::of_payloads(), Outbox::new());
    for round in 0..3 {
        let mut filled = 0;
        let mut expected = Vec::new();
        for lens in [&[50, 50, 50][..], &[60], &[70, 70, 1], &[0]] {
            let (a, b) = pair();
            IntOption::RECEIVE_PIECES.set(&b, 1).expect("Linux 5.0");
            let payloads = payloads(lens);
            send_all(&mut outbox, &a, &together(&payloads, None));
            filled += inbox.receive(&b, filled, 8).expect("received");
            expected.push(payloads);
        }
        assert_eq!(filled, expected.len(), "in round {round}");
        for (place, expected) in expected.iter().enumerate() {
            let datagrams = inbox.datagrams(place);
            let datagrams: Vec<_> = datagrams.map(|span| inbox.bytes(span).to_vec()).collect();
            assert_eq!(&datagrams, expected, "in round {round}");
        }
    }
}

#[test]
fn what_the_kernel_could_not_describe_is_no_datagram() {
    let (a, b) = pair();
    IntOption::RECEIVE_PIECES.set(&b, 1).expect("Linux 5.0");
    // More control messages than anybody asks for: there is no room for the segment length behind them.
    for option in [
        IntOption::PKTINFO_V4,
        IntOption::ORIGINAL_DESTINATION_V4,
        IntOption::for_tests(libc::SOL_IP, libc::IP_RECVTTL),
        IntOption::for_tests(libc::SOL_IP, libc::IP_RECVTOS),
    ] {
        option.set(&b, 1).expect("known option");
    }
    let payloads = payloads(&[100; 4]);
    send_all(&mut Outbox::new(), &a, &together(&payloads, None));
    let mut inbox = Inbox::of_payloads();
    assert_eq!(inbox.receive(&b, 0, 1).expect("received"), 1);
    assert!(inbox.is_cut(0));
    assert_eq!(inbox.datagrams(0).count(), 0);
    // The place is as good as new.
    let (a, b) = pair();
    send_all(&mut Outbox::new(), &a, &together(&payloads[..1], None));
    assert_eq!(pieces(&mut inbox, &b), [&payloads[..1]]);
}

#[test]
fn a_piece_that_is_refused_tells_what_was_in_it() {
    let (a, _b) = pair();
    // No checksums, no pieces (udp(7)).
    IntOption::for_tests(libc::SOL_SOCKET, libc::SO_NO_CHECK)
        .set(&a, 1)
        .expect("known option");
    let payloads = payloads(&[100, 100, 50, 100]);
    let outgoing = together(&payloads, None);
    let mut outbox = Outbox::new();
    let refused = outbox
        .send(&a, 4, |i| outgoing[i])
        .expect_err("pieces need checksums");
    assert_eq!(refused.error.raw_os_error(), Some(libc::EINVAL));
    assert_eq!((refused.datagrams, refused.segment_len), (3, 100));
    let alone = |i: usize| Outgoing {
        segment_max: 99,
        ..outgoing[i]
    };
    assert_eq!(outbox.send(&a, 4, alone).expect("sent"), 4);
}
