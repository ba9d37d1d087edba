//! Limits on connections and flows, of the process and of each client.
//!
//! Shards share nothing, but one client's connections reach any of them, and a limit that each shard kept for itself would
//! be none that an operator can reckon with. So what is counted here is shared, for those who set the limit only: one
//! atomic for `--max-connections`, one lock a protocol for the limits of clients. They are touched when a connection or
//! flow begins or ends; bytes, and datagrams of a flow that is there, pass without.

mod count;
mod descriptors;
mod network;
mod places;
mod rate;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use self::count::ClientCounts;
pub(crate) use self::descriptors::{Descriptors, set_descriptors};
pub use self::network::ClientNetwork;
pub(crate) use self::places::{Place, Places};
pub use self::rate::ClientRates;
use crate::addr::ClientAddr;

/// The limits as configured. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// TCP connections of the process (`--max-connections`), from accept on.
    pub connections: Option<NonZeroU32>,
    /// TCP connections, and again UDP flows, of one client (`--max-connections-per-client`).
    pub connections_per_client: Option<NonZeroU32>,
    /// New TCP connections, and again UDP flows, of one client in a second (`--new-connections-per-second`).
    pub new_per_second: Option<NonZeroU32>,
}

/// The limits in force, for all shards.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) places: Places,
    pub(crate) tcp: ClientLimits,
    pub(crate) udp: ClientLimits,
}

/// The limits of each client over one protocol. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ClientLimits(Option<Arc<Mutex<Clients>>>);

#[derive(Debug)]
struct Clients {
    counts: Option<ClientCounts>,
    rates: Option<ClientRates>,
}

/// What a client's connection or flow is counted by, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<(Arc<Mutex<Clients>>, ClientNetwork)>);

/// Which of its limits a client has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("the client has {0} open already (--max-connections-per-client)")]
    Count(NonZeroU32),
    #[error("the client has begun {0} within a second (--new-connections-per-second)")]
    Rate(NonZeroU32),
}

// === impl Limits ===

impl Limits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        Self {
            places: Places::new(settings.connections),
            tcp: ClientLimits::new(settings),
            udp: ClientLimits::new(settings),
        }
    }
}

// === impl ClientLimits ===

impl ClientLimits {
    fn new(settings: LimitSettings) -> Self {
        let clients = Clients {
            counts: settings.connections_per_client.map(ClientCounts::new),
            rates: settings.new_per_second.map(ClientRates::new),
        };
        let any = clients.counts.is_some() || clients.rates.is_some();
        Self(any.then(|| Arc::new(Mutex::new(clients))))
    }

    /// Counts one more connection or flow of this client, if it may have one. One that may not counts for nothing: a
    /// client that keeps trying gets in as soon as one that does not.
    pub(crate) fn admit(&self, client: ClientAddr) -> Result<Permit, Exceeded> {
        let Some(clients) = &self.0 else {
            return Ok(Permit::unlimited());
        };
        let network = ClientNetwork::of(client.addr().ip());
        lock(clients).admit(network)?;
        Ok(Permit(Some((Arc::clone(clients), network))))
    }
}

/// Nothing in the tables is ever half done, even if a shard panicked.
fn lock(clients: &Mutex<Clients>) -> MutexGuard<'_, Clients> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Clients ===

impl Clients {
    fn admit(&mut self, network: ClientNetwork) -> Result<(), Exceeded> {
        if let Some(counts) = &self.counts
            && counts.is_full(network)
        {
            return Err(Exceeded::Count(counts.max()));
        }
        if let Some(rates) = &mut self.rates
            && !rates.take(network, Instant::now())
        {
            return Err(Exceeded::Rate(rates.per_second()));
        }
        if let Some(counts) = &mut self.counts {
            counts.add(network);
        }
        Ok(())
    }
}

// === impl Permit ===

impl Permit {
    /// For those that no limit is for.
    pub(crate) fn unlimited() -> Self {
        Self(None)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((clients, network)) = &self.0
            && let Some(counts) = &mut lock(clients).counts
        {
            counts.remove(*network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PeerAddr;

    fn client(source: &str) -> ClientAddr {
        let peer = PeerAddr::new("192.0.2.200:1".parse().expect("an address"));
        ClientAddr::believe(source.parse().expect("an address"), peer).expect("a client")
    }

    fn limits(per_client: u32, per_second: u32) -> ClientLimits {
        ClientLimits::new(LimitSettings {
            connections: None,
            connections_per_client: NonZeroU32::new(per_client),
            new_per_second: NonZeroU32::new(per_second),
        })
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let limits = limits(2, 0);
        let first = limits.admit(client("192.0.2.1:1"));
        let second = limits.admit(client("192.0.2.1:2"));
        assert!(first.is_ok() && second.is_ok());
        let refused = limits.clone().admit(client("192.0.2.1:3"));
        assert_eq!(
            refused.expect_err("full").to_string(),
            "the client has 2 open already (--max-connections-per-client)"
        );
        assert!(limits.admit(client("192.0.2.2:1")).is_ok());
        drop(first);
        assert!(limits.admit(client("192.0.2.1:3")).is_ok());
    }

    /// Trying at the limit of connections costs nothing of the rate.
    #[test]
    fn what_is_refused_for_its_number_does_not_count_for_the_rate() {
        let limits = limits(1, 2);
        let first = limits.admit(client("192.0.2.1:1"));
        for _ in 0..10 {
            let refused = limits.admit(client("192.0.2.1:2"));
            assert!(matches!(refused, Err(Exceeded::Count(_))), "{refused:?}");
        }
        drop(first);
        assert!(limits.admit(client("192.0.2.1:2")).is_ok());
    }

    #[test]
    fn without_limits_there_is_nothing_to_share() {
        assert!(limits(0, 0).0.is_none());
        assert!(limits(0, 0).admit(client("192.0.2.1:1")).is_ok());
    }
}
