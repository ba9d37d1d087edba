//! Datagrams coming in.

#[cfg(test)]
mod tests;

use std::cell::UnsafeCell;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::address::address;
use super::control::{Control, Message};
use super::original::original_destination;
use super::pktinfo::local_address;
use super::segments::{Datagrams, Span, segment_len};
use super::{BATCH_MAX, LocalAddr, zeroed};

/// The largest UDP datagram fits: 65,507 bytes over IPv4, 65,527 over IPv6. A piece of several is not longer. (Miri minds each
/// byte by itself, and would take minutes for 4 MiB of them.)
const DATAGRAM_MAX: usize = if cfg!(miri) { 511 } else { 65_535 };

/// Distance of two receive buffers. Not a power of two: the headers of 64 datagrams would share one set of the cache.
const STRIDE: usize = DATAGRAM_MAX + 1 + 192;

/// Buffers for [`BATCH_MAX`] datagrams of any size, or pieces of several. Memory is touched, and so used, only as far as
/// datagrams reach.
pub(crate) struct Inbox {
    bytes: Vec<UnsafeCell<u8>>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    /// Only pointed to, by `headers`.
    _vectors: Vec<libc::iovec>,
    /// Whether senders are asked for.
    with_addresses: bool,
    /// Places whose lengths the kernel has overwritten, a bit each.
    overwritten: u64,
}

// === impl Inbox ===

impl Inbox {
    /// For datagrams whose sender is known, on connected sockets.
    pub(crate) fn of_payloads() -> Self {
        Self::new(false)
    }

    /// For datagrams with their senders, and their local addresses if the socket has one of the `PKTINFO` options.
    pub(crate) fn with_addresses() -> Self {
        Self::new(true)
    }

    fn new(with_addresses: bool) -> Self {
        // Zeroed memory of this size comes from the kernel untouched: 4 MiB of address space, resident only where
        // datagrams land.
        let bytes = into_cells(vec![0; BATCH_MAX * STRIDE]);
        let mut names: Vec<libc::sockaddr_storage> = zeroed(BATCH_MAX);
        let mut controls: Vec<Control> = zeroed(BATCH_MAX);
        let mut vectors: Vec<libc::iovec> = (0..BATCH_MAX)
            .map(|place| libc::iovec {
                iov_base: bytes[place * STRIDE..].as_ptr().cast_mut().cast(),
                iov_len: DATAGRAM_MAX,
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = zeroed(BATCH_MAX);
        // The pointers hold for good: a vector's elements stay where they are when the vector moves. They are all made
        // from the vectors' own pointers, and the vectors are not written to otherwise.
        let (first_name, first_control) = (names.as_mut_ptr(), controls.as_mut_ptr());
        let first_vector = vectors.as_mut_ptr();
        for (place, header) in headers.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_iov = first_vector.wrapping_add(place);
            header.msg_iovlen = 1;
            header.msg_control = first_control.wrapping_add(place).cast();
            if with_addresses {
                header.msg_name = first_name.wrapping_add(place).cast();
            }
        }
        Self {
            bytes,
            names,
            controls,
            headers,
            _vectors: vectors,
            with_addresses,
            overwritten: u64::MAX,
        }
    }

    /// Receives up to `count` datagrams, or pieces of several if the socket has the option `UDP_GRO`, without waiting,
    /// into the places `start..start + count`. Returns how many came; fewer than `count` means that the socket was empty.
    ///
    /// # Errors
    ///
    /// As `recvmmsg(2)`; WouldBlock if there is none. An error behind the first datagram is reported by the next call.
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        start: usize,
        count: usize,
    ) -> io::Result<usize> {
        assert!(start + count <= BATCH_MAX, "a batch beyond its buffers");
        self.restore_lengths(places(start, count));
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - `headers[start..start + count]` are in bounds, and all pointers in them are null or to vectors of this
        //   value, which live as long as it and are not borrowed now, as it is borrowed mutably for the whole call,
        // - the announced lengths are those of the buffers: STRIDE > DATAGRAM_MAX, so buffers do not overlap.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers[start..].as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error());
        // Where a call fails halfway it may have touched the place behind those it counts.
        let touched = (received.as_ref().unwrap_or(&0) + 1).min(count);
        self.overwritten |= places(start, touched);
        received
    }

