//! Operations on whom peers are bound to (`--udp-header v2-first`), beside a list of bindings that does the same the
//! simplest way. What holds:
//!
//! - The same peers speak for the same clients. A peer whose latest header was refused speaks for nobody.
//! - Binding tells whether that is news, and whom the peer spoke for before, if it was somebody else.
//! - A header that says it is from this host is believed unless its peer has spoken for a client, or for nobody knows whom.
//! - The one that has to go first is the same: the longest idle of those without a reply, then the longest idle of all.
//! - A binding ends exactly when its idle time is over, and the next end is the soonest of all.
//! - Frontends share nothing: the end of one leaves the bindings of others.

#![cfg_attr(not(test), no_main)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use glommproxy::addr::{ClientAddr, PeerAddr};
use glommproxy::udp::binding::{Bindings, Downstream, Session};
use glommproxy::udp::flow::Party;

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

const IDLE_MAX: Duration = Duration::from_secs(60);
const BINDINGS_MAX: u8 = 8;
/// More places that datagrams come from than the largest table has.
const PLACES: u8 = 12;
const FRONTENDS: u32 = 3;
const SESSIONS: u8 = 6;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A header of a peer, for a client.
    Bind(u8, u8),
    /// A header of a peer that is refused.
    Unbind(u8),
    /// A datagram without a header.
    Find(u8),
    /// A reply.
    Answer(u8),
    /// A header that may be believed or not.
    MayBind(u8, u8),
    /// The end of a frontend.
    Forget(u8),
    ExpireOne,
    ExpireAll,
    WaitSeconds(u8),
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    from: Downstream,
    to: Option<Session>,
    last_active: Instant,
    /// 0: never answered; 1: answered; 2: the peer has spoken since.
    rank: u8,
}

/// The bindings, and what should be in them, from the longest idle to the latest active.
struct Pair {
    bindings: Bindings,
    listed: Vec<Listed>,
    bindings_max: usize,
    now: Instant,
}

pub(crate) fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(bindings_max) = input.int_in_range(0..=BINDINGS_MAX) else {
        return;
    };
    let mut pair = Pair {
        bindings: Bindings::new(bindings_max.into(), IDLE_MAX),
        listed: Vec::new(),
        bindings_max: usize::from(bindings_max.max(1)),
        now: Instant::now(),
    };
    while !input.is_empty() {
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        pair.take(&step);
        let ends = pair.listed.iter().map(|binding| binding.ends());
        assert_eq!(pair.bindings.next_expiry(), ends.min());
    }
    for n in 0..PLACES {
        pair.find(place(n));
    }
}

/// One place of many that datagrams come from.
fn place(n: u8) -> Downstream {
    let n = n % PLACES;
    let port = 1000 + u16::from(n / 3);
    Downstream {
        peer: PeerAddr::new(SocketAddr::from(([192, 0, 2, 1], port))),
        frontend: u32::from(n) % FRONTENDS,
    }
}

/// One of several that a header may name: clients, one of them on this host, and the peer itself (LOCAL).
fn session(n: u8, from: Downstream) -> Session {
    let n = n % SESSIONS;
    if n == 0 {
        return Session {
            party: Party::Peer(from.peer, from.frontend),
            destination: None,
        };
    }
    let ip = if n == 1 {
        [127, 0, 0, 1]
    } else {
        [203, 0, 113, n / 2]
    };
    let on_this_host = PeerAddr::new(SocketAddr::from(([127, 0, 0, 1], 1)));
    let client = ClientAddr::believe(SocketAddr::from((ip, 4000)), on_this_host);
    Session {
        party: Party::Client(client.expect("a client's address")),
        // The same client may ask for another server.
        destination: Some(SocketAddr::from(([198, 51, 100, 1], u16::from(n)))),
    }
}

fn is_this_host(session: Session) -> bool {
    let client = session.party.client();
    client.is_none_or(|client| client.addr().ip().is_loopback())
}

// === impl Listed ===

