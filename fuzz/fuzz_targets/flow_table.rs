//! Operations on the table of UDP flows, beside a list of flows that does the same the simplest way. What holds:
//!
//! - The same flows are there, found by key and by id, and as many as the table says; ids are below its places.
//! - The one that has to go first is the same: the longest idle of the never answered, then of those whose client
//!   has not spoken since, then of all.
//! - A flow ends exactly when its idle time is over, and the next end is the soonest of all.
//! - An insertion that fails changes nothing. What concerns a flow that is gone changes nothing.
//! - Replies go to the peer that spoke last for their client, and a flow that ends when its peer speaks for somebody else
//!   ends only if that is the one.
//! - A walk that ends the flows of denied clients, some places at a time and with all else going on in between, leaves none
//!   of them.

#![cfg_attr(not(test), no_main)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use glommproxy::addr::{ClientAddr, PeerAddr};
use glommproxy::udp::flow::{Flow, FlowId, FlowKey, FlowTable, Party};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

const IDLE_MAX: Duration = Duration::from_secs(60);
/// More keys than the largest table has flows.
const KEYS: u8 = 24;
const FLOWS_MAX: u8 = 12;
/// Peers that clients come through.
const PEERS: u8 = 4;
/// Places that a walk looks at before others get a turn.
const LOOKS_MAX: FlowId = 3;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A datagram of a client that may have a flow, and may need one, through a peer.
    FromClient(u8, u8),
    /// The same, but the socket of a new flow cannot be had.
    FromClientInVain(u8),
    /// A datagram of the server.
    FromServer(u8),
    /// A peer that spoke for a client speaks for another from now on.
    Displace(u8, u8),
    /// A new list, by client: those whose bits are set are denied.
    Reload(u8),
    /// Some of the walk that the latest list began.
    Walk,
    Remove(u8),
    /// News of an id that may be gone.
    TouchId(u8),
    AnswerId(u8),
    RemoveId(u8),
    Evict,
    ExpireOne,
    ExpireAll,
    WaitSeconds(u8),
}

/// What the table keeps for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Which flow it is of all there have been.
    serial: u32,
    /// The peer that spoke last.
    peer: u8,
}

/// What the list knows of a flow.
#[derive(Clone, Copy, Debug)]
struct Listed {
    key: FlowKey,
    id: FlowId,
    state: State,
    last_active: Instant,
    /// 0: never answered; 1: answered; 2: the client has spoken since.
    rank: u8,
}

/// The table, and the flows that should be in it, from the longest idle to the latest active.
struct Pair {
    table: FlowTable<State>,
    listed: Vec<Listed>,
    flows_max: usize,
    now: Instant,
    serial: u32,
    /// Clients' bits.
    denied: u8,
    /// Where the walk goes on, if there is one.
    walk: Option<FlowId>,
}

pub(crate) fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(flows_max) = input.int_in_range(0..=FLOWS_MAX) else {
        return;
    };
    let mut pair = Pair {
        table: FlowTable::new(flows_max.into(), IDLE_MAX),
        listed: Vec::new(),
        flows_max: usize::from(flows_max.max(1)),
        now: Instant::now(),
        serial: 0,
        denied: 0,
        walk: None,
    };
    while !input.is_empty() {
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        pair.take(&step);
        pair.compare_sums();
    }
    pair.compare_flows();

    while pair.walk.is_some() {
        pair.walk();
    }
    let mut flows = pair.table.iter();
    assert!(flows.all(|flow| !is_denied(pair.denied, flow.key)));
}

/// A client's bit is that of its port.
fn is_denied(denied: u8, key: FlowKey) -> bool {
    let client = key.party.client();
    client.is_some_and(|client| denied >> (client.addr().port() % 8) & 1 == 1)
}

/// One key of many: clients and peers, the same address for both, and two servers.
fn key(n: u8) -> FlowKey {
    let n = n % KEYS;
    let addr = SocketAddr::from(([192, 0, 2, 1], 1000 + u16::from(n / 6)));
    let peer = PeerAddr::new(addr);
    let party = match n % 3 {
        0 => Party::Client(ClientAddr::believe(addr, peer).expect("a client's address")),
        1 => Party::Peer(peer, 0),
        _ => Party::Peer(peer, 1),
    };
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 443 + u16::from(n / 3 % 2)));
    FlowKey { party, target }
}

// === impl Pair ===

