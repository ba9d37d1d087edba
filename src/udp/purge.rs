//! Ending the flows of clients that a new list denies, some at a time.

use std::task::Context;

use tracing::info;

use super::Udp;
use super::flow::FlowId;
use crate::shard::lists::{Bell, Lists};

/// Places of the flow table that are looked at before the datagrams of others get a turn. All flows in them may end.
const LOOKS_MAX: FlowId = 256;

/// A way through the flow table, or the wait for the next.
pub(super) struct Purge {
    /// None if new lists end no flows.
    bell: Option<Bell>,
    /// The change of the list that made it begin.
    change: u64,
    /// Where it goes on; None while it waits.
    next: Option<FlowId>,
    ended: u64,
}

// === impl Purge ===

impl Purge {
    pub(super) fn new(lists: &Lists) -> Self {
        Self {
            bell: lists.ends_denied().then(|| lists.bell()),
            change: lists.changes(),
            next: None,
            ended: 0,
        }
    }

    /// Whether there is something to look at.
    pub(super) fn is_due(&self, lists: &Lists) -> bool {
        self.next.is_some() || self.bell.is_some() && lists.changes() != self.change
    }

    /// Has the task of `cx` woken when there is.
    pub(super) fn register(&self, cx: &Context<'_>) {
        if let Some(bell) = &self.bell {
            bell.register(cx);
        }
    }
}

impl Udp {
    /// Looks at some flows, from the first on whenever the list has changed.
    pub(super) fn purge(&mut self) {
        if !self.purge.is_due(&self.settings.lists) {
            return;
        }
        let change = self.settings.lists.changes();
        if change != self.purge.change {
            self.purge.change = change;
            self.purge.next = Some(0);
        }
        let Some(first) = self.purge.next else { return };
        let behind = self.flows.places().min(first.saturating_add(LOOKS_MAX));
        for id in first..behind {
            let client = self.flows.get(id).map(|flow| flow.key.party.client());
            if client.is_some_and(|client| self.settings.lists.ends(client)) {
                self.end_denied(id);
            }
        }
        let is_over = behind == self.flows.places();
        self.purge.next = (!is_over).then_some(behind);
        if is_over && self.purge.ended > 0 {
            let (listener, flows) = (self.settings.listener, self.purge.ended);
            info!(listener, flows, "flows of denied clients ended");
            self.purge.ended = 0;
        }
    }

    fn end_denied(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(id) {
            self.purge.ended += 1;
            self.settings.metrics.udp.ended_denied.increment();
            self.ended(flow, "denied");
        }
    }
}
