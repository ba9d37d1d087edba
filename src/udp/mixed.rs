//! Listeners that pieces come to with datagrams of several shards' clients.
//!
//! A balancer that has one socket for many clients sends their datagrams one by one, and so the kernel would steer them; but what
//! comes from a network card it merges first (GRO), for a socket that asks for pieces. Then the shard of the first has to hand
//! over the rest, while later datagrams of the same clients go straight to theirs, and are forwarded first. Such a balancer
//! will not change. So a shard that has met a mixed piece asks for pieces no more on its socket of that listener, and tells the
//! others, who do the same. All have to: whether to merge, the kernel asks one socket of the group, chosen by the peer
//! (`udp4_gro_lookup_skb` in net/ipv4/udp_offload.c shows the steering program no packet), whoever will get the datagrams.
//!
//! What a sender on this host has put into one piece is steered whole all the same. For a socket that does not ask, the kernel
//! takes it apart behind that (`udp_queue_rcv_skb` in net/ipv4/udp.c), so that single datagrams may be of others, too.

use super::flow::FrontendId;
use super::segments::ask_for_no_pieces;
use super::{Exit, Udp};
use crate::addr::ListenAddr;
use crate::sys::mmsg::Datagrams;

/// How a listener has its datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// In pieces, as they come. Each is wholly this shard's, as far as is known.
    Pieces,
    /// In pieces still, but mixed ones have come.
    MixedPieces,
    /// One by one, perhaps with those of others among them.
    Mixed,
}

impl Udp {
    /// Whether there may be others' datagrams among those in one place.
    pub(super) fn is_mixed(&self, mut datagrams: Datagrams, frontend: FrontendId) -> bool {
        if self.handover.is_none() {
            return false;
        }
        if self.listeners[frontend as usize].intake != Intake::Pieces {
            return datagrams.any(|it| self.owner(it, frontend) != self.settings.listener);
        }
        let Some(first) = datagrams.next() else {
            return false;
        };
        let mut owners = datagrams.map(|datagram| self.owner(datagram, frontend));
        let Some(second) = owners.next() else {
            return false;
        };
        let owner = self.owner(first, frontend);
        second != owner || owners.any(|other| other != owner)
    }

    /// Takes in that a mixed piece has come.
    pub(super) fn note_mixed(&mut self, frontend: FrontendId) {
        let listener = &self.listeners[frontend as usize];
        if listener.intake != Intake::Pieces {
            return;
        }
        let listen_addr = listener.frontend.listen;
        self.expect_mixed(listen_addr);
        if let Some(handover) = &self.handover {
            handover.tell_mixed(listen_addr);
        }
    }

    /// Takes in that mixed pieces come to another shard.
    pub(super) fn hear_mixed(&mut self, listen_addr: ListenAddr) {
        self.expect_mixed(listen_addr);
        for frontend in 0..self.listeners.len() {
            self.separate(frontend as FrontendId);
        }
    }

    /// A shard may have several sockets of one listener, if they were inherited.
    fn expect_mixed(&mut self, listen_addr: ListenAddr) {
        let listeners = self.listeners.iter_mut();
        for listener in listeners.filter(|it| it.frontend.listen == listen_addr) {
            if listener.intake == Intake::Pieces {
                listener.intake = Intake::MixedPieces;
            }
        }
    }

    /// Asks for pieces no more where mixed ones have come, if all that has come is read.
    pub(super) fn separate(&mut self, frontend: FrontendId) {
        // Relieved, it does not read it any more, and the socket is another process's as well.
        let is_relieved = self.is_relieved();
        let listener = &mut self.listeners[frontend as usize];
        let Exit::Listener(socket) = &listener.exit else {
            return;
        };
        if listener.intake == Intake::MixedPieces
            && !socket.is_readable()
            && !is_relieved
            && ask_for_no_pieces(socket)
        {
            listener.intake = Intake::Mixed;
            tracing::debug!(
                listener = self.settings.listener,
                listen_addr = %listener.frontend.listen,
                "datagrams of clients of several listeners came in one piece: they are taken one by one from now on"
            );
        }
    }
}
