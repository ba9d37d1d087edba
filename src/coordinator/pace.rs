//! How often something is done that anybody can ask for again and again.

use std::time::{Duration, Instant};

/// The least rest between two times …
const REST_MIN: Duration = Duration::from_millis(200);

/// … which is longer after long work, so that it takes this part of a CPU's time at most …
const WORK_SHARE: u32 = 5;

/// … unless that would keep the last state waiting for longer than this.
const REST_MAX: Duration = Duration::from_secs(2);

/// The pace of one kind of work, such as reading a list again because its file has changed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    not_before: Option<Instant>,
}

// === impl Pace ===

impl Pace {
    /// How long to rest until the next time.
    pub(super) fn rest(&self) -> Duration {
        let now = Instant::now();
        self.not_before
            .map_or(Duration::ZERO, |it| it.saturating_duration_since(now))
    }

    /// Notes that the work was done, just now, and took so long.
    pub(super) fn worked(&mut self, took: Duration) {
        self.not_before = Some(Instant::now() + rest_after(took));
    }
}

fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(WORK_SHARE - 1)
        .clamp(REST_MIN, REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_follows_the_work_within_limits() {
        let millis = Duration::from_millis;
        assert_eq!(rest_after(Duration::ZERO), millis(200));
        assert_eq!(rest_after(millis(50)), millis(200));
        assert_eq!(rest_after(millis(100)), millis(400));
        assert_eq!(rest_after(Duration::from_secs(60)), millis(2000));
        assert_eq!(rest_after(Duration::MAX), millis(2000));
    }

    #[test]
    fn the_first_time_is_at_once_and_the_next_is_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(), Duration::ZERO);
        pace.worked(Duration::from_secs(5));
        let rest = pace.rest();
        assert!(rest > Duration::ZERO && rest <= REST_MAX, "{rest:?}");
    }
}