impl Pair {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::FromClient(n, peer) => self.datagram(key(n), peer % PEERS),
            Step::FromClientInVain(n) => self.datagram_in_vain(key(n)),
            Step::FromServer(n) => self.reply(key(n)),
            Step::Displace(n, peer) => self.displace(key(n), peer % PEERS),
            Step::Reload(denied) => {
                self.denied = denied;
                self.walk = Some(0);
            }
            Step::Walk => self.walk(),
            Step::Remove(n) => {
                let key = key(n);
                let removed = self.table.find(&key).and_then(|id| self.table.remove(id));
                let at = self.listed.iter().position(|flow| flow.key == key);
                self.gone(removed, at);
            }
            Step::TouchId(id) => {
                self.table.touch(id.into(), self.now);
                self.list_active(|flow| flow.id == FlowId::from(id), false);
            }
            Step::AnswerId(id) => {
                self.table.answer(id.into(), self.now);
                self.list_active(|flow| flow.id == FlowId::from(id), true);
            }
            Step::RemoveId(id) => {
                let removed = self.table.remove(id.into());
                let at = self
                    .listed
                    .iter()
                    .position(|flow| flow.id == FlowId::from(id));
                self.gone(removed, at);
            }
            Step::Evict => self.evict(),
            Step::ExpireOne => {
                self.expire();
            }
            Step::ExpireAll => while self.expire() {},
            Step::WaitSeconds(seconds) => self.now += Duration::from_secs(seconds.into()),
        }
    }

    fn datagram(&mut self, key: FlowKey, peer: u8) {
        if let Some(id) = self.table.find(&key) {
            self.table.touch(id, self.now);
            self.list_active(|flow| flow.key == key, false);
            if let Some(flow) = self.table.get_mut(id) {
                flow.state.peer = peer;
            }
            if let Some(flow) = self.listed.last_mut() {
                flow.state.peer = peer;
            }
            return;
        }

        if is_denied(self.denied, key) {
            return;
        }
        if self.table.is_full() {
            self.evict();
        }
        self.serial += 1;
        let state = State {
            serial: self.serial,
            peer,
        };
        let mut promised = None;
        let inserted = self.table.insert(key, self.now, |id| {
            promised = Some(id);
            Ok::<_, ()>(state)
        });
        let id = inserted.expect("it does not fail");
        assert_eq!(promised, Some(id));
        assert!(self.listed.iter().all(|flow| flow.id != id), "a free id");
        self.listed.push(Listed {
            key,
            id,
            state,
            last_active: self.now,
            rank: 0,
        });
    }

    fn datagram_in_vain(&mut self, key: FlowKey) {
        if self.table.find(&key).is_none() && !self.table.is_full() {
            let inserted = self.table.insert(key, self.now, |_| Err("no socket"));
            assert_eq!(inserted, Err("no socket"));
        }
    }

    fn reply(&mut self, key: FlowKey) {
        let found = self.table.find(&key);
        if let Some(id) = found {
            self.table.answer(id, self.now);
        }
        let listed = self.list_active(|flow| flow.key == key, true);
        let found = found.and_then(|id| self.table.get(id));
        assert_eq!(found.map(|flow| flow.state), listed.map(|flow| flow.state));
    }

    fn list_active(
        &mut self,
        is_meant: impl Fn(&Listed) -> bool,
        answered: bool,
    ) -> Option<Listed> {
        let at = self.listed.iter().position(is_meant)?;
        let mut flow = self.listed.remove(at);
        flow.last_active = self.now;
        flow.rank = match (flow.rank, answered) {
            (0, true) => 1,
            (1, false) => 2,
            (rank, _) => rank,
        };
        self.listed.push(flow);
        Some(flow)
    }

    fn displace(&mut self, key: FlowKey, peer: u8) {
        let found = self.table.find(&key);
        let is_its = |&id: &FlowId| {
            self.table
                .get(id)
                .is_some_and(|flow| flow.state.peer == peer)
        };
        let removed = found.filter(is_its).and_then(|id| self.table.remove(id));
        let is_meant = |flow: &Listed| flow.key == key && flow.state.peer == peer;
        let at = self.listed.iter().position(is_meant);
        self.gone(removed, at);
    }

    /// Goes on through the places, and ends the flows of denied clients there.
    fn walk(&mut self) {
        let Some(first) = self.walk else { return };
        let behind = self.table.places().min(first + LOOKS_MAX);
        for id in first..behind {
            let key = self.table.get(id).map(|flow| flow.key);
            if key.is_some_and(|key| is_denied(self.denied, key)) {
                let removed = self.table.remove(id);
                let at = self.listed.iter().position(|flow| flow.id == id);
                self.gone(removed, at);
            }
        }
        self.walk = (behind < self.table.places()).then_some(behind);
    }

    fn evict(&mut self) {
        let lowest = self.listed.iter().map(|flow| flow.rank).min();
        let first = self
            .listed
            .iter()
            .position(|flow| Some(flow.rank) == lowest);
        let evicted = self.table.evict();
        self.gone(evicted, first);
    }

    /// Takes out one flow that is idle for too long; whether there was one. Which of them is first is left open.
    fn expire(&mut self) -> bool {
        let is_over = |flow: &Listed| flow.last_active + IDLE_MAX <= self.now;
        let any_over = self.listed.iter().any(is_over);
        let expired = self.table.expire(self.now);
        assert_eq!(expired.is_some(), any_over);
        let state = expired.as_ref().map(|flow| flow.state);
        let at = self
            .listed
            .iter()
            .position(|flow| Some(flow.state) == state);
        assert!(at.is_none_or(|at| is_over(&self.listed[at])));
        self.gone(expired, at);
        any_over
    }

    /// Compares what was taken out of the table with the one at this place of the list, and takes it out there.
    fn gone(&mut self, taken: Option<Flow<State>>, at: Option<usize>) {
        let listed = at.map(|at| self.listed.remove(at));
        assert_eq!(
            taken.map(|flow| (flow.key, flow.state)),
            listed.map(|flow| (flow.key, flow.state))
        );
    }

    /// What is compared after each step.
    fn compare_sums(&self) {
        let len = self.listed.len();
        assert_eq!((self.table.len(), self.table.is_empty()), (len, len == 0));
        assert_eq!(self.table.is_full(), len >= self.flows_max);
        let ends = self.listed.iter().map(|flow| flow.last_active + IDLE_MAX);
        assert_eq!(self.table.next_expiry(), ends.min());
    }

    /// What is compared after the last step, as it takes its time.
    fn compare_flows(&self) {
        for flow in &self.listed {
            assert!(flow.id < self.table.places());
            assert_eq!(self.table.find(&flow.key), Some(flow.id));
            let there = self.table.get(flow.id);
            let there = there.map(|flow| (flow.key, flow.state));
            assert_eq!(there, Some((flow.key, flow.state)));
        }
        let len = self.listed.len();
        let ids = 0..self.table.places();
        assert_eq!(ids.filter(|&id| self.table.get(id).is_some()).count(), len);
        let found = (0..KEYS).filter(|&n| self.table.find(&key(n)).is_some());
        assert_eq!(found.count(), len);
    }
}
