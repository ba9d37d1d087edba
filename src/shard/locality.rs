//! On which CPU a pinned shard runs.
//!
//! While messages queue up, each shard stays on a CPU of its own, its home, so that shards share the load and find what
//! they had in that CPU's caches. Otherwise the kernel places it, as it does all threads that wake each other:
//!
//! - With little to do each message wakes the shard, which costs least where its sender runs. On virtual machines a wake-up
//!   across CPUs is several times the work of passing the message on.
//! - With bulk, turns are long, and so are those of senders and receivers. A shard that waits at home for another thread's
//!   to end leaves other CPUs idle.
//!
//! Measured on two virtual CPUs that proxy, client and server share, against shards that never leave: a flood through 50
//! connections 1.2 to 1.4 times as fast for 0.8 of the CPU time, bulk both ways 1.2 to 1.4 times, one connection's ping-pong
//! 1.0 to 1.2 times; against shards that are never at home: 500 ping-pongs 1.0 to 1.1 times, with 0.9 of the CPU time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// Rounds of events after which there is something to say about the load.
const ROUNDS_MIN: u32 = 64;

/// Bytes for each event from which on they count as bulk.
const BULK: u64 = 8 << 10;

/// How long a shard stays at home once messages have queued up, unless it is for bulk.
const HOME_MIN: Duration = Duration::from_secs(1);

/// Where a shard is, and what it has seen since it last thought about it.
#[derive(Debug)]
pub(crate) struct Locality {
    /// None for a shard that stays where it is, or wanders as the kernel likes.
    home: Option<Home>,
    rounds: Cell<u32>,
    events: Cell<u32>,
    bytes: Cell<u64>,
}

/// The home of a shard that may leave it.
#[derive(Debug)]
struct Home {
    cpu: usize,
    /// The CPUs this process may use.
    allowed: Vec<usize>,
    is_there: Cell<bool>,
    /// Not to be left before this.
    until: Cell<Option<Instant>>,
}

/// What a look at the load says.
#[derive(Debug, PartialEq, Eq)]
enum Load {
    /// Too little was seen.
    Unknown,
    /// Nearly every message found the shard asleep.
    Light,
    Moderate,
    /// Messages queue up.
    Heavy,
    /// Bytes come in large pieces.
    Bulk,
}

// === impl Locality ===

impl Locality {
    /// For a shard that stays where it is.
    pub(crate) fn fixed() -> Self {
        Self {
            home: None,
            rounds: Cell::new(0),
            events: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// For a shard that may leave its home `cpu`, where it is, for others of `allowed`.
    pub(crate) fn roaming(cpu: usize, allowed: Vec<usize>) -> Self {
        let home = Home {
            cpu,
            allowed,
            is_there: Cell::new(true),
            until: Cell::new(None),
        };
        Self {
            // Where there is nowhere to go it need not think about it.
            home: (home.allowed.len() > 1).then_some(home),
            ..Self::fixed()
        }
    }

    /// Notes that so many bytes were passed on.
    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Notes a round of the driver that found events.
    pub(crate) fn round(&self, events: usize) {
        self.rounds.set(self.rounds.get() + 1);
        self.events.set(self.events.get() + events as u32);
    }

    /// Thinks about where to be; to be called every few milliseconds while there is traffic.
    pub(crate) fn settle(&self, now: Instant) {
        let Some(home) = &self.home else { return };
        match self.load() {
            Load::Unknown => return,
            Load::Light if home.until.get().is_some_and(|until| now < until) => {}
            Load::Light | Load::Bulk => home.leave(),
            Load::Moderate => {}
            Load::Heavy => {
                home.until.set(Some(now + HOME_MIN));
                home.enter();
            }
        }
        self.rounds.set(0);
        self.events.set(0);
        self.bytes.set(0);
    }

    fn load(&self) -> Load {
        let (rounds, events) = (self.rounds.get(), self.events.get());
        match (rounds, events) {
            (..ROUNDS_MIN, _) => Load::Unknown,
            _ if self.bytes.get() >= BULK * u64::from(events) => Load::Bulk,
            _ if events <= rounds + rounds / 8 => Load::Light,
            _ if events < rounds + rounds / 2 => Load::Moderate,
            _ => Load::Heavy,
        }
    }
}

// === impl Home ===

impl Home {
    fn enter(&self) {
        if !self.is_there.get() && run_on(&[self.cpu]) {
            self.is_there.set(true);
        }
    }

    fn leave(&self) {
        if self.is_there.get() && run_on(&self.allowed) {
            self.is_there.set(false);
        }
    }
}

/// Returns whether this thread runs on one of these from now on. If that is refused, by a seccomp profile or because the
/// cpuset has changed, it stays where it is.
fn run_on(cpus: &[usize]) -> bool {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_load_by_how_many_events_a_round_finds() {
        let cases = [
            (ROUNDS_MIN - 1, ROUNDS_MIN - 1, Load::Unknown),
            (100, 100, Load::Light),
            (100, 112, Load::Light),
            (100, 113, Load::Moderate),
            (100, 149, Load::Moderate),
            (100, 150, Load::Heavy),
            (100, 5000, Load::Heavy),
        ];
        for (rounds, events, load) in cases {
            let locality = Locality::fixed();
            locality.moved(u64::from(events) * 100);
            locality.rounds.set(rounds);
            locality.events.set(events);
            assert_eq!(locality.load(), load, "{events} events in {rounds} rounds");
        }
    }

    #[test]
    fn large_pieces_are_bulk_however_many_come_at_once() {
        for events in [100, 5000] {
            let locality = Locality::fixed();
            locality.rounds.set(100);
            locality.events.set(events);
            locality.moved(u64::from(events) * BULK - 1);
            assert_ne!(locality.load(), Load::Bulk);
            locality.moved(1);
            assert_eq!(locality.load(), Load::Bulk);
        }
    }
}
