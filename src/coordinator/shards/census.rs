//! Having shards count what their clients have moved.

use super::{Shard, Shards};
use crate::coordinator::census::Asker;
use crate::shard::Command;
use crate::shard::census::Count;

impl Shards {
    /// Has all shards count, and answer. Those that have ended have nothing to count.
    pub(in crate::coordinator) fn count(&self, asker: &Asker) {
        let running = self.0.iter().filter(|shard| !shard.has_ended());
        running.for_each(|shard| shard.count(asker.clone()));
    }
}

// === impl Shard ===

impl Shard {
    fn count(&self, asker: Asker) {
        let count = Count::new(Box::new(move |tally| {
            // Whoever asked may have lost patience.
            let _ = asker.send(tally);
        }));
        // A count that is dropped says so.
        self.tell(Command::Count(count));
    }
}
