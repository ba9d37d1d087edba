//! Counting what the flows of each client have moved, some at a time.

use super::Udp;
use super::flow::FlowId;
use crate::metrics::Traffic;
use crate::shard::census::Count;

/// Places of the flow table that are looked at before the datagrams of others get a turn.
const LOOKS_MAX: FlowId = 1024;

/// A count, and where it goes on.
pub(super) struct Counting {
    count: Count,
    next: FlowId,
}

impl Udp {
    /// Whether there is something to count.
    pub(super) fn has_count(&self) -> bool {
        self.counting.is_some() || self.settings.desk.has_count()
    }

    /// Counts some flows, from the first on whenever somebody asks.
    pub(super) fn count(&mut self) {
        let asked = || {
            let count = self.settings.desk.take()?;
            Some(Counting { count, next: 0 })
        };
        let Some(mut counting) = self.counting.take().or_else(asked) else {
            return;
        };
        let behind = self
            .flows
            .places()
            .min(counting.next.saturating_add(LOOKS_MAX));
        for id in counting.next..behind {
            if let Some(flow) = self.flows.get(id)
                && let Some(client) = flow.key.party.client()
            {
                let bytes = [flow.state.bytes_upstream, flow.state.bytes_downstream];
                let traffic = Traffic::of_flow(bytes, flow.state.opened_at);
                counting.count.tally.add(client.addr().ip(), traffic);
            }
        }
        if behind == self.flows.places() {
            counting.count.complete();
        } else {
            counting.next = behind;
            self.counting = Some(counting);
        }
    }
}
