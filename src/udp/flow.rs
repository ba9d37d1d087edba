//! The table of UDP flows. Pure: sockets are a type parameter, and time is passed in.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::addr::{ClientAddr, PeerAddr};

/// What tells a flow from others: its two ends as the server sees them. Through several frontends to one server, a client
/// has one flow, as the server cannot tell them apart either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Whom it belongs to.
    pub party: Party,
    /// The server.
    pub target: SocketAddr,
}

/// A frontend's place among those of its shard.
pub type FrontendId = u32;

/// Whom a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A client, however many sockets its balancers send from.
    Client(ClientAddr),
    /// No client (LOCAL): the peer itself, and where it wrote to.
    Peer(PeerAddr, FrontendId),
}

/// A flow's place in its table. It is used again once the flow is gone.
pub type FlowId = u32;

/// One flow: a client and the socket that speaks to the server in its name.
#[derive(Debug)]
pub struct Flow<S, K = FlowKey> {
    /// What tells it from others.
    pub key: K,
    /// The caller's part: the socket, and where replies go.
    pub state: S,
    last_active: Instant,
    rank: Rank,
    newer: Option<FlowId>,
    older: Option<FlowId>,
}

/// How much of a conversation a flow has been, which only grows. Where there is no room those of the lowest rank go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The server has not answered.
    #[default]
    Unanswered,
    /// The server has answered. So it may have answered a client that somebody made up, who will not hear of it.
    Answered,
    /// The client has spoken again since.
    Conversing,
}

/// Flows by key, with the orders in which they end, one for each rank: from the longest idle to the latest active. All
/// operations but growth take constant time.
#[derive(Debug)]
pub struct FlowTable<S, K = FlowKey> {
    ids: HashMap<K, FlowId>,
    flows: Vec<Option<Flow<S, K>>>,
    free: Vec<FlowId>,
    /// By rank, from the lowest on.
    orders: [Order; 3],
    flows_max: usize,
    idle_max: Duration,
}

#[derive(Debug, Default)]
struct Order {
    oldest: Option<FlowId>,
    newest: Option<FlowId>,
}

// === impl FlowKey ===

/// By hand, as it is done for every datagram: derived, it would hash which variants there are, too, and the lengths of
/// arrays, three times as many bytes.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.party {
            Party::Client(client) => hash_addr(client.addr(), state),
            Party::Peer(peer, frontend) => {
                hash_addr(peer.addr(), state);
                state.write_u32(frontend);
            }
        }
        hash_addr(self.target, state);
    }
}

fn hash_addr(addr: SocketAddr, state: &mut impl Hasher) {
    let port = u64::from(addr.port());
    match addr.ip() {
        IpAddr::V4(ip) => state.write_u64(u64::from(u32::from(ip)) << 16 | port),
        IpAddr::V6(ip) => {
            state.write_u128(u128::from(ip));
            state.write_u64(port);
        }
    }
}

// === impl Party ===

impl Party {
    /// The client, if the flow has one.
    pub fn client(self) -> Option<ClientAddr> {
        match self {
            Self::Client(client) => Some(client),
            Self::Peer(..) => None,
        }
    }
}

// === impl FlowTable ===

impl<S, K: Copy + Debug + Eq + Hash> FlowTable<S, K> {
    /// A table of at most `flows_max` flows (at least one), each of which ends after `idle_max` without a datagram
    /// either way.
    pub fn new(flows_max: usize, idle_max: Duration) -> Self {
        Self {
            ids: HashMap::new(),
            flows: Vec::new(),
            free: Vec::new(),
            orders: Default::default(),
            flows_max: flows_max.max(1),
            idle_max,
        }
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many places there are: every id is below. None is ever taken away.
    pub fn places(&self) -> FlowId {
        // As in `insert`.
        self.flows.len() as FlowId
    }

    /// The flow of a key.
    pub fn find(&self, key: &K) -> Option<FlowId> {
        self.ids.get(key).copied()
    }

    /// The flow of an id, if it is still there.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<S, K>> {
        self.flows.get_mut(id as usize)?.as_mut()
    }

    /// The flow of an id, if it is still there.
    pub fn get(&self, id: FlowId) -> Option<&Flow<S, K>> {
        self.flows.get(id as usize)?.as_ref()
    }

