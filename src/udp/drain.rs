//! UDP while the process drains.
//!
//! Alone, it serves the flows there are and makes none. A shard without flows goes on reading what comes to it, and handing over
//! what is of others ([`handover`](super::handover)), until none has any. Relieved by another process, it reads its listeners no more: a
//! client's next datagram goes to the other one, which makes a flow with the same address and port beside ours. Until then
//! what the server says goes on through ours. From then on it is the other's: of two sockets that fit equally well, Linux
//! gives a datagram to the one bound last, except that kernels before 6.13 count it as a better fit if the last datagram
//! came in on the same CPU (udp(7) is silent; `compute_score` in net/ipv4/udp.c, `sk_incoming_cpu`). So that is taken off
//! ours again and again.

use rustix::net::sockopt::set_socket_incoming_cpu;

use super::end::EXPIRIES_MAX;
use super::{Exit, FlowState, Udp};
use crate::shard::drain::Draining;

/// -1 for the kernel, and so no CPU (socket(7), SO_INCOMING_CPU).
const NO_CPU: u32 = u32::MAX;

impl Udp {
    /// Whether the shard has begun to drain, or has been relieved, since this was last heeded.
    pub(super) fn drain_is_news(&self) -> bool {
        self.settings.drain.begun() != self.draining
    }

    /// Does what there is to do once.
    pub(super) fn heed_drain(&mut self) {
        if !self.drain_is_news() {
            return;
        }
        self.draining = self.settings.drain.begun();
        if self.draining == Some(Draining::Relieved) {
            for listener in &self.listeners {
                if let Exit::Listener(socket) = &listener.exit {
                    socket.leave();
                }
            }
            for id in 0..self.flows.places() {
                if let Some(flow) = self.flows.get(id) {
                    flow.state.yield_replies();
                }
            }
        }
    }

    /// Whether clients without a flow are turned away: there is nobody to be relieved by, or no time.
    pub(super) fn refuses_new(&self) -> bool {
        self.draining == Some(Draining::Alone) || self.settings.drain.is_cut()
    }

    /// Whether there are flows that the end of the process is to end.
    pub(super) fn is_to_cut(&self) -> bool {
        self.settings.drain.is_cut() && !self.flows.is_empty()
    }

    /// Ends some of them.
    pub(super) fn cut(&mut self) {
        if !self.is_to_cut() {
            return;
        }
        for _ in 0..EXPIRIES_MAX {
            let Some(flow) = self.flows.evict() else {
                return;
            };
            self.settings.metrics.udp.ended_cut.increment();
            self.ended(flow, "cut by the end of the process");
        }
    }

    /// Whether another process makes the flows of our clients.
    pub(super) fn is_relieved(&self) -> bool {
        self.draining == Some(Draining::Relieved)
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_drained(&self) -> bool {
        self.draining.is_some() && self.flows.is_empty() && !self.waits_for_others()
    }

    /// Tells the other shards, once it is so, that this one has no flows any more.
    pub(super) fn tell_done(&self) {
        if self.draining == Some(Draining::Alone)
            && self.flows.is_empty()
            && let Some(handover) = &self.handover
        {
            handover.done();
        }
    }

    /// Whether others may have flows, and their datagrams come here.
    fn waits_for_others(&self) -> bool {
        let handover = self.handover.as_ref();
        self.draining == Some(Draining::Alone)
            && !self.settings.drain.is_cut()
            && handover.is_some_and(|it| !it.all_are_done())
    }
}

// === impl FlowState ===

impl FlowState {
    /// Leaves what the server says to another socket with the same address, if there is one.
    pub(super) fn yield_replies(&self) {
        let other_ear = self.other_ear.as_ref();
        for socket in std::iter::once(&self.socket).chain(other_ear) {
            // Without it a reply may go to the older of two sockets, and reach the client all the same.
            let _ = set_socket_incoming_cpu(socket, NO_CPU);
        }
    }
}
