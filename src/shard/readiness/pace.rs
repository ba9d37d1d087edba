//! Where the driver sleeps, and for how long.

use std::time::{Duration, Instant};

/// How long the driver sleeps in `epoll_wait` at most, and how often glommio's timers and channels get a turn meanwhile,
/// while events come thick and fast …
pub(super) const BRISK_SLEEP: Duration = Duration::from_millis(10);

/// … and while they trickle in, as those of a single player do.
pub(super) const SPARSE_SLEEP: Duration = Duration::from_millis(100);

/// The usual gap between events below which they count as brisk …
const BRISK: Duration = Duration::from_millis(8);

/// … and as sparse. With larger ones most sleeps in `epoll_wait` would end for nothing.
const SPARSE: Duration = Duration::from_millis(80);

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

    /// How long to sleep in `epoll_wait` at most; None if the next event is not likely to come soon.
    pub(super) fn sleep(&self, now: Instant) -> Option<Duration> {
        let silence = now.duration_since(self.last);
        if self.gap < BRISK && silence < 2 * BRISK_SLEEP {
            Some(BRISK_SLEEP)
        } else if self.gap < SPARSE && silence < 2 * SPARSE_SLEEP {
            Some(SPARSE_SLEEP)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_gap_between_events_decides() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.sleep(now), None, "a new shard is quiet");
        for _ in 0..20 {
            now += Duration::from_micros(300);
            pace.events(now);
        }
        assert_eq!(pace.sleep(now), Some(BRISK_SLEEP));
        let later = now + Duration::from_millis(25);
        assert_eq!(pace.sleep(later), Some(SPARSE_SLEEP), "not so brisk");
        let later = now + Duration::from_millis(250);
        assert_eq!(pace.sleep(later), None, "it has been quiet for a while");
        for _ in 0..20 {
            now += Duration::from_millis(50);
            pace.events(now);
        }
        assert_eq!(
            pace.sleep(now),
            Some(SPARSE_SLEEP),
            "20 datagrams a second are not worth a hundred timed wake-ups, nor a ring's sleep each"
        );
        for _ in 0..20 {
            now += Duration::from_millis(200);
            pace.events(now);
        }
        assert_eq!(pace.sleep(now), None);
    }
}
