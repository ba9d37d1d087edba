//! The TCP relays of a shard that may have to end although neither side ends them: because their client is denied by a
//! new list, or because they are idle. A shard without either keeps no roster.
//!
//! A relay neither looks at the clock nor has a timer. It notes how many bytes it has moved, and two tasks go round all
//! relays, some at a time: one when the list changes, one now and then, which takes the time of those that have moved
//! nothing since it came by last.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use tracing::info;

use super::lists::Lists;
use super::readiness::Readiness;
use crate::addr::ClientAddr;

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
    /// Bytes moved so far, both ways.
    moved: Cell<u64>,
    /// What [`Entry::moved`] was at the last round, and since when.
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
}

// === impl Roster ===

impl Roster {
    /// The roster of a shard, with the tasks that go round it; None if nothing ends relays. Must be called on an executor.
    pub(crate) fn start(
        lists: &Rc<Lists>,
        idle_max: Option<Duration>,
        readiness: &Readiness,
        listener: usize,
    ) -> Option<Rc<Self>> {
        if !lists.ends_denied() && idle_max.is_none() {
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
            moved: Cell::new(0),
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
            Timer::new(round).await;
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
        match self.idle.get() {
            Some((moved, since)) if moved == self.moved.get() => now - since >= idle_max,
            _ => {
                self.idle.set(Some((self.moved.get(), now)));
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

    /// Notes how many bytes the relay has moved by now.
    pub(crate) fn note(&self, moved: u64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PeerAddr;
    use crate::shard::lists::InitialLists;
    use crate::subnets::SubnetSet;
    use std::sync::Arc;

    const IDLE: Duration = Duration::from_secs(60);

    fn client(n: u8) -> Option<ClientAddr> {
        let peer = PeerAddr::new(([198, 51, 100, 1], 1).into());
        ClientAddr::believe(([192, 0, 2, n], 1).into(), peer).ok()
    }

    fn roster(denied: &str) -> Rc<Roster> {
        let denied = SubnetSet::parse(denied).expect("a list");
        let lists = InitialLists {
            denied: Some(Arc::new(denied)),
            ..InitialLists::default()
        };
        let lists = Lists::new(lists, false);
        Rc::new(Roster::new(Rc::new(lists)))
    }

    fn ended(leash: &Leash) -> Option<Ended> {
        leash.pulled(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_round_ends_whom_it_is_to_end_and_in_turns() {
        let roster = roster("");
        let leashes: Vec<_> = (0..2500u32)
            .map(|n| roster.enter(client(n as u8)))
            .collect();
        let of_7 = |entry: &Entry| (entry.client == client(7)).then_some(Ended::Denied);
        let turn = |place| roster.look_at_some(place, of_7);
        let of = |ended, next| Turn { ended, next };
        assert_eq!(turn(0), of(4, Some(1024)));
        assert_eq!(turn(1024), of(4, Some(2048)));
        assert_eq!(turn(2048), of(2, None));
        // Who has been told is told once.
        assert_eq!(turn(0), of(0, Some(1024)));
        for (n, leash) in leashes.iter().enumerate() {
            let want = (n % 256 == 7).then_some(Ended::Denied);
            assert_eq!(ended(leash), want, "{n}");
        }
    }

    #[test]
    fn a_turn_ends_no_more_than_it_may_and_the_next_goes_on_there() {
        let roster = roster("");
        let leashes: Vec<_> = (0..150).map(|_| roster.enter(client(1))).collect();
        let all = |_: &Entry| Some(Ended::Denied);
        let of = |ended, next| Turn { ended, next };
        assert_eq!(roster.look_at_some(0, all), of(64, Some(64)));
        assert_eq!(roster.look_at_some(64, all), of(64, Some(128)));
        // Some are gone by now.
        drop(leashes);
        assert_eq!(roster.look_at_some(128, all), of(0, None));
        assert_eq!(roster.look_at_some(500, all), of(0, None));
    }

    #[test]
    fn places_are_used_again() {
        let roster = roster("");
        let first = roster.enter(client(1));
        let second = roster.enter(client(2));
        drop(first);
        let third = roster.enter(client(3));
        assert_eq!((second.place, third.place), (1, 0));
        assert_eq!(roster.entries.borrow().relays.len(), 2);
    }

    #[test]
    fn who_is_denied_while_the_server_is_dialled_ends_at_once() {
        let roster = roster("192.0.2.1");
        assert_eq!(ended(&roster.enter(client(1))), Some(Ended::Denied));
        assert_eq!(ended(&roster.enter(client(2))), None);
        assert_eq!(ended(&roster.enter(None)), None);
    }

    #[test]
    fn a_relay_is_idle_after_its_time_and_never_before() {
        let roster = roster("");
        let leash = roster.enter(client(1));
        let start = Instant::now();
        let idle_at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            leash.entry.is_idle(now, IDLE)
        };
        assert!(!idle_at(0));
        assert!(!idle_at(59));
        leash.note(1);
        assert!(!idle_at(60));
        assert!(!idle_at(119));
        assert!(idle_at(120));
        // It may have been the very moment before.
        leash.note(2);
        assert!(!idle_at(500));
        assert!(!idle_at(559));
        assert!(idle_at(560));
    }
}
