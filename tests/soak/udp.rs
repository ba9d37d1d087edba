//! UDP: many clients behind a few sockets of balancers, each datagram of which is known by its number.

mod balancers;
mod message;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::balancers::balancers;
pub(crate) use self::server::Server;

/// How many clients there are, half of them of each family.
const CLIENTS: u32 = 200;

/// What has been sent and received, all clients together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By clients.
    pub(crate) asked: AtomicU64,
    /// By the server, of these.
    pub(crate) heard: AtomicU64,
    /// By the server.
    pub(crate) said: AtomicU64,
    /// By clients, of these.
    pub(crate) answered: AtomicU64,
    /// By which number those that have arrived are too few because the tests' own sockets had no room.
    pub(crate) lost_at_server: AtomicU64,
    pub(crate) lost_at_balancers: AtomicU64,
}

impl std::ops::Deref for Tally {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

/// Adds one.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
