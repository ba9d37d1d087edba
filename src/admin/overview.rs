//! Everything the endpoint tells of.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use crate::access_log::AccessLog;
use crate::coordinator::SharedState;
use crate::metrics::{ListMetrics, ShardMetrics};
use crate::sandbox;

/// What the endpoint looks at when somebody asks.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) facts: Facts,
    pub(crate) state: SharedState,
    pub(crate) lists: Vec<NamedList>,
    pub(crate) access_log: Option<AccessLog>,
    pub(super) started_at: SystemTime,
    pub(super) started: Instant,
    /// Empty until all listen.
    shards: OnceLock<Vec<Arc<ShardMetrics>>>,
    /// Empty until it is closed; None if there is none.
    sandbox: OnceLock<Option<sandbox::Status>>,
}

/// What does not change from start to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Where it listens, and where it leads; as on the command line, once the kernel has chosen its ports.
    pub(crate) listen: String,
    pub(crate) target_v4: String,
    pub(crate) target_v6: String,
    pub(crate) protocol: &'static str,
    /// The table of the routes that were set up (`--setup-routes`).
    pub(crate) routes_table: Option<u32>,
}

/// A list file by the name of its flag.
#[derive(Debug)]
pub(crate) struct NamedList {
    pub(crate) name: &'static str,
    pub(crate) path: String,
    pub(crate) metrics: Arc<ListMetrics>,
}

// === impl Overview ===

impl Overview {
    pub(crate) fn new(
        facts: Facts,
        state: SharedState,
        lists: Vec<NamedList>,
        access_log: Option<AccessLog>,
    ) -> Self {
        Self {
            facts,
            state,
            lists,
            access_log,
            started_at: SystemTime::now(),
            started: Instant::now(),
            shards: OnceLock::new(),
            sandbox: OnceLock::new(),
        }
    }

    /// Adds the shards, once all are there.
    pub(crate) fn set_shards(&self, shards: Vec<Arc<ShardMetrics>>) {
        // There is one start, so this is the first time.
        let _ = self.shards.set(shards);
    }

    /// Adds what the process may do, once that is settled.
    pub(crate) fn set_sandbox(&self, status: Option<sandbox::Status>) {
        // As above.
        let _ = self.sandbox.set(status);
    }

    pub(super) fn sandbox(&self) -> Option<&sandbox::Status> {
        self.sandbox.get()?.as_ref()
    }

    pub(super) fn shards(&self) -> &[Arc<ShardMetrics>] {
        self.shards.get().map_or(&[], Vec::as_slice)
    }
}