impl Listed {
    fn ends(&self) -> Instant {
        self.last_active + IDLE_MAX
    }
}

// === impl Pair ===

impl Pair {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Bind(n, to) => {
                let from = place(n);
                let to = session(to, from);
                let change = self.bindings.bind(from, to, self.now);
                let (is_new, former) = self.set(from, Some(to));
                assert_eq!((change.is_new, change.former), (is_new, former));
            }
            Step::Unbind(n) => {
                let from = place(n);
                let former = self.bindings.unbind(from, self.now);
                let expected = self.at(from).and_then(|_| self.set(from, None).1);
                assert_eq!(former, expected);
            }
            Step::Find(n) => self.find(place(n)),
            Step::Answer(n) => {
                let from = place(n);
                self.bindings.answer(from, self.now);
                self.active(from, true);
            }
            Step::MayBind(n, to) => {
                let from = place(n);
                let to = session(to, from);
                let listed = self.at(from).map(|at| self.listed[at].to);
                let spoke_for_host = listed.is_none_or(|to| to.is_some_and(is_this_host));
                let may = self.bindings.may_bind(from, to);
                assert_eq!(may, !is_this_host(to) || spoke_for_host);
            }
            Step::Forget(frontend) => {
                let frontend = u32::from(frontend) % FRONTENDS;
                self.bindings.forget(frontend);
                self.listed
                    .retain(|binding| binding.from.frontend != frontend);
            }
            Step::ExpireOne => {
                self.expire();
            }
            Step::ExpireAll => {
                while self.expire() {}
                let mut left = self.listed.iter();
                assert!(left.all(|binding| binding.ends() > self.now));
            }
            Step::WaitSeconds(seconds) => self.now += Duration::from_secs(seconds.into()),
        }
    }

    fn at(&self, from: Downstream) -> Option<usize> {
        self.listed.iter().position(|binding| binding.from == from)
    }

    fn find(&mut self, from: Downstream) {
        let found = self.bindings.find(from, self.now);
        let listed = self.active(from, false);
        assert_eq!(found, listed.and_then(|binding| binding.to));
    }

    fn active(&mut self, from: Downstream, answered: bool) -> Option<Listed> {
        let mut binding = self.listed.remove(self.at(from)?);
        binding.last_active = self.now;
        binding.rank = match (binding.rank, answered) {
            (0, true) => 1,
            (1, false) => 2,
            (rank, _) => rank,
        };
        self.listed.push(binding);
        Some(binding)
    }

    /// Binds a peer to somebody, or to nobody: whether that is news, and whom it spoke for if it was somebody else.
    fn set(&mut self, from: Downstream, to: Option<Session>) -> (bool, Option<Session>) {
        let mut former = None;
        if let Some(at) = self.at(from) {
            if self.listed[at].to == to {
                self.active(from, false);
                return (false, None);
            }
            former = self.listed.remove(at).to;
        }
        if self.listed.len() == self.bindings_max {
            let ranks = self.listed.iter().map(|binding| binding.rank);
            let lowest = ranks.clone().min();
            let oldest = ranks.into_iter().position(|rank| Some(rank) == lowest);
            self.listed.remove(oldest.unwrap_or(0));
        }
        self.listed.push(Listed {
            from,
            to,
            last_active: self.now,
            rank: 0,
        });
        (true, former)
    }

    /// Ends one binding that is idle for too long; whether there was one. Of the longest idle with a reply and without, the
    /// latter goes first.
    fn expire(&mut self) -> bool {
        let is_over = |binding: &Listed| binding.ends() <= self.now;
        let first = |rank: u8| {
            let mut of_order = self.listed.iter().enumerate();
            let oldest = of_order.find(|(_, binding)| binding.rank == rank);
            oldest
                .filter(|(_, binding)| is_over(binding))
                .map(|(at, _)| at)
        };
        let expected = (0..3).find_map(first);
        assert_eq!(self.bindings.expire(self.now), expected.is_some());
        if let Some(at) = expected {
            self.listed.remove(at);
        }
        expected.is_some()
    }
}
