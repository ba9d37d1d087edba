//! Datagrams that come and go in one piece (udp(7), `UDP_GRO` and `UDP_SEGMENT`).
//!
//! Going through the kernel costs a datagram far more than its bytes do, and a piece goes through it once. Incoming pieces
//! are taken apart, as each datagram has its own header; what of them belongs to one flow leaves in one piece again, and
//! so do datagrams that came one by one but at once. Whoever receives them notices nothing: the kernel hands them over one
//! by one, unless asked otherwise.

use std::io;
use std::time::Instant;

use rustix::io::Errno;
use socket2::Socket;

use super::binding::Downstream;
use super::flow::{FlowId, FrontendId};
use super::{Udp, reply_path};
use crate::addr::PeerAddr;
use crate::sys::mmsg::{Destination, Refused, Span};
use crate::sys::sockopt::IntOption;

/// How long datagrams may be that leave in one piece. Learned from refusals, for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentLimit(usize);

/// A header that has been decoded, and the flow it led to.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) header: Span,
    pub(super) flow: FlowId,
}

/// Has datagrams that came in one piece handed over in one.
pub(crate) fn ask_for_pieces(socket: &Socket) {
    // An old kernel's refusal costs speed alone.
    let _ = IntOption::RECEIVE_PIECES.set(socket, 1);
}

impl Udp {
    /// Admits the datagrams in one place of the inbox: one, or those of a piece, which have their sender in common.
    pub(super) fn admit_all(&mut self, frontend: FrontendId, place: usize, now: Instant) {
        let Some(from) = self.inbox.sender(place) else {
            return;
        };
        let peer = PeerAddr::new(from);
        let datagrams = self.inbox.datagrams(place);
        if self.inbox.is_cut(place) {
            self.note_cut();
            return;
        }
        if !self.settings.lists.allow(peer) {
            let count = datagrams.count() as u64;
            self.settings.metrics.udp.peers_refused.add(count);
            let message = "datagram dropped: the peer is not in the allow list";
            let subject = self.subject(frontend, peer);
            self.limits.peer.debug(&subject, message, None);
            return;
        }
        let (mut frontend, mut reply_to) =
            (frontend, reply_path(from, self.inbox.local_addr(place)));
        if self.settings.transparent {
            let Some(redirected) = self.redirected(frontend, place, from) else {
                return;
            };
            (frontend, reply_to) = redirected;
        }
        let downstream = Downstream { peer, frontend };
        if self.is_mixed(datagrams.clone(), frontend) {
            self.admit_own(datagrams, downstream, reply_to, now);
        } else {
            self.admit_each(datagrams, downstream, reply_to, now);
        }
    }

    /// Admits datagrams of one sender.
    pub(super) fn admit_each(
        &mut self,
        datagrams: impl Iterator<Item = Span>,
        downstream: Downstream,
        reply_to: Destination,
        now: Instant,
    ) {
        let mut known: Option<Known> = None;
        for datagram in datagrams {
            // A sender of pieces has one header for all of one. The flow is still there: nothing has come between.
            match known {
                Some(Known { header, flow }) if self.begins_with(datagram, header) => {
                    self.push_admitted(flow, datagram.behind(header.len()));
                }
                _ => known = self.admit(datagram, downstream, reply_to, now),
            }
        }
    }

    /// Notes the loss of what was cut short.
    pub(super) fn note_cut(&self) {
        let listener = self.settings.listener;
        let error = io::Error::other("the kernel cut it short");
        self.limits
            .receive
            .warn(listener, "datagrams dropped", &error);
    }

    /// Whether a datagram begins with this header.
    fn begins_with(&self, datagram: Span, header: Span) -> bool {
        let header = self.inbox.bytes(header);
        !header.is_empty() && self.inbox.bytes(datagram).starts_with(header)
    }
}

// === impl SegmentLimit ===

impl SegmentLimit {
    /// Whatever fits into a piece.
    pub(super) const ANY: Self = Self(usize::MAX);

    /// The length in bytes; 0 if all datagrams are to leave alone.
    pub(super) fn len_max(self) -> usize {
        self.0
    }

    /// Takes in what could not be sent. Returns whether to send it again: in one piece it cannot be, but alone perhaps.
    pub(super) fn learn(&mut self, refused: &Refused) -> bool {
        if refused.datagrams == 1 {
            return false;
        }
        match errno(&refused.error) {
            // The device cannot compute checksums, or a transformation (IPsec) is in the way.
            Some(Errno::IO) => self.0 = 0,
            // Longer than the path's MTU: alone they are sent as fragments. Linux 6.14 changed which error that is.
            Some(Errno::INVAL | Errno::MSGSIZE) => {
                self.0 = self.0.min(refused.segment_len.saturating_sub(1));
            }
            _ => return false,
        }
        true
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno, datagrams: usize, segment_len: usize) -> Refused {
        Refused {
            error: errno.into(),
            datagrams,
            segment_len,
        }
    }

    #[test]
    fn a_length_beyond_the_mtu_is_not_tried_again_but_shorter_ones_are() {
        for errno in [Errno::INVAL, Errno::MSGSIZE] {
            let mut limit = SegmentLimit::ANY;
            assert!(limit.learn(&refused(errno, 2, 1_600)));
            assert_eq!(limit.len_max(), 1_599);
            assert!(limit.learn(&refused(errno, 40, 1_500)));
            assert_eq!(limit.len_max(), 1_499);
        }
    }

    #[test]
    fn a_route_that_takes_no_pieces_is_not_asked_again() {
        let mut limit = SegmentLimit::ANY;
        assert!(limit.learn(&refused(Errno::IO, 2, 100)));
        assert_eq!(limit.len_max(), 0);
        // Nor does anything later bring the limit up.
        assert!(limit.learn(&refused(Errno::INVAL, 2, 100)));
        assert_eq!(limit.len_max(), 0);
    }

    #[test]
    fn what_fails_alone_or_for_other_reasons_teaches_nothing() {
        let mut limit = SegmentLimit::ANY;
        for errno in [Errno::IO, Errno::INVAL, Errno::MSGSIZE] {
            assert!(!limit.learn(&refused(errno, 1, 1_600)));
        }
        for errno in [Errno::AGAIN, Errno::CONNREFUSED, Errno::PERM, Errno::NOBUFS] {
            assert!(!limit.learn(&refused(errno, 2, 1_600)));
        }
        assert_eq!(limit.len_max(), SegmentLimit::ANY.len_max());
    }
}
