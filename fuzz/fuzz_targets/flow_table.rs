//! Operations on the table of UDP flows, beside a list of flows that does the same the simplest way. What holds:
//!
//! - The same flows are there, found by key and by id, and as many as the table says; ids are below its places.
//! - The one that has to go first is the same: the longest idle of the never answered, then the longest idle of all.
//! - A flow ends exactly when its idle time is over, and the next end is the soonest of all.
//! - An insertion that fails changes nothing. What concerns a flow that is gone changes nothing.

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

#[derive(Debug, Arbitrary)]
enum Step {
    /// A datagram of a client that may have a flow, and may need one.
    FromClient(u8),
    /// The same, but the socket of a new flow cannot be had.
    FromClientInVain(u8),
    /// A datagram of the server.
    FromServer(u8),
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

/// What the list knows of a flow; the table keeps `serial`.
#[derive(Clone, Copy, Debug)]
struct Listed {
    key: FlowKey,
    id: FlowId,
    serial: u32,
    last_active: Instant,
    answered: bool,
}

/// The table, and the flows that should be in it, from the longest idle to the latest active.
struct Pair {
    table: FlowTable<u32>,
    listed: Vec<Listed>,
    flows_max: usize,
    now: Instant,
    serial: u32,
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
    };
    while !input.is_empty() {
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        pair.take(&step);
        pair.compare_sums();
    }
    pair.compare_flows();
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
            Step::FromClient(n) => self.datagram(key(n)),
            Step::FromClientInVain(n) => self.datagram_in_vain(key(n)),
            Step::FromServer(n) => {
                if let Some(id) = self.table.find(&key(n)) {
                    self.table.answer(id, self.now);
                }
                self.list_active(|flow| flow.key == key(n), true);
            }
            Step::Remove(n) => {
                let removed = self
                    .table
                    .find(&key(n))
                    .and_then(|id| self.table.remove(id));
                let at = self.listed.iter().position(|flow| flow.key == key(n));
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

    fn datagram(&mut self, key: FlowKey) {
        if let Some(id) = self.table.find(&key) {
            self.table.touch(id, self.now);
            self.list_active(|flow| flow.key == key, false);
            return;
        }

        if self.table.is_full() {
            self.evict();
        }
        self.serial += 1;
        let serial = self.serial;
        let mut promised = None;
        let inserted = self.table.insert(key, self.now, |id| {
            promised = Some(id);
            Ok::<_, ()>(serial)
        });
        let id = inserted.expect("it does not fail");
        assert_eq!(promised, Some(id));
        assert!(self.listed.iter().all(|flow| flow.id != id), "a free id");
        self.listed.push(Listed {
            key,
            id,
            serial,
            last_active: self.now,
            answered: false,
        });
    }

    fn datagram_in_vain(&mut self, key: FlowKey) {
        if self.table.find(&key).is_none() && !self.table.is_full() {
            let inserted = self.table.insert(key, self.now, |_| Err("no socket"));
            assert_eq!(inserted, Err("no socket"));
        }
    }

    fn list_active(&mut self, is_meant: impl Fn(&Listed) -> bool, answered: bool) {
        if let Some(at) = self.listed.iter().position(is_meant) {
            let mut flow = self.listed.remove(at);
            flow.last_active = self.now;
            flow.answered |= answered;
            self.listed.push(flow);
        }
    }

    fn evict(&mut self) {
        let unanswered = self.listed.iter().position(|flow| !flow.answered);
        let first = unanswered.or((!self.listed.is_empty()).then_some(0));
        let evicted = self.table.evict();
        self.gone(evicted, first);
    }

    /// Takes out one flow that is idle for too long; whether there was one. Which of them is first is left open.
    fn expire(&mut self) -> bool {
        let is_over = |flow: &Listed| flow.last_active + IDLE_MAX <= self.now;
        let any_over = self.listed.iter().any(is_over);
        let expired = self.table.expire(self.now);
        assert_eq!(expired.is_some(), any_over);
        let serial = expired.as_ref().map(|flow| flow.state);
        let at = self
            .listed
            .iter()
            .position(|flow| Some(flow.serial) == serial);
        assert!(at.is_none_or(|at| is_over(&self.listed[at])));
        self.gone(expired, at);
        any_over
    }

    /// Compares what was taken out of the table with the one at this place of the list, and takes it out there.
    fn gone(&mut self, taken: Option<Flow<u32>>, at: Option<usize>) {
        let listed = at.map(|at| self.listed.remove(at));
        assert_eq!(
            taken.map(|flow| (flow.key, flow.state)),
            listed.map(|flow| (flow.key, flow.serial))
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
            assert_eq!(there, Some((flow.key, flow.serial)));
        }
        let len = self.listed.len();
        let ids = 0..self.table.places();
        assert_eq!(ids.filter(|&id| self.table.get(id).is_some()).count(), len);
        let found = (0..KEYS).filter(|&n| self.table.find(&key(n)).is_some());
        assert_eq!(found.count(), len);
    }
}
