//! Counters. Each shard has its own, which it alone writes; anybody may read them at any time.

mod clients;
mod header_errors;
mod histogram;
mod list;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::clients::{Tally, Traffic};
pub use self::header_errors::HeaderErrorKinds;
pub use self::histogram::{DialScale, Distribution, Histogram, Scale, SessionScale};
pub use self::list::ListMetrics;

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// What one shard has counted. Aligned to two cache lines (CPUs fetch them in pairs), so that shards do not slow each
/// other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    /// TCP connections.
    pub tcp: TcpMetrics,
    /// UDP datagrams and flows.
    pub udp: UdpMetrics,
    /// Nanoseconds in which the shard did not sleep.
    pub busy_nanos: Counter,
}

/// Clients that got no connection, or no flow, though their balancer is in the allow list.
#[derive(Debug, Default)]
pub struct RefusedClients {
    /// The client is in the deny list.
    pub denied: Counter,
    /// The client has as many open as it may (`--max-connections-per-client`).
    pub over_count: Counter,
    /// The client begins more of them than it may (`--new-connections-per-second`).
    pub over_rate: Counter,
}

/// TCP connections of one shard.
#[derive(Debug, Default)]
pub struct TcpMetrics {
    /// Accepted, from allowed peers.
    pub accepted: Counter,
    /// Ended, for whatever reason.
    pub closed: Counter,
    /// Not accepted: the peer is not in the allow list.
    pub peers_refused: Counter,
    /// Ended for lack of a good header: malformed, too late, or none.
    pub header_errors: Counter,
    /// The same by kind.
    pub header_error_kinds: HeaderErrorKinds,
    /// Ended because the header told an address that no client can have.
    pub sources_refused: Counter,
    /// Ended because the header named a destination that is not allowed.
    pub destinations_refused: Counter,
    /// Ended because the client may not have one.
    pub refused: RefusedClients,
    /// Ended because there was no connection to the server.
    pub dial_errors: Counter,
    /// Ended by a panic: a bug.
    pub panics: Counter,
    /// Relays ended because a new list denies their client.
    pub ended_denied: Counter,
    /// Relays ended because nothing passed for `--idle-timeout`.
    pub ended_idle: Counter,
    /// Relays that the end of the process ended. Those that it did not wait for are just not closed.
    pub ended_cut: Counter,
    /// Times that accepting paused because `--max-connections` was reached, and connections waited.
    pub full_pauses: Counter,
    /// Connections to the server from the client's address, but not its port.
    pub ports_replaced: Counter,
    /// Times that accepting paused for lack of descriptors or memory.
    pub accept_pauses: Counter,
    /// Bytes from clients to servers.
    pub bytes_upstream: Counter,
    /// Bytes from servers to clients.
    pub bytes_downstream: Counter,
    /// How long servers took to accept.
    pub dial_times: Histogram<DialScale>,
    /// How long connections lasted, from accept on.
    pub durations: Histogram<SessionScale>,
}

/// UDP datagrams and flows of one shard.
#[derive(Debug, Default)]
pub struct UdpMetrics {
    /// Datagrams from clients, handed to the kernel for the server.
    pub datagrams_upstream: Counter,
    /// Datagrams from servers, handed to the kernel for the balancer.
    pub datagrams_downstream: Counter,
    /// Payload bytes from clients to servers.
    pub bytes_upstream: Counter,
    /// Payload bytes from servers to clients.
    pub bytes_downstream: Counter,
    /// Dropped: the peer is not in the allow list.
    pub peers_refused: Counter,
    /// Dropped for lack of a good header.
    pub header_errors: Counter,
    /// Dropped because they had no header, and their peer was bound to no client (`--udp-header v2-first`).
    pub unbound: Counter,
    /// The same by kind.
    pub header_error_kinds: HeaderErrorKinds,
    /// Dropped because the header told an address that no client can have.
    pub sources_refused: Counter,
    /// Dropped because the header named a destination that is not allowed.
    pub destinations_refused: Counter,
    /// Dropped because the client may not have a flow.
    pub refused: RefusedClients,
    /// Dropped because the process drains, and their client had no flow.
    pub refused_draining: Counter,
    /// Dropped because more came than could be served, and their client had no flow.
    pub refused_overload: Counter,
    /// Lost because a listener's receive buffer was full, or too much waited for a shard that another had received. A piece of
    /// several that would have been received whole counts for one in a full buffer, here and below.
    pub lost_upstream: Counter,
    /// Lost because the receive buffer of a flow's socket was full.
    pub lost_downstream: Counter,
    /// Flows ended because a new list denies their client.
    pub ended_denied: Counter,
    /// Flows that the end of the process ended. Those that it did not wait for are just not closed.
    pub ended_cut: Counter,
    /// Panics while a datagram or flow was at work, which ended it: bugs.
    pub panics: Counter,
    /// Dropped because no socket could be had for their flow.
    pub dial_errors: Counter,
    /// Errors on the way to the server, most of them "connection refused": nobody listens there.
    pub upstream_errors: Counter,
    /// Datagrams to the balancer that could not be sent.
    pub downstream_errors: Counter,
    /// Flows begun.
    pub flows_opened: Counter,
    /// Flows ended, for whatever reason.
    pub flows_closed: Counter,
    /// How long flows lasted, from their first datagram on.
    pub durations: Histogram<SessionScale>,
    /// Flows ended early to make room for others.
    pub flows_evicted: Counter,
    /// Flows with the client's address, but not its port.
    pub ports_replaced: Counter,
}

// === impl Counter ===

impl Counter {
    /// Adds `n`. Plain loads and stores will do, as one thread writes.
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sum of one counter over all shards.
pub fn total(
    shards: &[std::sync::Arc<ShardMetrics>],
    counter: impl Fn(&ShardMetrics) -> &Counter,
) -> u64 {
    shards.iter().map(|shard| counter(shard).get()).sum()
}
