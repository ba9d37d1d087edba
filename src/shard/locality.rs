//! On which CPU a pinned shard runs.
//!
//! A shard has a CPU of its own, its home, so that shards share the load. With little to do there is another matter: each
//! message wakes the shard, and waking a thread on another CPU costs an interrupt there, and the end of that CPU's sleep.
//! On virtual machines that is several times the work of passing the message on. So a shard with little to do moves to
//! the CPU on which the balancer's packets arrive (`SO_INCOMING_CPU`, socket(7)), where the wake-up is a mere switch of
//! threads, and goes home as soon as messages queue up.
//!
//! Measured on two virtual CPUs, with one connection's ping-pong: a third of the round trip and of the CPU time where
//! balancer and server are on one CPU and the shard was on the other. Nothing is gained, or lost, where the kernel moves
//! those two about.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;

/// Rounds of events after which there is something to say about the load.
const ROUNDS_MIN: u32 = 64;

/// Samples for one decision.
const SAMPLES: u32 = 8;

/// How long a shard stays at home once messages have queued up.
const HOME_MIN: Duration = Duration::from_secs(1);

/// Where a shard is, and what it has seen since it last thought about it.
#[derive(Debug)]
pub(crate) struct Locality {
    /// None for a shard that stays where it is, or wanders as the kernel likes.
    home: Option<Home>,
    rounds: Cell<u32>,
    events: Cell<u32>,
    /// Samples that are still wanted.
    wanted: Cell<u32>,
    /// The CPU of the samples so far, if they agree …
    candidate: Cell<Option<usize>>,
    /// … and whether they do.
    disagree: Cell<bool>,
}

/// The home of a shard that may leave it.
#[derive(Debug)]
struct Home {
    cpu: usize,
    /// The CPUs this process may use.
    allowed: Vec<usize>,
    current: Cell<usize>,
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
}

// === impl Locality ===

impl Locality {
    /// For a shard that stays where it is.
    pub(crate) fn fixed() -> Self {
        Self {
            home: None,
            rounds: Cell::new(0),
            events: Cell::new(0),
            wanted: Cell::new(0),
            candidate: Cell::new(None),
            disagree: Cell::new(false),
        }
    }

    /// For a shard that may leave its home `cpu` for others of `allowed`.
    pub(crate) fn roaming(cpu: usize, allowed: Vec<usize>) -> Self {
        Self {
            home: Some(Home {
                cpu,
                allowed,
                current: Cell::new(cpu),
                until: Cell::new(None),
            }),
            ..Self::fixed()
        }
    }

    /// Notes that a connection's balancer has sent something. One read of memory, unless a sample is wanted.
    pub(crate) fn received(&self, downstream: &impl AsFd) {
        if self.wanted.get() > 0 {
            self.sample(downstream);
        }
    }

    #[cold]
    fn sample(&self, downstream: &impl AsFd) {
        self.wanted.set(self.wanted.get() - 1);
        // Where it cannot be told there is nothing to follow.
        let cpu = SockRef::from(&downstream.as_fd()).cpu_affinity().ok();
        match (self.candidate.get(), cpu) {
            (None, Some(cpu)) => self.candidate.set(Some(cpu)),
            (Some(before), Some(cpu)) if before == cpu => {}
            _ => self.disagree.set(true),
        }
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
            Load::Light => self.follow(home),
            Load::Moderate => self.ask(0),
            Load::Heavy => {
                home.until.set(Some(now + HOME_MIN));
                self.ask(0);
                home.go_to(home.cpu);
            }
        }
        self.rounds.set(0);
        self.events.set(0);
    }

    /// Moves to where packets arrive, if they agree about it, and asks for samples otherwise.
    fn follow(&self, home: &Home) {
        if self.wanted.get() > 0 {
            return;
        }
        if let (Some(cpu), false) = (self.candidate.get(), self.disagree.get()) {
            home.go_to(cpu);
        }
        self.ask(SAMPLES);
    }

    fn ask(&self, samples: u32) {
        self.wanted.set(samples);
        self.candidate.set(None);
        self.disagree.set(false);
    }

    fn load(&self) -> Load {
        let (rounds, events) = (self.rounds.get(), self.events.get());
        match (rounds, events) {
            (..ROUNDS_MIN, _) => Load::Unknown,
            _ if events <= rounds + rounds / 8 => Load::Light,
            _ if events < rounds + rounds / 2 => Load::Moderate,
            _ => Load::Heavy,
        }
    }
}

// === impl Home ===

impl Home {
    fn go_to(&self, cpu: usize) {
        if cpu == self.current.get() || !self.allowed.contains(&cpu) {
            return;
        }
        let mut set = CpuSet::new();
        set.set(cpu);
        // Refused by a seccomp profile, or because the cpuset has changed: then the shard stays where it is.
        if sched_setaffinity(None, &set).is_ok() {
            self.current.set(cpu);
        }
    }
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
            locality.rounds.set(rounds);
            locality.events.set(events);
            assert_eq!(locality.load(), load, "{events} events in {rounds} rounds");
        }
    }
}