    /// All flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Flow<S, K>> {
        self.flows.iter().flatten()
    }

    /// Whether a flow has to go before another can come.
    pub fn is_full(&self) -> bool {
        self.len() >= self.flows_max
    }

    /// Takes out the flow that has to go first: the longest idle of those the server never answered, then of those whose
    /// client has not spoken since the answer, then of all. So a flood of made-up clients displaces itself and not the
    /// players, even if the server answers it.
    pub fn evict(&mut self) -> Option<Flow<S, K>> {
        let first = self.orders.iter().find_map(|order| order.oldest);
        self.remove(first?)
    }

    /// As [`FlowTable::evict`], but a client who has spoken since the server's answer only if it has been silent for so long.
    pub fn evict_unless_busy(&mut self, now: Instant, silent: Duration) -> Option<Flow<S, K>> {
        let first = self.orders.iter().find_map(|order| order.oldest)?;
        let is_busy = self.get(first).is_some_and(|flow| {
            flow.rank == Rank::Conversing
                && now.saturating_duration_since(flow.last_active) < silent
        });
        if is_busy {
            return None;
        }
        self.remove(first)
    }

    /// Adds a flow under a new key. `make` is given the id the flow will have.
    ///
    /// # Errors
    ///
    /// The error of `make`; the table is then unchanged.
    ///
    /// # Panics
    ///
    /// In debug builds, if the key is there already.
    pub fn insert<E>(
        &mut self,
        key: K,
        now: Instant,
        make: impl FnOnce(FlowId) -> Result<S, E>,
    ) -> Result<FlowId, E> {
        debug_assert!(!self.ids.contains_key(&key), "a second flow for {key:?}");
        // Descriptors run out long before ids do.
        let id = self
            .free
            .last()
            .copied()
            .unwrap_or(self.flows.len() as FlowId);
        let state = make(id)?;
        let flow = Flow {
            key,
            state,
            last_active: now,
            rank: Rank::default(),
            newer: None,
            older: None,
        };
        match self.free.pop() {
            Some(_) => self.flows[id as usize] = Some(flow),
            None => self.flows.push(Some(flow)),
        }
        self.ids.insert(key, id);
        self.link_newest(id);
        Ok(id)
    }

    /// Notes a datagram from the client.
    pub fn touch(&mut self, id: FlowId, now: Instant) {
        self.active(id, now, |rank| match rank {
            Rank::Unanswered => Rank::Unanswered,
            Rank::Answered | Rank::Conversing => Rank::Conversing,
        });
    }

    /// Notes a datagram from the server.
    pub fn answer(&mut self, id: FlowId, now: Instant) {
        self.active(id, now, |rank| rank.max(Rank::Answered));
    }

    /// Takes out one flow that has been idle for too long, if there is one.
    pub fn expire(&mut self, now: Instant) -> Option<Flow<S, K>> {
        let mut oldest = self.orders.iter().filter_map(|order| order.oldest);
        let id = oldest.find(|&id| self.ends(id).is_some_and(|ends| ends <= now))?;
        self.remove(id)
    }

    /// When the next flow ends unless a datagram comes; None without flows.
    pub fn next_expiry(&self) -> Option<Instant> {
        let oldest = self.orders.iter().filter_map(|order| order.oldest);
        oldest.filter_map(|id| self.ends(id)).min()
    }

    /// Takes out a flow.
    pub fn remove(&mut self, id: FlowId) -> Option<Flow<S, K>> {
        self.get(id)?;
        self.unlink(id);
        let flow = self.flows[id as usize].take()?;
        self.ids.remove(&flow.key);
        self.free.push(id);
        Some(flow)
    }

    fn ends(&self, id: FlowId) -> Option<Instant> {
        Some(self.get(id)?.last_active + self.idle_max)
    }

    fn active(&mut self, id: FlowId, now: Instant, promote: impl FnOnce(Rank) -> Rank) {
        let Some(flow) = self.get(id) else { return };
        let rank = promote(flow.rank);
        let already_newest = flow.newer.is_none() && flow.rank == rank;
        if !already_newest {
            self.unlink(id);
        }
        if let Some(flow) = self.get_mut(id) {
            flow.last_active = now;
            flow.rank = rank;
        }
        if !already_newest {
            self.link_newest(id);
        }
    }

    fn link_newest(&mut self, id: FlowId) {
        let Some(rank) = self.get(id).map(|flow| flow.rank) else {
            return;
        };
        let previous = self.order(rank).newest.replace(id);
        if previous.is_none() {
            self.order(rank).oldest = Some(id);
        }
        if let Some(flow) = previous.and_then(|previous| self.get_mut(previous)) {
            flow.newer = Some(id);
        }
        if let Some(flow) = self.get_mut(id) {
            flow.older = previous;
            flow.newer = None;
        }
    }

    fn unlink(&mut self, id: FlowId) {
        let Some(flow) = self.get(id) else { return };
        let (rank, older, newer) = (flow.rank, flow.older, flow.newer);
        match older.and_then(|older| self.get_mut(older)) {
            Some(flow) => flow.newer = newer,
            None => self.order(rank).oldest = newer,
        }
        match newer.and_then(|newer| self.get_mut(newer)) {
            Some(flow) => flow.older = older,
            None => self.order(rank).newest = older,
        }
    }

    fn order(&mut self, rank: Rank) -> &mut Order {
        &mut self.orders[rank as usize]
    }
}
