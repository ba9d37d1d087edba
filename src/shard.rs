//! One shard: a glommio executor, usually with a CPU of its own, with listeners, flows and connections of its own.
//!
//! Shards share nothing. The coordinator starts them, tells them of new lists and of servers that have moved over a channel
//! each, and notices when one ends, which it only does when told to, or broken.

pub(crate) mod admission;
pub(crate) mod census;
mod courtesy;
pub(crate) mod deadline;
pub(crate) mod doorbell;
pub(crate) mod drain;
mod lifeline;
pub(crate) mod lists;
pub(crate) mod locality;
pub(crate) mod readiness;
pub(crate) mod roster;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::channels::shared_channel::SharedReceiver;
use glommio::sync::Gate;
use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};

use self::admission::Admission;
use self::census::{Census, Count, Desk};
use self::deadline::within;
use self::doorbell::Doorbell;
use self::drain::{Acceptor, Drain, Draining};
use self::lists::{InitialLists, Lists};
use self::locality::Locality;
use self::readiness::Readiness;
use self::roster::Roster;
use crate::access_log::AccessLog;
use crate::addr::{ShardFrontend, Targets};
use crate::config::UdpHeader;
use crate::destination::Destinations;
use crate::limits::Limits;
use crate::listen::Listener;
use crate::metrics::ShardMetrics;
use crate::sandbox::Keep;
use crate::subnets::SubnetSet;
use crate::tcp::pipes::PipePool;
use crate::tcp::{self, AcceptLimits, LateResets, Lobby, LobbyEnd, PAGES_LEN, Tcp, TcpListener};
use crate::transparent::Dialer;
use crate::trust::Trust;
use crate::udp::handover::HandoverEnd;
use crate::udp::{Udp, UdpSettings, UdpSocket};

/// Entries of each of an executor's three rings. A shard has one poll and a few timers in them.
const RING_DEPTH: usize = 64;

/// When glommio takes the CPU from tasks that do not stop by themselves, for timers and channels: never. All ours stop,
/// and the driver gives timers and channels their turn (`readiness`).
///
/// glommio 0.9 arms this timer before it runs tasks, and if it is over before the first task has run, because the thread
/// had to wait for its CPU, takes that for "nothing to run" and sleeps (`run_task_queues` in executor/mod.rs). With
/// 10 ms, on a busy host, shards slept with work in their hands, and some for ever.
pub(crate) const PREEMPT: Duration = Duration::from_secs(24 * 3600);

/// How many threads an executor has for calls that block: none, as nothing here makes such calls through glommio. They
/// could not drop their capabilities either.
pub(crate) const NO_POOL: PoolPlacement = PoolPlacement::Custom(Vec::new());

/// When an executor is woken after another has woken it: see [`stay_awake`].
const WAKE_AFTER: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// How long the end may take to note what it cuts. A hundred thousand connections take less.
const CUT_MAX: Duration = Duration::from_secs(1);

/// Memory that glommio registers with each ring and accounts to RLIMIT_MEMLOCK; a shard uses little of it.
const IO_MEMORY: usize = 64 << 10;

/// What a shard is made of.
pub(crate) struct Blueprint {
    /// Its number, from 0.
    pub(crate) index: usize,
    /// Its home, if it has one.
    pub(crate) cpu: Option<usize>,
    /// Those the kernel may put it on meanwhile; none if it was told where to stay.
    pub(crate) roams: Vec<usize>,
    /// One for each frontend, in the same order on all shards.
    pub(crate) listeners: Vec<Listener>,
    /// Whether the kernel may redirect traffic to the listeners (`--listen-transparent`).
    pub(crate) listen_transparent: bool,
    pub(crate) dialer: Dialer,
    pub(crate) late_resets: Arc<LateResets>,
    /// To those of the other shards.
    pub(crate) lobby: LobbyEnd,
    pub(crate) lists: InitialLists,
    /// Whether headers choose the target (`--dynamic-destination`).
    pub(crate) dynamic_destination: bool,
    /// The admin endpoint, which no header may name as the target.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) trust: Trust,
    /// Whether a new deny list leaves open connections and flows alone.
    pub(crate) keep_denied: bool,
    /// Shared with the other shards.
    pub(crate) limits: Limits,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) header_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_after: Duration,
    /// This shard's share of `--max-flows`.
    pub(crate) flows_max: usize,
    pub(crate) udp_header: UdpHeader,
    /// How many shards there are.
    pub(crate) shards: usize,
    /// To what other shards' clients sent here.
    pub(crate) handover: Option<HandoverEnd>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) access_log: Option<AccessLog>,
    /// The capabilities that its thread keeps.
    pub(crate) keep: Keep,
    /// Rung when there are commands: the shard may not look at its channel for some time otherwise.
    pub(crate) bell: Doorbell,
    /// Gets a byte when the shard listens, one for each command, and the end when it is gone, however that happened.
    pub(crate) lifeline: UnixStream,
}

