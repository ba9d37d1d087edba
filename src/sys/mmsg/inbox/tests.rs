//! What is written through the pointers that the kernel gets is what is read: without it, so that Miri can look.

use std::net::{Ipv6Addr, SocketAddrV6};

use super::super::address::set_address;
use super::super::pktinfo::push_local_address;
use super::*;

/// Does what `recvmmsg(2)` does in a place that was asked for.
fn deliver(inbox: &mut Inbox, place: usize, bytes: &[u8], from: SocketAddr, local: LocalAddr) {
    inbox.restore_lengths(places(place, 1));
    let headers = inbox.headers.as_mut_ptr();
    let mut name: libc::sockaddr_storage = zeroed(1)[0];
    let name_len = set_address(&mut name, from);
    let mut control: Control = zeroed(1)[0];
    let control_len = push_local_address(&mut control, 0, local, from.is_ipv6());
    // SAFETY: as for the call in `receive`; every length is below the announced one.
    unsafe {
        let header = &mut *headers.add(place);
        header.msg_len = bytes.len() as libc::c_uint;
        let header = &mut header.msg_hdr;
        let buffer = *header.msg_iov;
        assert!(bytes.len() <= buffer.iov_len);
        ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.iov_base.cast(), bytes.len());
        if !header.msg_name.is_null() {
            assert!(header.msg_namelen as usize >= size_of_val(&name));
            header.msg_name.cast::<libc::sockaddr_storage>().write(name);
            header.msg_namelen = name_len;
        }
        assert!(header.msg_controllen >= control_len);
        header.msg_control.cast::<Control>().write(control);
        header.msg_controllen = control_len as _;
    }
    inbox.overwritten |= places(place, 1);
}

fn peer(n: u16) -> SocketAddr {
    let link_local = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, n);
    match n % 2 {
        0 => SocketAddr::from(([192, 0, 2, 1], n)),
        _ => SocketAddrV6::new(link_local, n, 0, 7).into(),
    }
}

fn local(n: u16) -> LocalAddr {
    match n % 2 {
        0 => LocalAddr {
            ip: [198, 51, 100, 9].into(),
            interface: 0,
        },
        _ => LocalAddr {
            ip: Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1).into(),
            interface: 7,
        },
    }
}

#[test]
fn what_the_kernel_writes_is_read() {
    let mut inbox = Inbox::with_addresses();
    for round in 0..2_u16 {
        let mut given = Vec::new();
        for (n, place) in (round..).zip([0, 1, 17, BATCH_MAX - 1]) {
            let bytes = vec![n as u8; 3 + usize::from(n)];
            deliver(&mut inbox, place, &bytes, peer(n), local(n));
            given.push((n, place, bytes));
        }
        // The pointers hold when the inbox moves, and others can be read while one is.
        let moved = Box::new(inbox);
        let read: Vec<_> = given
            .iter()
            .flat_map(|&(_, place, _)| moved.datagrams(place))
            .map(|span| moved.bytes(span))
            .collect();
        for ((n, place, bytes), read) in given.iter().zip(&read) {
            assert_eq!(read, bytes);
            assert_eq!(moved.sender(*place), Some(peer(*n)));
            assert_eq!(moved.local_addr(*place), Some(local(*n)));
            assert_eq!(moved.original_destination(*place), None);
        }
        assert_eq!(read.len(), given.len());
        inbox = *moved;
    }
}

#[test]
fn without_addresses_nobody_is_told() {
    let mut inbox = Inbox::of_payloads();
    deliver(&mut inbox, 5, b"payload", peer(1), local(1));
    assert_eq!(inbox.sender(5), None);
    let spans: Vec<_> = inbox.datagrams(5).collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(inbox.bytes(spans[0]), b"payload");
    assert_eq!(inbox.bytes(spans[0].behind(3)), b"load");
}

#[test]
fn the_largest_datagram_ends_before_the_next_buffer() {
    let mut inbox = Inbox::of_payloads();
    let largest = vec![1; DATAGRAM_MAX];
    deliver(&mut inbox, 1, b"next", peer(0), local(0));
    deliver(&mut inbox, 0, &largest, peer(0), local(0));
    let bytes = |place| inbox.datagrams(place).map(|span| inbox.bytes(span)).next();
    assert_eq!(bytes(0), Some(&largest[..]));
    assert_eq!(bytes(1), Some(&b"next"[..]));
}

#[test]
fn what_is_put_is_read_and_so_is_what_the_kernel_writes_before_and_behind_it() {
    let mut inbox = Inbox::with_addresses();
    deliver(&mut inbox, 0, b"before", peer(1), local(1));
    deliver(&mut inbox, 1, b"aside", peer(2), local(2));
    let piece = b"onetwothree"[..8].to_vec();
    let datagrams: Vec<_> = inbox.put(0, &piece, 3).collect();
    let put: Vec<_> = datagrams.iter().map(|&it| inbox.bytes(it)).collect();
    assert_eq!(put, [&b"one"[..], b"two", b"th"]);
    let aside: Vec<_> = inbox.datagrams(1).map(|it| inbox.bytes(it)).collect();
    assert_eq!(aside, [b"aside"]);
    deliver(&mut inbox, 0, b"behind", peer(3), local(3));
    let behind: Vec<_> = inbox.datagrams(0).map(|it| inbox.bytes(it)).collect();
    assert_eq!(behind, [b"behind"]);
    // No longer than any piece can be.
    let long = vec![7; DATAGRAM_MAX + 1];
    let lens: Vec<_> = inbox.put(0, &long, long.len()).map(Span::len).collect();
    assert_eq!(lens, [DATAGRAM_MAX]);
}
