//! What is known of a list file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Counter;

/// One list. The coordinator alone writes it, anybody may read it.
#[derive(Debug, Default)]
pub struct ListMetrics {
    entries: AtomicU64,
    /// Milliseconds since 1970.
    read_at: AtomicU64,
    is_outdated: AtomicBool,
    /// Times it was read again and could be used.
    pub reloads: Counter,
    /// Times it was to be read again and could not be used.
    pub failures: Counter,
}

// === impl ListMetrics ===

impl ListMetrics {
    /// Notes that the file was read, with so many entries if they may have changed.
    pub fn read(&self, entries: Option<usize>, now: SystemTime) {
        if let Some(entries) = entries {
            self.entries.store(entries as u64, Ordering::Relaxed);
        }
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        self.read_at.store(millis, Ordering::Relaxed);
        self.is_outdated.store(false, Ordering::Relaxed);
    }

    /// Notes that the file cannot be used as it is.
    pub fn failed(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
        self.failures.increment();
    }

    /// How many prefixes are in force.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// When the file last said what is in force, since 1970.
    pub fn read_at(&self) -> Duration {
        Duration::from_millis(self.read_at.load(Ordering::Relaxed))
    }

    /// Whether the file says something that cannot be used.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed)
    }
}