/// What the coordinator tells a shard.
pub(crate) enum Command {
    /// A new allow list.
    Allow(Arc<SubnetSet>),
    /// A new list of destinations.
    AllowDestinations(Arc<SubnetSet>),
    /// A new deny list.
    Deny(Arc<SubnetSet>),
    /// The addresses of the servers from now on, one for each frontend.
    Retarget(Arc<[Targets]>),
    /// Count what each client has moved.
    Count(Count),
    /// Take no new clients, and end when the last ones have left.
    Drain(Draining),
    /// Nothing, but to answer. Repeated until the shard does, since it can sleep through any command.
    Nudge,
    /// End, with all connections and flows.
    Stop,
}

/// Why a shard ended without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    #[error("cannot make a readiness set: {0}")]
    Readiness(io::Error),
    #[error("cannot watch the listener: {0}")]
    Watch(io::Error),
    #[error("cannot wait for events: {0}")]
    Wait(io::Error),
    #[error("the coordinator is gone")]
    Orphaned,
}

/// Starts a shard on a thread of its own.
///
/// # Errors
///
/// If the thread cannot be started. What goes wrong on it is told by the handle.
pub(crate) fn spawn(
    blueprint: Blueprint,
    commands: SharedReceiver<Command>,
) -> glommio::Result<ExecutorJoinHandle<Result<(), ShardError>>, ()> {
    let placement = blueprint.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", blueprint.index))
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY)
        .preempt_timer(PREEMPT)
        .blocking_thread_pool_placement(NO_POOL)
        .spawn(move || run(blueprint, commands))
}

async fn run(blueprint: Blueprint, commands: SharedReceiver<Command>) -> Result<(), ShardError> {
    blueprint.keep.apply();
    let readiness = Readiness::new().map_err(ShardError::Readiness)?;
    let lists = Rc::new(Lists::new(blueprint.lists, blueprint.keep_denied));
    let destinations = Rc::new(Destinations::new(
        blueprint.dynamic_destination,
        Rc::clone(&lists),
        blueprint
            .listeners
            .iter()
            .map(|it| it.frontend.listen.0)
            .chain(blueprint.admin),
    ));
    let limits = blueprint.limits;
    let drain = Rc::<Drain>::default();
    // All sessions enter it, so that draining can wait for them.
    let gate = Gate::new();
    let mut frontends = Vec::new();
    let mut acceptors = Vec::new();
    let mut tcp_listeners = Vec::new();
    let mut udp_sockets = Vec::new();
    let mut roster = None;
    for Listener {
        frontend,
        tcp,
        udp,
        udp_group: group,
    } in blueprint.listeners
    {
        let frontend = Rc::new(ShardFrontend::from(frontend));
        for socket in tcp {
            tcp_listeners.push(TcpListener {
                frontend: Rc::clone(&frontend),
                socket: readiness.watch(socket).map_err(ShardError::Watch)?,
            });
        }
        udp_sockets.extend(udp.into_iter().map(|socket| UdpSocket {
            frontend: Rc::clone(&frontend),
            socket,
            group,
        }));
        frontends.push(frontend);
    }
    let locality = Rc::new(match blueprint.cpu {
        Some(cpu) => Locality::roaming(cpu, blueprint.roams),
        None => Locality::fixed(),
    });
    if !tcp_listeners.is_empty() {
        roster = Roster::start(
            &lists,
            blueprint.idle_timeout,
            blueprint.admin.is_some() || blueprint.access_log.is_some(),
            &readiness,
            blueprint.index,
        );
        let tcp = Rc::new(Tcp {
            readiness: readiness.clone(),
            dialer: blueprint.dialer.clone(),
            lists: Rc::clone(&lists),
            destinations: Rc::clone(&destinations),
            trust: blueprint.trust,
            places: limits.places,
            lobby: Lobby::new(blueprint.lobby),
            late_resets: Arc::clone(&blueprint.late_resets),
            admission: Rc::new(Admission::new(
                Rc::clone(&lists),
                limits.tcp,
                "connection refused",
            )),
            roster: roster.clone(),
            header_timeout: blueprint.header_timeout,
            connect_timeout: blueprint.connect_timeout,
            pages: RefCell::new(glommio::allocate_dma_buffer(PAGES_LEN)),
            pipes: PipePool::default(),
            locality: Rc::clone(&locality),
            metrics: Arc::clone(&blueprint.metrics),
            access_log: blueprint.access_log.clone(),
            listener: blueprint.index,
            transparent: blueprint.listen_transparent,
            limits: AcceptLimits::new(),
        });
        let asked = readiness
            .watch(tcp.lobby.end.bell())
            .map_err(ShardError::Watch)?;
        glommio::spawn_local(tcp::give_room(Rc::clone(&tcp), asked)).detach();
        for listener in tcp_listeners.into_iter().map(Rc::new) {
            let accept = tcp::accept(Rc::clone(&tcp), Rc::clone(&listener), gate.clone());
            acceptors.push(Acceptor {
                tcp: Rc::clone(&tcp),
                listener,
                task: glommio::spawn_local(accept),
            });
        }
    }
    let desk = Rc::new(Desk::new(!udp_sockets.is_empty()));
    let mut serving_udp = None;
    if !udp_sockets.is_empty() {
        let settings = UdpSettings {
            readiness: readiness.clone(),
            dialer: blueprint.dialer,
            lists: Rc::clone(&lists),
            destinations,
            trust: blueprint.trust,
            admission: Rc::new(Admission::new(
                Rc::clone(&lists),
                limits.udp,
                "datagram dropped",
            )),
            flows_max: blueprint.flows_max,
            header: blueprint.udp_header,
            shards: blueprint.shards,
            handover: blueprint.handover,
            close_after: blueprint.close_after,
            metrics: Arc::clone(&blueprint.metrics),
            access_log: blueprint.access_log.clone(),
            listener: blueprint.index,
            transparent: blueprint.listen_transparent,
            drain: Rc::clone(&drain),
            desk: Rc::clone(&desk),
        };
        let udp = Udp::new(settings, udp_sockets).map_err(ShardError::Watch)?;
        serving_udp = Some(glommio::spawn_local(udp.run()));
    }
    let bell = readiness.watch(blueprint.bell).map_err(ShardError::Watch)?;
    let heard = readiness.clone();
    glommio::spawn_local(async move {
        loop {
            bell.rang().await;
            heard.want_turn();
        }
    })
    .detach();
    let metrics = blueprint.metrics;
    let census = Census {
        roster,
        desk,
        readiness: readiness.clone(),
    };
    let cut_metrics = blueprint.access_log.is_some().then(|| Arc::clone(&metrics));
    lifeline::hold(blueprint.lifeline);
    lifeline::tell();
    // A task of its own, not merely a future: glommio 0.9 keeps a waker each time a channel is polled, and counts them
    // in 16 bits. Polled along with the driver, `obey` would end the shard with the 32,768th event.
    let driver =
        glommio::spawn_local(async move { readiness.drive(&locality, &metrics.busy_nanos).await });
    let draining = Rc::clone(&drain);
    let drained = glommio::spawn_local(async move {
        drain::drain_tcp(&draining, acceptors, &gate).await;
        if let Some(udp) = serving_udp {
            udp.await;
        }
        Ok(())
    });
    let broken = async { Err(ShardError::Wait(driver.await)) };
    let obeyed = async {
        obey(commands, &lists, &frontends, &drain, &census).await?;
        if let Some(metrics) = cut_metrics {
            within(CUT_MAX, cut(&census, &drain, &metrics)).await;
        }
        Ok(())
    };
    or(obeyed, or(drained, broken)).await
}

