//! Datagrams going out.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::address::set_address;
use super::control::Control;
use super::pktinfo::push_local_address;
use super::segments::{PIECE_MAX, SEGMENTS_MAX, push_segment_len};
use super::{BATCH_MAX, Destination, Outgoing, zeroed};

/// Datagrams of one system call, alone or in pieces.
const DATAGRAMS_MAX: usize = 16 * BATCH_MAX;

/// Scratch space for sending.
pub(crate) struct Outbox {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    /// Of each datagram its payload, with its header ahead if it has one.
    vectors: Vec<libc::iovec>,
    /// What each of the headers stands for.
    pieces: Vec<Piece>,
}

/// What one system call does at once: datagrams that leave in one piece, or one alone.
#[derive(Clone, Copy, Debug)]
struct Piece {
    to: Option<Destination>,
    datagrams: usize,
    vectors: usize,
    /// The length of all datagrams but the last.
    segment_len: usize,
    segment_max: usize,
    bytes: usize,
    /// Whether the last datagram is shorter than the others.
    closed: bool,
}

/// Why the first datagrams of a batch could not be sent.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: io::Error,
    /// How many were to leave in one piece; 1 if the first was to leave alone.
    pub(crate) datagrams: usize,
    /// Their length, but for the last.
    pub(crate) segment_len: usize,
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            names: zeroed(BATCH_MAX),
            controls: zeroed(BATCH_MAX),
            headers: zeroed(BATCH_MAX),
            vectors: zeroed(2 * DATAGRAMS_MAX),
            pieces: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// Sends `count` datagrams without waiting, or as many of them as fit into one system call; `datagram(i)` gives the
    /// one at place `i`. Neighbours of one destination and one length leave in one piece, and so a last one that is
    /// shorter. Returns how many datagrams the kernel took: if fewer than `count`, send again from there on; if the next
    /// one failed, that tells why.
    ///
    /// # Errors
    ///
    /// As `sendmmsg(2)`, if the first datagram, or the piece it is in, fails. EIO or EINVAL for a piece may mean that its
    /// route does not take pieces, or none with datagrams of that length.
    pub(crate) fn send<'a>(
        &mut self,
        socket: impl AsFd,
        count: usize,
        datagram: impl FnMut(usize) -> Outgoing<'a>,
    ) -> Result<usize, Refused> {
        self.fill(count, datagram);
        self.point();
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - `headers[..pieces.len()]` are in bounds; their names, controls and vectors point into vectors of this value,
        //   which is borrowed mutably for the whole call,
        // - headers and payloads outlive the call: 'a outlives this function's body, and the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.pieces.len() as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        let Ok(sent) = usize::try_from(sent) else {
            let error = io::Error::last_os_error();
            let first = self.pieces.first();
            return Err(Refused {
                error,
                datagrams: first.map_or(1, |piece| piece.datagrams),
                segment_len: first.map_or(0, |piece| piece.segment_len),
            });
        };
        Ok(self.pieces[..sent]
            .iter()
            .map(|piece| piece.datagrams)
            .sum())
    }

    /// Makes pieces of the datagrams, and vectors of what they consist of.
    fn fill<'a>(&mut self, count: usize, mut datagram: impl FnMut(usize) -> Outgoing<'a>) {
        self.pieces.clear();
        let mut vectors = self.vectors.iter_mut();
        for place in 0..count.min(DATAGRAMS_MAX) {
            let outgoing = datagram(place);
            let joined = self
                .pieces
                .last_mut()
                .is_some_and(|piece| piece.join(&outgoing));
            if !joined {
                if self.pieces.len() == BATCH_MAX {
                    break;
                }
                self.pieces.push(Piece::new(&outgoing));
            }
            for (part, vector) in outgoing.parts().zip(&mut vectors) {
                // The kernel only reads what it sends; the pointer is mutable because C has it so.
                *vector = libc::iovec {
                    iov_base: part.as_ptr().cast_mut().cast(),
                    iov_len: part.len(),
                };
            }
        }
    }

    /// Makes the headers of the pieces.
    fn point(&mut self) {
        for (place, piece) in self.pieces.iter().enumerate() {
            let header = &mut self.headers[place].msg_hdr;
            let control = &mut self.controls[place];
            let mut control_len = 0;
            header.msg_namelen = 0;
            if let Some(Destination { to, from }) = piece.to {
                header.msg_namelen = set_address(&mut self.names[place], to);
                if let Some(local) = from {
                    control_len = push_local_address(control, control_len, local, to.is_ipv6());
                }
            }
            if piece.datagrams > 1 {
                // No longer than PIECE_MAX.
                control_len = push_segment_len(control, control_len, piece.segment_len as u16);
            }
            header.msg_controllen = control_len as _;
        }
        // All pointers are made at once, from the vectors' own, which are not written to again before the call.
        let (first_name, first_control) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        let mut vector = self.vectors.as_mut_ptr();
        for (place, piece) in self.pieces.iter().enumerate() {
            let header = &mut self.headers[place].msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = piece.vectors as _;
            vector = vector.wrapping_add(piece.vectors);
            header.msg_name = match header.msg_namelen {
                0 => ptr::null_mut(),
                _ => first_name.wrapping_add(place).cast(),
            };
            header.msg_control = match header.msg_controllen {
                0 => ptr::null_mut(),
                _ => first_control.wrapping_add(place).cast(),
            };
        }
    }
}

// === impl Piece ===

impl Piece {
    fn new(first: &Outgoing<'_>) -> Self {
        let len = first.len();
        Self {
            to: first.to,
            datagrams: 1,
            vectors: first.parts().count(),
            segment_len: len,
            segment_max: first.segment_max,
            bytes: len,
            // An empty one has no neighbours.
            closed: len == 0,
        }
    }

    /// Takes the next datagram in, if it fits.
    fn join(&mut self, next: &Outgoing<'_>) -> bool {
        let len = next.len();
        let fits = !self.closed
            && len > 0
            && len <= self.segment_len
            && self.segment_len <= self.segment_max.min(next.segment_max)
            && self.datagrams < SEGMENTS_MAX
            && self.bytes + len <= PIECE_MAX
            && self.to == next.to;
        if fits {
            self.datagrams += 1;
            self.vectors += next.parts().count();
            self.bytes += len;
            self.closed = len < self.segment_len;
        }
        fits
    }
}
