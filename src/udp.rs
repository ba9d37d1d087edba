//! UDP on one shard: datagrams in, by client to the server, replies back to the balancer.
//!
//! One task serves all flows of a listener. A flow has neither a task nor a buffer of its own: it is an entry of the
//! [`flow::FlowTable`] with one connected, spoofed socket.

mod alarm;
pub mod flow;
mod forward;
mod reply;
pub(crate) mod steer;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::poll_fn;
use socket2::Socket;

use self::alarm::Alarm;
use self::flow::{Flow, FlowId, FlowTable};
use crate::addr::{ListenAddr, PeerAddr};
use crate::logging::{RateLimited, Subject};
use crate::metrics::ShardMetrics;
use crate::shard::lists::Lists;
use crate::shard::readiness::{Readiness, ReadyQueue, Watched};
use crate::sys::mmsg::{Destination, Inbox, LocalAddr, Outbox};
use crate::transparent::Dialer;

/// Flows that end before the datagrams of others get a turn.
const EXPIRIES_MAX: usize = 256;

/// What a shard's UDP listener is made of.
pub(crate) struct UdpSettings {
    pub(crate) readiness: Readiness,
    pub(crate) dialer: Dialer,
    pub(crate) lists: Rc<Lists>,
    pub(crate) flows_max: usize,
    pub(crate) close_after: Duration,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// The shard's number, for the log.
    pub(crate) listener: usize,
    pub(crate) listen_addr: ListenAddr,
}

/// A shard's UDP listener with its flows.
pub(crate) struct Udp {
    settings: UdpSettings,
    socket: Watched<Socket>,
    flows: FlowTable<FlowState>,
    /// Flows with replies to fetch.
    ready: Rc<ReadyQueue>,
    expiry: Alarm,
    inbox: Inbox,
    outbox: Outbox,
    /// Datagrams of the inbox that are admitted and not yet sent on.
    admitted: Vec<Admitted>,
    replies: Inbox,
    /// Where each reply of the batch goes.
    destinations: Vec<Destination>,
    /// The flows being served, of those that were ready.
    serving: Vec<FlowId>,
    limits: Limits,
}

/// What a flow is, beside its key.
struct FlowState {
    socket: Watched<OwnedFd>,
    target: SocketAddr,
    /// The latest balancer address that spoke for this client, as the kernel tells it, and where it wrote to.
    reply_to: Destination,
    bytes_upstream: u64,
    bytes_downstream: u64,
}

/// An admitted datagram: its flow, its place in the inbox, and where its payload begins.
#[derive(Clone, Copy)]
struct Admitted {
    flow: FlowId,
    place: usize,
    payload_at: usize,
}

/// One for each line that may repeat with every datagram.
struct Limits {
    peer: RateLimited,
    header: RateLimited,
    source: RateLimited,
    dial: RateLimited,
    port: RateLimited,
    evicted: RateLimited,
    upstream: RateLimited,
    downstream: RateLimited,
    receive: RateLimited,
}

// === impl Udp ===

impl Udp {
    pub(crate) fn new(settings: UdpSettings, socket: Watched<Socket>) -> Self {
        let flows = FlowTable::new(settings.flows_max, settings.close_after);
        Self {
            settings,
            socket,
            flows,
            ready: Rc::default(),
            expiry: Alarm::default(),
            inbox: Inbox::with_addresses(),
            outbox: Outbox::new(),
            admitted: Vec::new(),
            replies: Inbox::of_payloads(),
            destinations: Vec::new(),
            serving: Vec::new(),
            limits: Limits::new(),
        }
    }

    /// Serves for as long as the shard lives.
    pub(crate) async fn run(mut self) {
        loop {
            self.work().await;
            if self.expiry.is_ringing() {
                self.expire();
            }
            self.forward();
            self.reply();
            if self.has_work() {
                // The shard's other tasks, and the driver that tells of new datagrams.
                self.settings.readiness.pause().await;
            }
        }
    }

    fn has_work(&self) -> bool {
        self.socket.is_readable() || !self.ready.is_empty() || self.expiry.is_ringing()
    }

    /// Waits until there is something to do.
    async fn work(&self) {
        poll_fn(|cx| {
            if self.has_work() {
                return Poll::Ready(());
            }
            self.socket.register(cx);
            self.ready.register(cx);
            self.expiry.register(cx);
            Poll::Pending
        })
        .await;
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for _ in 0..EXPIRIES_MAX {
            let Some(flow) = self.flows.expire(now) else {
                self.expiry.stop();
                self.set_expiry(now);
                return;
            };
            self.ended(&flow, "idle");
        }
        // The alarm goes on ringing: the others' turn first.
    }

    fn set_expiry(&self, now: Instant) {
        if let Some(at) = self.flows.next_expiry() {
            self.expiry.set(at, now);
        }
    }

    /// Notes the end of a flow that has been taken out.
    fn ended(&self, flow: &Flow<FlowState>, reason: &'static str) {
        self.settings.metrics.udp.flows_closed.increment();
        self.subject_of(flow).closed(
            flow.state.bytes_upstream,
            flow.state.bytes_downstream,
            &reason,
        );
    }

    fn subject(&self, peer: PeerAddr) -> Subject {
        Subject::new(
            self.settings.listener,
            "udp",
            self.settings.listen_addr,
            peer,
        )
    }

    fn subject_of(&self, flow: &Flow<FlowState>) -> Subject {
        let mut subject = self.subject(PeerAddr::new(flow.state.reply_to.to));
        subject.set_client(flow.key.client());
        subject.set_target(flow.state.target);
        subject
    }
}

// === impl Limits ===

impl Limits {
    fn new() -> Self {
        Self {
            peer: RateLimited::new(),
            header: RateLimited::new(),
            source: RateLimited::new(),
            dial: RateLimited::new(),
            port: RateLimited::new(),
            evicted: RateLimited::new(),
            upstream: RateLimited::new(),
            downstream: RateLimited::new(),
            receive: RateLimited::new(),
        }
    }
}

/// Where replies to this datagram go: to its sender, from the address it was sent to.
fn reply_path(from: SocketAddr, local: Option<LocalAddr>) -> Destination {
    Destination {
        to: from,
        from: local,
    }
}
