//! UDP on one shard: datagrams in, by client to the server, replies back to the balancer.
//!
//! One task serves all flows of all the shard's frontends. A flow has neither a task nor a buffer of its own: it is an
//! entry of the [`flow::FlowTable`] with one connected, spoofed socket.

mod alarm;
mod begin;
pub mod binding;
mod count;
mod drain;
mod end;
pub mod flow;
mod forward;
pub(crate) mod handover;
mod limits;
mod losses;
mod mishap;
mod mixed;
mod mode;
mod purge;
mod redirect;
mod refuse;
mod reply;
mod roam;
pub(crate) mod segments;
pub(crate) mod steer;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::poll_fn;
use socket2::Socket;

use self::alarm::Alarm;
use self::binding::Downstream;
use self::count::Counting;
use self::flow::{Flow, FlowId, FlowTable, FrontendId};
use self::handover::{Handover, HandoverEnd};
use self::limits::Limits;
use self::losses::{Losses, Newcomers, QueueWatch};
use self::mishap::AtWork;
use self::mixed::Intake;
use self::mode::{Mode, SppBytes};
use self::purge::Purge;
pub(crate) use self::redirect::REDIRECTED_MAX;
use self::redirect::Redirected;
use self::roam::Silence;
use self::segments::SegmentLimit;
use crate::access_log::AccessLog;
use crate::addr::{PeerAddr, ShardFrontend};
use crate::config::UdpHeader;
use crate::destination::Destinations;
use crate::limits::{Descriptors, Permit};
use crate::logging::Subject;
use crate::metrics::ShardMetrics;
use crate::panics;
use crate::shard::admission::Admission;
use crate::shard::census::Desk;
use crate::shard::drain::{Drain, Draining};
use crate::shard::lists::Lists;
use crate::shard::readiness::{Readiness, ReadyQueue, Watched};
use crate::sys::mmsg::{Destination, Inbox, LocalAddr, Outbox, Span};
use crate::transparent::Dialer;
use crate::trust::Trust;

/// What a shard's UDP is made of, beside its sockets.
pub(crate) struct UdpSettings {
    pub(crate) readiness: Readiness,
    pub(crate) dialer: Dialer,
    pub(crate) lists: Rc<Lists>,
    pub(crate) destinations: Rc<Destinations>,
    pub(crate) trust: Trust,
    pub(crate) admission: Rc<Admission>,
    pub(crate) flows_max: usize,
    pub(crate) close_after: Duration,
    /// What datagrams begin with.
    pub(crate) header: UdpHeader,
    /// How many shards there are.
    pub(crate) shards: usize,
    /// To them, where clients belong to shards.
    pub(crate) handover: Option<HandoverEnd>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) access_log: Option<AccessLog>,
    /// The shard's number.
    pub(crate) listener: usize,
    /// Whether the kernel may redirect datagrams to the sockets (`--listen-transparent`).
    pub(crate) transparent: bool,
    pub(crate) drain: Rc<Drain>,
    pub(crate) desk: Rc<Desk>,
}

/// A shard's UDP: its listening sockets, and the flows of all of them.
pub(crate) struct Udp {
    settings: UdpSettings,
    /// By [`FrontendId`]: what the shard listens on, and behind it what is redirected to that.
    listeners: Vec<UdpListener>,
    redirected: Redirected,
    /// Listeners with datagrams to fetch.
    arrived: Rc<ReadyQueue>,
    handover: Option<Handover>,
    mode: Mode,
    flows: FlowTable<FlowState>,
    /// Flows with replies to fetch.
    ready: Rc<ReadyQueue>,
    expiry: Alarm,
    purge: Purge,
    counting: Option<Counting>,
    inbox: Inbox,
    outbox: Outbox,
    /// The places of the inbox that have not been looked at, and the listener that filled them.
    incoming: Range<usize>,
    incoming_to: FrontendId,
    /// Datagrams of the inbox that are admitted; so many of them have been sent on, or tried.
    admitted: Vec<Admitted>,
    sent: usize,
    replies: Inbox,
    /// Where the replies in each place go.
    destinations: Vec<Destination>,
    /// What the replies in each place begin with, if replies have a header.
    reply_headers: Vec<SppBytes>,
    /// Replies that are fetched and not yet sent on.
    fetched: Vec<Span>,
    /// Towards the servers: what all routes there take …
    segments_upstream: SegmentLimit,
    /// … and towards the balancers.
    segments_downstream: SegmentLimit,
    /// The flows being served, of those that were ready.
    serving: VecDeque<FlowId>,
    at_work: AtWork,
    /// Whether this turn some flow had several datagrams, which leave together.
    some_merged: bool,
    /// How many flows the batch in the inbox may still begin, or what other shards have handed over.
    newcomers: Newcomers,
    limits: Limits,
    /// What of the shard's draining has been heeded.
    draining: Option<Draining>,
}

