//! Datagrams that were lost because one of our receive buffers was full, and what a full one means for newcomers.
//!
//! The kernel counts them for each socket and tells when asked ([`ReceiveQueue`]). Asking costs a datagram nothing: it is done
//! where many came at once, which goes before any loss, and otherwise once a second at most. (Told with the datagrams
//! themselves, `SO_RXQ_OVFL`, each would bring a control message from the first loss on, and what is lost behind the last
//! one would be told by none.)

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::flow::{FlowId, FrontendId};
use super::{Exit, FlowState, Udp};
use crate::metrics::Counter;
use crate::sys::receive_queue::ReceiveQueue;

/// How long a socket that is read little at a time is not asked again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Flows that a batch begins while its listener is crowded. Whoever has none is not shut out for good.
const NEWCOMERS_MAX: usize = 2;

/// How many flows what was received at once may still begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newcomers(usize);

/// What is known of a listener's losses.
pub(super) struct QueueWatch {
    losses: Losses,
    asked_at: Instant,
    /// Whether the last read may have left something.
    was_full: bool,
    /// Whether the buffer was half full, or more, with so much just read.
    is_crowded: bool,
}

/// How many of the kernel's count for a socket have been counted here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses(u32);

// === impl Udp ===

impl Udp {
    /// Counts what a listener has lost, if it is time to ask, and decides whether it is crowded. `full` says that there may be
    /// more to read.
    pub(super) fn look_at_queue(&mut self, frontend: FrontendId, full: bool, now: Instant) {
        let listener = &mut self.listeners[frontend as usize];
        let Exit::Listener(socket) = &listener.exit else {
            return;
        };
        let watch = &mut listener.queue;
        let is_due = full || watch.was_full || now >= watch.asked_at + ASK_EVERY;
        watch.was_full = full;
        watch.is_crowded = false;
        if !is_due {
            return;
        }
        watch.asked_at = now;
        let Ok(queue) = ReceiveQueue::of(socket) else {
            return;
        };
        watch.is_crowded = full && queue.used >= queue.limit / 2;
        watch
            .losses
            .count(queue.dropped, &self.settings.metrics.udp.lost_upstream);
    }

    /// Counts what a flow's sockets have lost.
    pub(super) fn look_at_flow(&mut self, id: FlowId, now: Instant) {
        let lost = &self.settings.metrics.udp.lost_downstream;
        if let Some(flow) = self.flows.get_mut(id) {
            flow.state.count_losses(lost);
            flow.state.asked_at = now;
        }
    }
}

// === impl FlowState ===

impl FlowState {
    /// Whether its sockets have not been asked for long.
    pub(super) fn is_to_be_asked(&self, now: Instant) -> bool {
        now >= self.asked_at + ASK_EVERY
    }

    /// Counts what its sockets have lost since this was last asked.
    pub(super) fn count_losses(&mut self, lost: &Counter) {
        let other_ear = self.other_ear.as_ref();
        let sockets = std::iter::once(&self.socket).chain(other_ear);
        let queues = sockets.filter_map(|socket| ReceiveQueue::of(socket).ok());
        let dropped = queues.map(|queue| queue.dropped);
        self.losses.count(dropped.fold(0, u32::wrapping_add), lost);
    }
}

// === impl QueueWatch ===

impl QueueWatch {
    /// For a socket that may have had another owner before.
    pub(super) fn new(socket: impl AsFd) -> Self {
        let dropped = ReceiveQueue::of(socket).map_or(0, |queue| queue.dropped);
        Self {
            losses: Losses(dropped),
            asked_at: Instant::now(),
            was_full: false,
            is_crowded: false,
        }
    }

    /// Whether it was at the last look.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

// === impl Newcomers ===

impl Newcomers {
    /// Any number.
    pub(super) const ALL: Self = Self(usize::MAX);

    /// Leaves few, as more waits than can be served. To begin a flow takes ten times as long as to pass a datagram on, so it
    /// comes last.
    pub(super) fn restrict(&mut self) {
        self.0 = self.0.min(NEWCOMERS_MAX);
    }

    /// Whether one more may begin.
    pub(super) fn let_in(&mut self) -> bool {
        let may = self.0 > 0;
        self.0 -= usize::from(may);
        may
    }
}

// === impl Losses ===

impl Losses {
    /// Takes in what the kernel's count is now.
    fn count(&mut self, dropped: u32, lost: &Counter) {
        let news = dropped.wrapping_sub(self.0);
        if news > 0 {
            lost.add(news.into());
            self.0 = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_newcomers_are_let_in_however_often_they_are_too_many() {
        let mut newcomers = Newcomers::ALL;
        assert!((0..1_000).all(|_| newcomers.let_in()));
        let let_in = (0..1_000).filter(|_| {
            newcomers.restrict();
            newcomers.let_in()
        });
        assert_eq!(let_in.count(), NEWCOMERS_MAX);
    }

    #[test]
    fn each_loss_is_counted_once_even_when_the_kernels_count_begins_anew() {
        let lost = Counter::default();
        let mut losses = Losses(u32::MAX - 1);
        losses.count(u32::MAX, &lost);
        losses.count(u32::MAX, &lost);
        losses.count(4, &lost);
        assert_eq!(lost.get(), 1 + 5);
    }
}
