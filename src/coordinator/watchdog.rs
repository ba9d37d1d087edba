//! systemd's watchdog: it is told that all is well as often as it asks, if all shards answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use super::shards::Shards;
use crate::systemd;

/// When to tell it next.
pub(super) struct Watchdog(Option<Beat>);

struct Beat {
    interval: Duration,
    next: Cell<Instant>,
}

// === impl Watchdog ===

impl Watchdog {
    /// Begins when the shards are there.
    pub(super) fn new() -> Self {
        Self(systemd::beat().map(|interval| Beat {
            interval,
            next: Cell::new(Instant::now()),
        }))
    }

    /// Asks all shards and tells systemd, again and again. May be dropped and called again at any time. If a shard does not
    /// answer, systemd hears nothing more, and does what the unit says.
    pub(super) async fn beat(&self, shards: &Shards) -> Infallible {
        let Some(beat) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            let wait = beat.next.get().saturating_duration_since(Instant::now());
            Timer::new(wait).await;
            shards.ask();
            shards.answered().await;
            systemd::alive();
            beat.next.set(Instant::now() + beat.interval);
        }
    }
}
