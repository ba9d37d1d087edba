//! Batches of datagrams: `recvmmsg(2)` and `sendmmsg(2)` with addresses and packet information (ip(7), ipv6(7)), and
//! with neighbours of one length in one piece (udp(7), `UDP_GRO` and `UDP_SEGMENT`).

mod address;
mod control;
mod inbox;
mod original;
mod outbox;
mod pktinfo;
mod segments;
// They send and receive, which Miri cannot.
#[cfg(all(test, not(miri)))]
mod tests;

use std::mem;
use std::net::{IpAddr, SocketAddr};

pub(crate) use self::inbox::Inbox;
pub(crate) use self::outbox::{Outbox, Refused};
pub(crate) use self::segments::{Datagrams, Span};

/// Datagrams of one system call, or pieces of several.
pub(crate) const BATCH_MAX: usize = 64;

/// The local end of a datagram: where the peer wrote to, and where a reply has to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddr {
    pub(crate) ip: IpAddr,
    /// The interface, for link-local addresses; 0 leaves it to the routes.
    pub(crate) interface: u32,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// What the datagram begins with, ahead of the payload; often nothing.
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// None on a connected socket.
    pub(crate) to: Option<Destination>,
    /// Datagrams up to this length may leave in one piece with others; 0: none may.
    pub(crate) segment_max: usize,
}

/// Where to, and from which local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
unsafe impl Zeroable for libc::iovec {}
// SAFETY: an array of bytes.
unsafe impl Zeroable for control::Control {}

// === impl Outgoing ===

impl<'a> Outgoing<'a> {
    /// What it consists of.
    fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let header = Some(self.header).filter(|header| !header.is_empty());
        header.into_iter().chain([self.payload])
    }

    fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

fn zeroed<T: Zeroable>(count: usize) -> Vec<T> {
    // SAFETY: all-zero is a valid `Zeroable`.
    std::iter::repeat_with(|| unsafe { mem::zeroed() })
        .take(count)
        .collect()
}
