//! Flows that end: idle, or early to make room.

use std::time::Instant;

use super::flow::{Flow, FlowTable};
use super::mishap::AtWork;
use super::{FlowState, Udp};

/// Flows that end before the datagrams of others get a turn.
pub(super) const EXPIRIES_MAX: usize = 256;

impl Udp {
    /// Ends the flows that are idle, some at a time.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        for _ in 0..EXPIRIES_MAX {
            let Some(flow) = self.flows.expire(now) else {
                if self.mode.expire(now) {
                    continue;
                }
                self.expiry.stop();
                self.set_expiry(now);
                return;
            };
            self.ended(flow, "idle");
        }
        // The alarm goes on ringing: the others' turn first.
    }

    /// Has the alarm ring when there will be something to end.
    pub(super) fn set_expiry(&self, now: Instant) {
        let expiries = [self.flows.next_expiry(), self.mode.next_expiry()];
        if let Some(at) = expiries.into_iter().flatten().min() {
            self.expiry.set(at, now);
        }
    }

    /// Notes the end of a flow that has been taken out.
    pub(super) fn ended(&mut self, mut flow: Flow<FlowState>, reason: &'static str) {
        let before = std::mem::replace(&mut self.at_work, AtWork::Peer(flow.state.downstream()));
        self.listeners[flow.state.frontend as usize].flows -= 1;
        let metrics = &self.settings.metrics.udp;
        flow.state.count_losses(&metrics.lost_downstream);
        metrics.flows_closed.increment();
        let duration = flow.state.opened_at.elapsed();
        metrics.durations.observe(duration);
        let bytes = [flow.state.bytes_upstream, flow.state.bytes_downstream];
        let subject = self.subject_of(&flow);
        subject.closed(bytes[0], bytes[1], &reason);
        if let Some(access_log) = &self.settings.access_log {
            access_log.note(subject.entry(bytes, duration, reason.into()));
        }
        self.at_work = before;
    }

    /// Ends the flow that has to go first. Returns whether there was one.
    pub(super) fn evict(
        &mut self,
        why: &'static str,
        evict: impl FnOnce(&mut FlowTable<FlowState>) -> Option<Flow<FlowState>>,
    ) -> bool {
        // Admitted datagrams name their flows by id, and the next flow may get the evicted one's: send them first.
        self.send_admitted();
        let Some(flow) = evict(&mut self.flows) else {
            return false;
        };
        self.settings.metrics.udp.flows_evicted.increment();
        let limit = &self.limits.evicted;
        limit.debug(&self.subject_of(&flow), "flow ended early", Some(&why));
        self.ended(flow, "evicted");
        true
    }
}
