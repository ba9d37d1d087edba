//! Datagrams for clients of other shards.
//!
//! The kernel steers a piece whole, by the first header in it ([`steer`]). From a balancer that has one socket for many
//! clients it may hold datagrams of other shards' clients. These shards take them over, and go on as if the kernel had brought
//! them; otherwise a client would have flows on several shards, with sockets of one 4-tuple. It is rare, as neighbours in such
//! a piece are of one length and of several clients, so a copy and a bell for each other shard cost little.
//!
//! A client's datagrams that come both ways, handed over and steered to its shard, can overtake each other. So shards see to it
//! that they are merged no more where such pieces have come ([`mixed`](super::mixed)): what comes over a network keeps its order,
//! but for the first ones. What a sender on this host has put into one piece stays together in the kernel until it is steered.
//! There a client's datagrams keep their order within a piece, and across pieces that begin with clients of one shard, but not
//! across others.
//!
//! A shard without flows is of use to others as long as these have some. So where the process drains alone, each goes on until
//! none has any ([`drain`](super::drain)), and the last one that comes to it tells the others.

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Context;
use std::time::Instant;

use super::Udp;
use super::binding::Downstream;
use super::flow::FrontendId;
use super::losses::Newcomers;
use super::mishap::AtWork;
use super::steer;
use crate::addr::{ListenAddr, PeerAddr};
use crate::shard::doorbell::Doorbell;
use crate::shard::readiness::{Readiness, ReadyQueue, Watched};
use crate::sys::mmsg::{BATCH_MAX, Datagrams, Destination, Span};

/// Bytes that may wait for a shard, as many as the kernel keeps for a listener. What is too much is lost, as with a receive
/// buffer that is full.
const WAITING_MAX: usize = 4 << 20;

/// What a bundle counts for beside its datagrams: itself, and its place in a channel.
const BUNDLE_COST: usize = 256;

/// Bundles taken over before the shard's listeners get a turn: as many as come from one of these at once.
const BUNDLES_MAX: usize = BATCH_MAX;

/// The place of the inbox that bundles are put in. It is free unless a batch was left in the midst.
const PLACE: usize = 0;

/// What a shard tells another.
enum Handed {
    Bundle(Bundle),
    /// To this listener mixed pieces come.
    Mixed(ListenAddr),
}

/// Datagrams of one piece for one shard, one behind the other.
struct Bundle {
    listen_addr: ListenAddr,
    /// The peer, and where it wrote to.
    reply_to: Destination,
    bytes: Box<[u8]>,
    /// The length of all datagrams but the last, which may be shorter.
    segment_len: usize,
}

/// A shard's end of what leads from each shard to each, before the shard is there.
pub(crate) struct HandoverEnd {
    waiting: Receiver<Handed>,
    place: Place,
}

/// A shard's place among the others. Whoever leaves it is done.
struct Place {
    number: usize,
    /// By their numbers.
    shards: Arc<[Neighbour]>,
}

/// What leads to a shard.
struct Neighbour {
    waiting: Sender<Handed>,
    /// In bytes.
    waiting_len: AtomicUsize,
    bell: Doorbell,
    /// Whether it has no flows any more, and will have none.
    done: AtomicBool,
}

/// A shard's end, and the shard hears the bell.
pub(super) struct Handover {
    waiting: Receiver<Handed>,
    bell: Watched<Doorbell>,
    rung: Rc<ReadyQueue>,
    place: Place,
}

/// An end for each of so many shards, in order.
///
/// # Errors
///
/// As `eventfd(2)`: out of descriptors.
pub(crate) fn ends(shards: usize) -> io::Result<Vec<HandoverEnd>> {
    let mut neighbours = Vec::with_capacity(shards);
    let mut receivers = Vec::with_capacity(shards);
    for _ in 0..shards {
        let (sender, receiver) = channel();
        neighbours.push(Neighbour {
            waiting: sender,
            waiting_len: AtomicUsize::default(),
            bell: Doorbell::new()?,
            done: AtomicBool::default(),
        });
        receivers.push(receiver);
    }
    let shards: Arc<[Neighbour]> = neighbours.into();
    let ends = receivers.into_iter().enumerate();
    Ok(ends
        .map(|(number, waiting)| HandoverEnd {
            waiting,
            place: Place {
                number,
                shards: Arc::clone(&shards),
            },
        })
        .collect())
}