/// One of the sockets that a shard listens on.
pub(crate) struct UdpSocket {
    pub(crate) frontend: Rc<ShardFrontend>,
    pub(crate) socket: Arc<Socket>,
    /// How many the address has on all shards.
    pub(crate) group: u32,
}

/// A frontend of a shard.
struct UdpListener {
    frontend: Rc<ShardFrontend>,
    exit: Exit,
    /// How many flows send their replies from here.
    flows: usize,
    queue: QueueWatch,
    intake: Intake,
    /// How many sockets the address has on all shards.
    group: u32,
}

/// The socket from which a frontend's replies leave.
enum Exit {
    /// The one its datagrams come to.
    Listener(Watched<Arc<Socket>>),
    /// One of its own: its datagrams are redirected to a listener.
    Redirected {
        socket: Socket,
        _descriptor: Descriptors,
    },
}

/// What a flow is, beside its key.
struct FlowState {
    socket: Watched<OwnedFd>,
    /// See [`Upstream`](crate::transparent::Upstream).
    other_ear: Option<Watched<OwnedFd>>,
    /// Of both.
    _descriptors: Descriptors,
    /// The frontend that the latest datagram came to.
    frontend: FrontendId,
    /// The latest balancer address that spoke for this client, as the kernel tells it, and where it wrote to.
    reply_to: Destination,
    /// The client's limits count the flow for as long as it is there.
    _permit: Permit,
    /// The latest header of Simple Proxy Protocol: replies begin with it.
    spp: Option<SppBytes>,
    silence: Silence,
    losses: Losses,
    /// When its sockets were asked for losses.
    asked_at: Instant,
    bytes_upstream: u64,
    bytes_downstream: u64,
    opened_at: Instant,
}

/// An admitted datagram: its flow, and where in the inbox its payload is.
#[derive(Clone, Copy)]
struct Admitted {
    flow: FlowId,
    payload: Span,
}

// === impl Udp ===

impl Udp {
    /// # Errors
    ///
    /// As [`Readiness::watch`].
    pub(crate) fn new(mut settings: UdpSettings, sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let (flows_max, close_after) = (settings.flows_max, settings.close_after);
        let flows = FlowTable::new(flows_max, close_after);
        let mode = Mode::new(settings.header, settings.trust, flows_max, close_after);
        let purge = Purge::new(&settings.lists);
        let arrived = Rc::default();
        let listeners = sockets.into_iter().zip(0..);
        let listeners = listeners
            .map(|(listening, id)| {
                let UdpSocket {
                    frontend,
                    socket,
                    group,
                } = listening;
                let queue = QueueWatch::new(&*socket);
                let socket = settings.readiness.watch_queued(socket, &arrived, id)?;
                Ok(UdpListener {
                    frontend,
                    exit: Exit::Listener(socket),
                    flows: 0,
                    queue,
                    intake: Intake::Pieces,
                    group,
                })
            })
            .collect::<io::Result<_>>()?;
        let handover = settings.handover.take();
        let handover = handover
            .map(|end| Handover::new(end, &settings.readiness))
            .transpose()?;
        Ok(Self {
            settings,
            listeners,
            redirected: Redirected::new(),
            arrived,
            handover,
            mode,
            flows,
            ready: Rc::default(),
            expiry: Alarm::default(),
            purge,
            counting: None,
            inbox: Inbox::with_addresses(),
            outbox: Outbox::new(),
            incoming: 0..0,
            incoming_to: 0,
            admitted: Vec::new(),
            sent: 0,
            replies: Inbox::of_payloads(),
            destinations: Vec::new(),
            reply_headers: Vec::new(),
            fetched: Vec::new(),
            segments_upstream: SegmentLimit::ANY,
            segments_downstream: SegmentLimit::ANY,
            serving: VecDeque::new(),
            at_work: AtWork::Nothing,
            some_merged: false,
            newcomers: Newcomers::ALL,
            limits: Limits::new(),
            draining: None,
        })
    }