/// Carries out commands until one says stop.
async fn obey(
    commands: SharedReceiver<Command>,
    lists: &Lists,
    frontends: &[Rc<ShardFrontend>],
    drain: &Drain,
    census: &Census,
) -> Result<(), ShardError> {
    let commands = commands.connect().await;
    loop {
        match commands.recv().await {
            Some(Command::Allow(allowed)) => lists.set_allowed(allowed),
            Some(Command::AllowDestinations(list)) => lists.set_destinations(list),
            Some(Command::Deny(denied)) => lists.set_denied(denied),
            Some(Command::Retarget(targets)) => {
                for (frontend, targets) in frontends.iter().zip(targets.iter()) {
                    frontend.targets.set(*targets);
                }
            }
            Some(Command::Count(count)) => census.begin(count),
            Some(Command::Drain(draining)) => drain.begin(draining),
            Some(Command::Nudge) => {}
            Some(Command::Stop) => return Ok(()),
            None => return Err(ShardError::Orphaned),
        }
        stay_awake();
        lifeline::tell();
    }
}

/// Ends what is left, so that the access log has it.
async fn cut(census: &Census, drain: &Drain, metrics: &ShardMetrics) {
    stay_awake();
    drain.cut();
    if let Some(roster) = &census.roster {
        roster.cut(&census.readiness).await;
    }
    while metrics.udp.flows_opened.get() > metrics.udp.flows_closed.get() {
        census.readiness.pause().await;
    }
}

/// Wakes this executor a few times from now on. The wake-up that comes with a command can send it to sleep although tasks
/// are ready to run (see the crate's page), a little after the command itself.
fn stay_awake() {
    for wait in WAKE_AFTER {
        glommio::spawn_local(Timer::new(wait)).detach();
    }
}