// === impl Handed ===

impl Handed {
    /// What it counts for while it waits.
    fn cost(&self) -> usize {
        match self {
            Self::Bundle(bundle) => BUNDLE_COST + bundle.bytes.len(),
            // There are few: one from each shard for each listener.
            Self::Mixed(_) => 0,
        }
    }
}

// === impl Neighbour ===

impl Neighbour {
    /// Whether there was room.
    fn hand_over(&self, handed: Handed) -> bool {
        let cost = handed.cost();
        // Several may claim room at once, and one of them be refused what another gives back. Nothing else hangs on the count.
        let before = self.waiting_len.fetch_add(cost, Ordering::Relaxed);
        let has_room = cost == 0 || before + cost <= WAITING_MAX;
        // It may have ended, and with it its flows.
        if !has_room || self.waiting.send(handed).is_err() {
            self.waiting_len.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        self.bell.ring();
        true
    }
}

// === impl Place ===

impl Place {
    fn own(&self) -> &Neighbour {
        &self.shards[self.number]
    }

    fn others(&self) -> impl Iterator<Item = &Neighbour> {
        let others = self.shards.iter().enumerate();
        others.filter_map(|(number, other)| (number != self.number).then_some(other))
    }

    /// Says that the shard is done. Others wait for the last one to say so.
    fn done(&self) {
        // In one order for all, or of two that say it at once none might find that it is the last.
        let was_done = self.own().done.swap(true, Ordering::SeqCst);
        if !was_done && self.all_are_done() {
            self.others().for_each(|other| other.bell.ring());
        }
    }

    fn all_are_done(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.all(|shard| shard.done.load(Ordering::SeqCst))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.done();
    }
}

// === impl Handover ===

impl Handover {
    /// # Errors
    ///
    /// As [`Readiness::watch`].
    pub(super) fn new(end: HandoverEnd, readiness: &Readiness) -> io::Result<Self> {
        let rung = Rc::default();
        let bell = end.place.own().bell.clone();
        Ok(Self {
            waiting: end.waiting,
            bell: readiness.watch_queued(bell, &rung, 0)?,
            rung,
            place: end.place,
        })
    }

    /// Has the task of `cx` woken when there is something to take over.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.rung.register(cx);
    }

    /// Whether there may be something to take over.
    fn has_rung(&self) -> bool {
        !self.rung.is_empty()
    }

    /// Whether so much waits that newcomers come last.
    fn is_crowded(&self) -> bool {
        self.place.own().waiting_len.load(Ordering::Relaxed) >= WAITING_MAX / 2
    }

    /// What has waited longest.
    fn take(&self) -> Option<Handed> {
        let handed = self.waiting.try_recv().ok()?;
        let waiting_len = &self.place.own().waiting_len;
        waiting_len.fetch_sub(handed.cost(), Ordering::Relaxed);
        Some(handed)
    }

    /// Tells the others that mixed pieces come to a listener.
    pub(super) fn tell_mixed(&self, listen_addr: ListenAddr) {
        for other in self.place.others() {
            other.hand_over(Handed::Mixed(listen_addr));
        }
    }

    /// Says that the shard has no flows any more, and will have none.
    pub(super) fn done(&self) {
        self.place.done();
    }

    /// Whether no shard has any.
    pub(super) fn all_are_done(&self) -> bool {
        self.place.all_are_done()
    }

    /// Has the shard look for more.
    fn look_again(&self) {
        self.rung.refill(std::iter::once(0));
    }
}

// === impl Udp ===