    /// Announces whole buffers again in these places, so far as the kernel has overwritten them.
    fn restore_lengths(&mut self, places: u64) {
        let mut left = self.overwritten & places;
        self.overwritten &= !places;
        while left != 0 {
            let header = &mut self.headers[left.trailing_zeros() as usize].msg_hdr;
            header.msg_controllen = size_of::<Control>() as _;
            if self.with_addresses {
                header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            }
            left &= left - 1;
        }
    }

    /// Who sent what is in this place, as the kernel tells it (v4-mapped on dual-stack sockets).
    pub(crate) fn sender(&self, place: usize) -> Option<SocketAddr> {
        if !self.with_addresses {
            return None;
        }
        address(&self.names[place], self.headers[place].msg_hdr.msg_namelen)
    }

    /// Where it was sent to, if the socket has one of the `PKTINFO` options.
    pub(crate) fn local_addr(&self, place: usize) -> Option<LocalAddr> {
        self.messages(place).find_map(local_address)
    }

    /// Where it was sent to before it was redirected here, if the socket has one of the `ORIGINAL_DESTINATION` options.
    pub(crate) fn original_destination(&self, place: usize) -> Option<SocketAddr> {
        self.messages(place).find_map(original_destination)
    }

    /// Whether the kernel had to cut short what is in this place, or what it tells of it, so that nobody knows where its
    /// datagrams end. Not to be expected: the buffers have room for everything that is asked for.
    pub(crate) fn is_cut(&self, place: usize) -> bool {
        self.headers[place].msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
    }

    /// The datagrams in this place, of those the last calls of [`Inbox::receive`] filled: one, or those of a piece. None
    /// if it [is cut](Inbox::is_cut).
    pub(crate) fn datagrams(&self, place: usize) -> Datagrams {
        if self.is_cut(place) {
            return Datagrams::none();
        }
        let header = &self.headers[place];
        let whole = Span {
            place: place as u32,
            start: 0,
            end: header.msg_len.min(DATAGRAM_MAX as u32),
        };
        let segment_len = self.messages(place).find_map(segment_len);
        Datagrams::new(whole, segment_len)
    }

    /// Puts a piece that came another way into this place, as far as there is room. Returns its datagrams, which are of this
    /// length but for the last.
    pub(crate) fn put(&mut self, place: usize, piece: &[u8], segment_len: usize) -> Datagrams {
        let piece = &piece[..piece.len().min(DATAGRAM_MAX)];
        let cells = &self.bytes[place * STRIDE..][..piece.len()];
        // SAFETY: as in `bytes`: this value is borrowed mutably, so nobody has a slice of the cells, and the kernel writes
        // during `receive` only. Both have the same length, and a piece cannot lie in cells that nobody has a slice of.
        unsafe {
            ptr::copy_nonoverlapping(
                piece.as_ptr(),
                cells.as_ptr().cast_mut().cast(),
                piece.len(),
            )
        };
        let whole = Span {
            place: place as u32,
            start: 0,
            end: piece.len() as u32,
        };
        Datagrams::new(whole, Some(segment_len))
    }

    /// What the kernel tells of what is in this place.
    fn messages(&self, place: usize) -> impl Iterator<Item = Message<'_>> {
        let len = self.headers[place].msg_hdr.msg_controllen;
        self.controls[place].messages(len)
    }

    /// The bytes of a datagram.
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let first = span.place() * STRIDE;
        let cells = &self.bytes[first + span.start as usize..first + span.end as usize];
        // SAFETY: the cells are written by the kernel only, during `receive`, which borrows this value mutably; while
        // the returned slice lives nothing writes to them. `UnsafeCell<u8>` has the layout of `u8`.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }
}

/// The places `start..start + count`, a bit each.
fn places(start: usize, count: usize) -> u64 {
    const { assert!(BATCH_MAX <= u64::BITS as usize) };
    let bits = u64::MAX.checked_shr(u64::BITS - count as u32).unwrap_or(0);
    bits.checked_shl(start as u32).unwrap_or(0)
}

fn into_cells(bytes: Vec<u8>) -> Vec<UnsafeCell<u8>> {
    let mut bytes = mem::ManuallyDrop::new(bytes);
    // SAFETY: `UnsafeCell<u8>` has the layout of `u8`; pointer, length and capacity are those of a vector that will not
    // be dropped.
    unsafe { Vec::from_raw_parts(bytes.as_mut_ptr().cast(), bytes.len(), bytes.capacity()) }
}
