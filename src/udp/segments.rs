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
use crate::sys::receive_queue::ReceiveQueue;
use crate::sys::sockopt::IntOption;

/// How long datagrams may be that leave in one piece. Learned for good from refusals of pieces, if what was refused then leaves
/// alone: the kernel has the same errors for destinations that it sends nothing to, such as port 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentLimit {
    len_max: usize,
    /// What was refused last, as long as nothing of it has left alone.
    trial: Option<Trial>,
}

/// A piece that was refused.
#[derive(Clone, Copy, Debug)]
struct Trial {
    errno: Errno,
    datagrams: usize,
    /// The limit before.
    former: usize,
}

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

/// Has them handed over one by one from now on, if nothing waits. Returns whether it is so.
///
/// The kernel tells the lengths in a piece only as long as it is asked for pieces (`udp_recvmsg` in net/ipv4/udp.c): one that
/// waits would be taken for a single datagram. (So would one that is on its way from the look at the option to the queue, on
/// another CPU, during the two system calls here. It takes less time for that than they do.)
pub(super) fn ask_for_no_pieces(socket: &Socket) -> bool {
    if IntOption::RECEIVE_PIECES.set(socket, 0).is_err() {
        return false;
    }
    let is_empty = ReceiveQueue::of(socket).is_ok_and(|queue| queue.used == 0);
    if !is_empty {
        ask_for_pieces(socket);
    }
    is_empty
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
            self.note_mixed(frontend);
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
    pub(super) const ANY: Self = Self {
        len_max: usize::MAX,
        trial: None,
    };

    /// The length in bytes; 0 if all datagrams are to leave alone.
    pub(super) fn len_max(self) -> usize {
        self.len_max
    }

    /// Takes in that something was sent.
    pub(super) fn sent(&mut self) {
        self.trial = None;
    }

    /// Takes in what could not be sent. Returns how many datagrams are lost; 0 if the same are to be sent again: in one piece
    /// they cannot be, but alone perhaps.
    pub(super) fn refused(&mut self, refused: &Refused) -> usize {
        let errno = Errno::from_io_error(&refused.error);
        let trial = self.trial.take();
        if refused.datagrams == 1 {
            let Some(trial) = trial else {
                return 1;
            };
            self.len_max = trial.former;
            // So would be all others of the piece, but the last: that may be shorter.
            let is_same = errno == Some(trial.errno);
            return if is_same { trial.datagrams - 1 } else { 1 };
        }
        let (errno, len_max) = match errno {
            // The device cannot compute checksums, or a transformation (IPsec) is in the way.
            Some(errno @ Errno::IO) => (errno, 0),
            // Longer than the path's MTU: alone they are sent as fragments. Linux 6.14 changed which error that is.
            Some(errno @ (Errno::INVAL | Errno::MSGSIZE)) => {
                let shorter = refused.segment_len.saturating_sub(1);
                (errno, self.len_max.min(shorter))
            }
            _ => return refused.datagrams,
        };
        self.trial = Some(Trial {
            errno,
            datagrams: refused.datagrams,
            former: self.len_max,
        });
        self.len_max = len_max;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmsg::{Inbox, Outbox, Outgoing};
    use std::net::UdpSocket;

    #[test]
    fn what_came_in_pieces_is_told_apart_when_they_are_asked_for_no_more() {
        let receiver = Socket::from(UdpSocket::bind("127.0.0.1:0").expect("bound"));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = receiver.local_addr().expect("bound");
        sender
            .connect(to.as_socket().expect("an address"))
            .expect("loopback");
        let (mut inbox, mut outbox) = (Inbox::of_payloads(), Outbox::new());
        // Loopback delivers before it returns.
        let mut send = || {
            let outgoing = |_| Outgoing {
                header: &[],
                payload: &[7; 100],
                to: None,
                segment_max: usize::MAX,
            };
            assert_eq!(outbox.send(&sender, 3, outgoing).expect("sent"), 3);
        };
        let mut receive = || {
            let received = inbox.receive(&receiver, 0, 4).expect("received");
            let counts = (0..received).map(|place| inbox.datagrams(place).count());
            counts.collect::<Vec<_>>()
        };
        ask_for_pieces(&receiver);
        send();
        assert!(!ask_for_no_pieces(&receiver), "one waits");
        assert_eq!(receive(), [3]);
        assert!(ask_for_no_pieces(&receiver));
        send();
        assert_eq!(receive(), [1, 1, 1]);
    }

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
            assert_eq!(limit.refused(&refused(errno, 2, 1_600)), 0);
            assert_eq!(limit.len_max(), 1_599);
            limit.sent();
            assert_eq!(limit.refused(&refused(errno, 40, 1_500)), 0);
            limit.sent();
            assert_eq!(limit.len_max(), 1_499);
        }
    }

    #[test]
    fn a_route_that_takes_no_pieces_is_not_asked_again() {
        let mut limit = SegmentLimit::ANY;
        assert_eq!(limit.refused(&refused(Errno::IO, 2, 100)), 0);
        assert_eq!(limit.len_max(), 0);
        limit.sent();
        // Nor does anything later bring the limit up.
        assert_eq!(limit.refused(&refused(Errno::IO, 1, 100)), 1);
        assert_eq!(limit.refused(&refused(Errno::INVAL, 2, 100)), 0);
        limit.sent();
        assert_eq!(limit.len_max(), 0);
    }

    #[test]
    fn what_is_refused_alone_as_well_was_not_refused_for_its_length() {
        for errno in [Errno::IO, Errno::INVAL, Errno::MSGSIZE] {
            let mut limit = SegmentLimit::ANY;
            assert_eq!(limit.refused(&refused(errno, 2, 1_600)), 0);
            limit.sent();
            let learned = limit.len_max();
            // All are lost that are as long as the first; the last is tried.
            assert_eq!(limit.refused(&refused(errno, 40, 20)), 0);
            assert_eq!(limit.refused(&refused(errno, 1, 20)), 39);
            assert_eq!(limit.len_max(), learned);
            assert_eq!(limit.refused(&refused(errno, 1, 7)), 1);
            assert_eq!(limit.len_max(), learned);
            // An error of another kind, of an earlier datagram perhaps, proves nothing.
            assert_eq!(limit.refused(&refused(errno, 40, 20)), 0);
            assert_eq!(limit.refused(&refused(Errno::CONNREFUSED, 1, 20)), 1);
            assert_eq!(limit.len_max(), learned);
        }
    }

    #[test]
    fn what_fails_alone_or_for_other_reasons_teaches_nothing() {
        let mut limit = SegmentLimit::ANY;
        for errno in [Errno::IO, Errno::INVAL, Errno::MSGSIZE] {
            assert_eq!(limit.refused(&refused(errno, 1, 1_600)), 1);
        }
        for errno in [Errno::AGAIN, Errno::CONNREFUSED, Errno::PERM, Errno::NOBUFS] {
            assert_eq!(limit.refused(&refused(errno, 2, 1_600)), 2);
        }
        assert_eq!(limit.len_max(), SegmentLimit::ANY.len_max());
    }
}
