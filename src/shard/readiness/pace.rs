//! Where the driver sleeps.

use std::time::{Duration, Instant};

use super::EPOLL_SLEEP;

/// The gap between events above which the driver sleeps in the ring at once.
const SPARSE: Duration = Duration::from_millis(8);

/// Decides where to sleep, from the times of past events.
pub(super) struct Pace {
    last: Instant,
    /// Moving average of the gaps between rounds with events, each counted as at most [`GAP_MAX`](Self::GAP_MAX).
    gap: Duration,
}

// === impl Pace ===

impl Pace {
    /// Longer gaps count as this one, so that a burst after a long silence is soon known for one.
    const GAP_MAX: Duration = Duration::from_millis(100);

    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: now,
            gap: Self::GAP_MAX,
        }
    }

    /// A round had events.
    pub(super) fn events(&mut self, now: Instant) {
        let gap = now.duration_since(self.last).min(Self::GAP_MAX);
        self.gap = (self.gap * 3 + gap) / 4;
        self.last = now;
    }

    /// Whether the next event is likely to come soon.
    pub(super) fn is_brisk(&self, now: Instant) -> bool {
        self.gap < SPARSE && now.duration_since(self.last) < 2 * EPOLL_SLEEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_events_sleep_in_the_ring_and_dense_ones_in_epoll() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(!pace.is_brisk(now), "a new shard is quiet");
        for _ in 0..20 {
            now += Duration::from_micros(300);
            pace.events(now);
        }
        assert!(pace.is_brisk(now));
        assert!(
            !pace.is_brisk(now + Duration::from_millis(20)),
            "it has been quiet for a while"
        );
        for _ in 0..5 {
            now += Duration::from_millis(50);
            pace.events(now);
        }
        assert!(
            !pace.is_brisk(now),
            "20 datagrams a second are not worth a timed sleep"
        );
    }
}