    /// Serves until the shard is drained.
    pub(crate) async fn run(mut self) {
        loop {
            self.work().await;
            if let Err(panic) = panics::catch(|| self.turn()) {
                self.recover(panic);
            }
            self.tell_done();
            if self.is_drained() {
                self.settings.desk.close();
                return;
            }
            if self.has_work() {
                // The shard's other tasks, and the driver that tells of new datagrams.
                self.settings.readiness.pause().await;
            }
        }
    }

    fn turn(&mut self) {
        self.at_work = AtWork::Nothing;
        self.purge();
        self.heed_drain();
        self.count();
        self.cut();
        self.some_merged = false;
        // What was handed over came earlier than what is at the listeners.
        self.take_over();
        self.forward();
        self.reply();
        // Where each flow has one under way, its sender waits for the answer.
        if self.some_merged {
            self.settings.readiness.give_way();
        }
        // Behind the replies: where everything has stood still for a while, there may be some of a flow that seems idle.
        if self.expiry.is_ringing() {
            self.expire();
        }
    }

    fn has_work(&self) -> bool {
        self.is_interrupted()
            || !self.arrived.is_empty()
            || self.has_handed_over()
            || !self.ready.is_empty()
            || self.expiry.is_ringing()
            || self.purge.is_due(&self.settings.lists)
            || self.drain_is_news()
            || self.is_drained()
            || self.has_count()
            || self.is_to_cut()
    }

    /// Waits until there is something to do.
    async fn work(&self) {
        poll_fn(|cx| {
            if self.has_work() {
                return Poll::Ready(());
            }
            self.arrived.register(cx);
            if let Some(handover) = &self.handover {
                handover.register(cx);
            }
            self.ready.register(cx);
            self.expiry.register(cx);
            self.purge.register(cx);
            self.settings.drain.register(cx);
            self.settings.desk.register(cx);
            Poll::Pending
        })
        .await;
    }

    fn subject(&self, frontend: FrontendId, peer: PeerAddr) -> Subject {
        let listen_addr = self.listeners[frontend as usize].frontend.listen;
        Subject::new(self.settings.listener, "udp", listen_addr, peer)
    }

    fn subject_of(&self, flow: &Flow<FlowState>) -> Subject {
        let Downstream { peer, frontend } = flow.state.downstream();
        let mut subject = self.subject(frontend, peer);
        subject.set_client(flow.key.party.client());
        subject.set_target(flow.key.target);
        subject
    }
}

// === impl FlowState ===

impl FlowState {
    /// A socket with something to read.
    fn readable(&self) -> Option<&Watched<OwnedFd>> {
        let other_ear = self.other_ear.as_ref();
        std::iter::once(&self.socket)
            .chain(other_ear)
            .find(|socket| socket.is_readable())
    }

    /// Where its latest datagram came from, and its replies go to.
    fn downstream(&self) -> Downstream {
        Downstream {
            peer: PeerAddr::new(self.reply_to.to),
            frontend: self.frontend,
        }
    }
}

// === impl Exit ===

impl Exit {
    fn socket(&self) -> &Socket {
        match self {
            Self::Listener(socket) => socket,
            Self::Redirected { socket, .. } => socket,
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
