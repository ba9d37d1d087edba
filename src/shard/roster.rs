//! The TCP relays of a shard, where they may have to end although neither side ends them (because their client is denied by
//! a new list, because they are idle, because the process ends and the access log is to say so), or where somebody may ask
//! which clients are the busiest. A shard without any of it keeps no roster.
//!
//! A relay neither looks at the clock nor has a timer. It notes how many bytes it has moved, and tasks go round all relays,
//! some at a time: one when the list changes; one now and then, which takes the time of those that have moved nothing since
//! it came by last; one when somebody asks; one at the end.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tracing::info;

use super::lists::Lists;
use super::readiness::Readiness;
use crate::addr::ClientAddr;
use crate::metrics::{Tally, Traffic};

/// Relays looked at, and of them ended, before the shard's other tasks get a turn: a look is a look-up in the list, an end
/// takes some system calls.
const LOOKS_MAX: usize = 1024;
const ENDS_MAX: usize = 64;

/// How many rounds there are in the time that a relay may be idle, within limits: a round costs next to nothing.
const ROUNDS_PER_IDLE: u32 = 8;
const ROUND_MIN: Duration = Duration::from_millis(20);
const ROUND_MAX: Duration = Duration::from_secs(10);

/// The relays of a shard.
pub(crate) struct Roster {
    lists: Rc<Lists>,
    entries: RefCell<Entries>,
}

#[derive(Default)]
struct Entries {
    /// By place. A relay keeps its own to the end, so that a round that pauses misses nobody.
    relays: Vec<Option<Rc<Entry>>>,
    free: Vec<usize>,
}

/// What is known of one relay.
struct Entry {
    client: Option<ClientAddr>,
    since: Instant,
    /// Bytes moved so far, to the server and to the client.
    moved: Cell<[u64; 2]>,
    /// How many [`Entry::moved`] were at the last round, and since when.
    idle: Cell<Option<(u64, Instant)>>,
    ended: Cell<Option<Ended>>,
    waker: Cell<Option<Waker>>,
}

/// A relay's place in the roster, until it is dropped.
pub(crate) struct Leash {
    roster: Rc<Roster>,
    place: usize,
    entry: Rc<Entry>,
}

/// What one turn of a round came to.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    ended: usize,
    /// Where the next begins, if there is one.
    next: Option<usize>,
}

/// Why a relay has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the client is in the new list of denied clients")]
    Denied,
    #[error("no byte for {seconds} s (--idle-timeout)", seconds = .0.as_secs_f32())]
    Idle(Duration),
    #[error("cut by the end of the process")]
    Cut,
}

// === impl Roster ===

impl Roster {
    /// The roster of a shard, with the tasks that go round it; None if nothing ends relays, and it is not `needed` otherwise. Must
    /// be called on an executor.
    pub(crate) fn start(
        lists: &Rc<Lists>,
        idle_max: Option<Duration>,
        needed: bool,
        readiness: &Readiness,
        listener: usize,
    ) -> Option<Rc<Self>> {
        if !lists.ends_denied() && idle_max.is_none() && !needed {
            return None;
        }
        let roster = Rc::new(Self::new(Rc::clone(lists)));
        if lists.ends_denied() {
            let (roster, readiness) = (Rc::clone(&roster), readiness.clone());
            let rounds = async move { roster.end_denied(&readiness, listener).await };
            glommio::spawn_local(rounds).detach();
        }
        if let Some(idle_max) = idle_max {
            let (roster, readiness) = (Rc::clone(&roster), readiness.clone());
            let rounds = async move { roster.end_idle(&readiness, idle_max).await };
            glommio::spawn_local(rounds).detach();
        }
        Some(roster)
    }

    fn new(lists: Rc<Lists>) -> Self {
        Self {
            lists,
            entries: RefCell::default(),
        }
    }

    /// Enters a relay. If its client has been denied meanwhile, it ends at once.
    pub(crate) fn enter(self: &Rc<Self>, client: Option<ClientAddr>) -> Leash {
        let entry = Rc::new(Entry {
            client,
            since: Instant::now(),
            moved: Cell::default(),
            idle: Cell::new(None),
            ended: Cell::new(self.lists.ends(client).then_some(Ended::Denied)),
            waker: Cell::new(None),
        });
        let mut entries = self.entries.borrow_mut();
        let place = entries.free.pop().unwrap_or_else(|| {
            entries.relays.push(None);
            entries.relays.len() - 1
        });
        entries.relays[place] = Some(Rc::clone(&entry));
        Leash {
            roster: Rc::clone(self),
            place,
            entry,
        }
    }

    /// Adds to a tally what the relays of clients have moved so far.
    pub(crate) async fn count(&self, tally: &mut Tally, readiness: &Readiness) {
        let mut place = 0;
        while let Some(next) = self.count_some(place, tally) {
            place = next;
            readiness.pause().await;
        }
    }