impl Udp {
    /// Whether there may be something to take over.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handover.as_ref().is_some_and(Handover::has_rung)
    }

    /// After a panic, which may have left bundles where they were.
    pub(super) fn look_again_at_handover(&self) {
        self.handover.iter().for_each(Handover::look_again);
    }

    /// Takes over what other shards have received for clients of this one.
    pub(super) fn take_over(&mut self) {
        let Some(handover) = &self.handover else {
            return;
        };
        if self.is_interrupted() || handover.rung.pop().is_none() {
            return;
        }
        handover.bell.heard();
        self.newcomers = Newcomers::ALL;
        for _ in 0..BUNDLES_MAX {
            match self.handover.as_ref().and_then(Handover::take) {
                Some(Handed::Bundle(bundle)) => self.forward_bundle(&bundle),
                Some(Handed::Mixed(listen_addr)) => self.hear_mixed(listen_addr),
                None => return,
            }
        }
        self.look_again_at_handover();
    }

    fn forward_bundle(&mut self, bundle: &Bundle) {
        let mut listeners = self.listeners.iter().zip(0..);
        let frontend = listeners.find_map(|(listener, id)| {
            (listener.frontend.listen == bundle.listen_addr).then_some(id)
        });
        let Some(frontend) = frontend else {
            return;
        };
        let now = Instant::now();
        let downstream = Downstream {
            peer: PeerAddr::new(bundle.reply_to.to),
            frontend,
        };
        // Made-up clients come this way no faster.
        let is_crowded = self.handover.as_ref().is_some_and(Handover::is_crowded);
        if is_crowded || self.listeners[frontend as usize].queue.is_crowded() {
            self.newcomers.restrict();
        }
        let datagrams = self.inbox.put(PLACE, &bundle.bytes, bundle.segment_len);
        self.admit_each(datagrams, downstream, bundle.reply_to, now);
        self.send_admitted();
        self.set_expiry(now);
        self.at_work = AtWork::Nothing;
    }

    /// Admits those datagrams in one place that are this shard's, and hands over the others.
    pub(super) fn admit_own(
        &mut self,
        datagrams: Datagrams,
        downstream: Downstream,
        reply_to: Destination,
        now: Instant,
    ) {
        let mut owned: Vec<(usize, Span)> = datagrams
            .map(|datagram| (self.owner(datagram, downstream.frontend), datagram))
            .collect();
        // Stable: a shard gets its own in order.
        owned.sort_by_key(|&(owner, _)| owner);
        for of_shard in owned.chunk_by(|(owner, _), (other, _)| owner == other) {
            let (owner, _) = of_shard[0];
            let datagrams = of_shard.iter().map(|&(_, datagram)| datagram);
            if owner == self.settings.listener {
                self.admit_each(datagrams, downstream, reply_to, now);
            } else {
                self.hand_over(owner, datagrams, downstream.frontend, reply_to);
            }
        }
    }

    fn hand_over(
        &self,
        shard: usize,
        datagrams: impl Iterator<Item = Span> + Clone,
        frontend: FrontendId,
        reply_to: Destination,
    ) {
        let lens = datagrams.clone().map(Span::len);
        let bytes: Vec<_> = datagrams.clone().map(|it| self.inbox.bytes(it)).collect();
        let bundle = Bundle {
            listen_addr: self.listeners[frontend as usize].frontend.listen,
            reply_to,
            bytes: bytes.concat().into(),
            segment_len: lens.max().unwrap_or_default(),
        };
        let neighbour = self
            .handover
            .as_ref()
            .and_then(|it| it.place.shards.get(shard));
        if !neighbour.is_some_and(|it| it.hand_over(Handed::Bundle(bundle))) {
            let lost = &self.settings.metrics.udp.lost_upstream;
            lost.add(datagrams.count() as u64);
        }
    }

    /// The shard of a datagram's client.
    pub(super) fn owner(&self, datagram: Span, frontend: FrontendId) -> usize {
        let group = self.listeners[frontend as usize].group;
        let member = steer::member(self.inbox.bytes(datagram), group, self.settings.header);
        // As the sockets of a group were dealt.
        member as usize % self.settings.shards
    }
}
