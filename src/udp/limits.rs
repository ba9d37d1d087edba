//! How often each line of UDP's log may repeat.

use crate::logging::RateLimited;

/// One for each line that may repeat with every datagram.
pub(super) struct Limits {
    pub(super) peer: RateLimited,
    pub(super) header: RateLimited,
    pub(super) unbound: RateLimited,
    pub(super) source: RateLimited,
    pub(super) destination: RateLimited,
    pub(super) dial: RateLimited,
    pub(super) port: RateLimited,
    pub(super) redirect: RateLimited,
    pub(super) overload: RateLimited,
    pub(super) evicted: RateLimited,
    pub(super) upstream: RateLimited,
    pub(super) downstream: RateLimited,
    pub(super) receive: RateLimited,
    pub(super) panicked: RateLimited,
}

// === impl Limits ===

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            peer: RateLimited::new(),
            header: RateLimited::new(),
            unbound: RateLimited::new(),
            source: RateLimited::new(),
            destination: RateLimited::new(),
            dial: RateLimited::new(),
            port: RateLimited::new(),
            redirect: RateLimited::new(),
            overload: RateLimited::new(),
            evicted: RateLimited::new(),
            upstream: RateLimited::new(),
            downstream: RateLimited::new(),
            receive: RateLimited::new(),
            panicked: RateLimited::new(),
        }
    }
}
