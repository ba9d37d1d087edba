//! Batches of datagrams: `recvmmsg(2)` and `sendmmsg(2)` with addresses and packet information (ip(7), ipv6(7)).

mod address;
mod inbox;
mod original;
mod outbox;
mod pktinfo;

use std::mem;
use std::net::{IpAddr, SocketAddr};

pub(crate) use self::inbox::Inbox;
pub(crate) use self::outbox::Outbox;

/// Datagrams of one system call.
pub(crate) const BATCH_MAX: usize = 64;

/// The local end of a datagram: where the peer wrote to, and where a reply has to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddr {
    pub(crate) ip: IpAddr,
    /// The interface, for link-local addresses; 0 leaves it to the routes.
    pub(crate) interface: u32,
}

/// A datagram that came in.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) payload: &'a [u8],
    /// The sender, as the kernel tells it (v4-mapped on dual-stack sockets).
    pub(crate) from: Option<SocketAddr>,
    /// Told if the socket has one of the `PKTINFO` options.
    pub(crate) local: Option<LocalAddr>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// What the datagram begins with, ahead of the payload; often nothing.
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// None on a connected socket.
    pub(crate) to: Option<Destination>,
}

/// Where to, and from which local address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<LocalAddr>,
}

/// Types for which all-zero is a valid value.
///
/// # Safety
///
/// - They hold nothing but integers, raw pointers, and such types.
unsafe trait Zeroable {}
// SAFETY: plain C structures of integers and pointers (ip(7), recvmmsg(2)).
unsafe impl Zeroable for libc::sockaddr_storage {}
// SAFETY: as above.
unsafe impl Zeroable for libc::mmsghdr {}
// SAFETY: as above.
unsafe impl Zeroable for [libc::iovec; 2] {}
// SAFETY: an array of bytes.
unsafe impl Zeroable for pktinfo::Control {}

fn zeroed<T: Zeroable>() -> Vec<T> {
    // SAFETY: all-zero is a valid `Zeroable`.
    std::iter::repeat_with(|| unsafe { mem::zeroed() })
        .take(BATCH_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
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
        });
        assert_eq!(sent.expect("sent"), payloads.len());

        let mut inbox = Inbox::with_addresses();
        assert_eq!(inbox.receive(&b, 60, 4).expect("received"), 4);
        for (i, payload) in payloads.iter().enumerate() {
            let datagram = inbox.get(60 + i);
            assert_eq!(datagram.payload, payload);
            assert_eq!(datagram.from, Some(a.local_addr().expect("bound")));
            assert_eq!(
                datagram.local,
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
            });
            assert_eq!(sent.expect("sent"), datagrams.len());
            let mut inbox = Inbox::of_payloads();
            let received = inbox.receive(&b, 0, BATCH_MAX).expect("received");
            assert_eq!(received, datagrams.len());
            for i in 0..received {
                let (header, payload) = datagram(i);
                assert_eq!(inbox.payload(i), [header, payload].concat());
            }
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
            inbox.get(0).local,
            Some(LocalAddr {
                ip: [127, 0, 0, 7].into(),
                interface: 0
            })
        );
    }
}