    /// As [`Roster::count`], for a turn's relays from this place on. Returns where the next begins, if there is one.
    fn count_some(&self, place: usize, tally: &mut Tally) -> Option<usize> {
        let relays = &self.entries.borrow().relays;
        let behind = relays.len().min(place + LOOKS_MAX);
        for entry in relays.get(place..behind)?.iter().flatten() {
            if let Some(client) = entry.client {
                let traffic = Traffic::of_connection(entry.moved.get(), entry.since);
                tally.add(client.addr().ip(), traffic);
            }
        }
        (behind < relays.len()).then_some(behind)
    }

    /// Ends all relays, and waits until they have.
    pub(crate) async fn cut(&self, readiness: &Readiness) {
        // Some may enter meanwhile.
        while !self.is_empty() {
            self.go_round(readiness, |_| Some(Ended::Cut)).await;
            readiness.pause().await;
        }
    }

    fn is_empty(&self) -> bool {
        let entries = self.entries.borrow();
        entries.free.len() == entries.relays.len()
    }

    async fn end_denied(&self, readiness: &Readiness, listener: usize) {
        let bell = self.lists.bell();
        let mut seen = 0;
        loop {
            // A change in the midst of a round makes another.
            seen = self.lists.changed(seen, &bell).await;
            let denied = |entry: &Entry| self.lists.ends(entry.client).then_some(Ended::Denied);
            let connections = self.go_round(readiness, denied).await;
            if connections > 0 {
                info!(listener, connections, "connections of denied clients ended");
            }
        }
    }

    async fn end_idle(&self, readiness: &Readiness, idle_max: Duration) {
        let round = (idle_max / ROUNDS_PER_IDLE).clamp(ROUND_MIN, ROUND_MAX);
        loop {
            readiness.rest(round).await;
            // The time of the look, not that of the round: bytes may pass between two of its turns.
            let idle = |entry: &Entry| {
                let is_idle = entry.is_idle(Instant::now(), idle_max);
                is_idle.then_some(Ended::Idle(idle_max))
            };
            self.go_round(readiness, idle).await;
        }
    }

    /// Ends the relays that have to, and tells how many.
    async fn go_round(
        &self,
        readiness: &Readiness,
        judge: impl Fn(&Entry) -> Option<Ended>,
    ) -> usize {
        let (mut place, mut count) = (0, 0);
        loop {
            let turn = self.look_at_some(place, &judge);
            count += turn.ended;
            let Some(next) = turn.next else { return count };
            place = next;
            readiness.pause().await;
        }
    }

    /// As [`Roster::go_round`], for a turn's relays from this place on.
    fn look_at_some(&self, place: usize, judge: impl Fn(&Entry) -> Option<Ended>) -> Turn {
        let relays = &self.entries.borrow().relays;
        let mut ended = 0;
        for (at, relay) in relays.iter().enumerate().skip(place) {
            if at == place + LOOKS_MAX || ended == ENDS_MAX {
                let next = Some(at);
                return Turn { ended, next };
            }
            let open = relay.as_ref().filter(|entry| entry.ended.get().is_none());
            if let Some(entry) = open
                && let Some(reason) = judge(entry)
            {
                entry.end(reason);
                ended += 1;
            }
        }
        Turn { ended, next: None }
    }
}

// === impl Entry ===

impl Entry {
    fn end(&self, ended: Ended) {
        self.ended.set(Some(ended));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether nothing has moved for so long, as far as the rounds can tell: later than it happened, never earlier.
    fn is_idle(&self, now: Instant, idle_max: Duration) -> bool {
        let moved = self.moved.get().iter().sum();
        match self.idle.get() {
            Some((before, since)) if before == moved => now - since >= idle_max,
            _ => {
                self.idle.set(Some((moved, now)));
                false
            }
        }
    }
}

// === impl Leash ===

impl Leash {
    /// Why the relay has to end, if it has to; otherwise the task of `cx` is woken when it has.
    pub(crate) fn pulled(&self, cx: &Context<'_>) -> Option<Ended> {
        let ended = self.entry.ended.get();
        if ended.is_none() {
            let waker = match self.entry.waker.take() {
                Some(old) if old.will_wake(cx.waker()) => old,
                _ => cx.waker().clone(),
            };
            self.entry.waker.set(Some(waker));
        }
        ended
    }

    /// Notes how many bytes the relay has moved by now, to the server and to the client.
    pub(crate) fn note(&self, moved: [u64; 2]) {
        self.entry.moved.set(moved);
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let mut entries = self.roster.entries.borrow_mut();
        entries.relays[self.place] = None;
        entries.free.push(self.place);
    }
}
