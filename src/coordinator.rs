//! The coordinator: starts everything, keeps the lists, takes signals, ends everything.
//!
//! It runs on an executor of its own, which is not pinned and has next to nothing to do while the shards work.

mod drain;
mod list_file;
mod lists;
mod names;
mod routes;
mod shards;
mod signal;
pub(crate) mod state;
mod takeover;
mod watchdog;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use tracing::{info, warn};

pub use self::list_file::ListError;
pub(crate) use self::list_file::load as load_list_once;
use self::lists::{Kind, ListFiles};
pub use self::names::NameError;
use self::names::Names;
pub(crate) use self::names::{Resolved, resolve};
use self::routes::Routes;
pub(crate) use self::routes::route_plan;
use self::shards::Shards;
pub use self::shards::ShardsError;
use self::signal::{Signal, Signals};
pub use self::state::{SharedState, State};
use self::takeover::{Claims, Offer};
use self::watchdog::Watchdog;
pub use crate::access_log::AccessLogError;
use crate::access_log::{self, AccessLog, AccessLogThread};
use crate::addr::{Frontend, spans};
pub use crate::admin::AdminError;
use crate::admin::{self, Facts, Overview};
use crate::config::Config;
use crate::cpus::{self, PlacementError};
use crate::host::{self, HostError};
use crate::limits::Limits;
use crate::listen::{self, Manner};
pub use crate::listen::{BindError, InheritError, Inherited};
use crate::logging;
use crate::metrics::{self, Counter, ShardMetrics};
use crate::routing::RoutingError;
use crate::shard::drain::Draining;
use crate::shard::locality::Locality;
use crate::shard::readiness::Readiness;
use crate::shard::{Blueprint, PREEMPT};
use crate::systemd;
use crate::transparent::Dialer;
use crate::udp::REDIRECTED_MAX;

/// The longest the coordinator sleeps is half of this.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why the proxy does not run, or runs no more. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host does not allow what shards need.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The executor of the coordinator.
    #[error("cannot start the coordinator: {0}")]
    Executor(String),
    /// A descriptor or signal of the coordinator.
    #[error("cannot set up the coordinator: {0}")]
    Setup(#[from] io::Error),
    /// This process may not spoof, or mark.
    #[error("{0}")]
    Privileges(String),
    /// A list is unreadable or wrong.
    #[error("{0}; it is not started without its list, as everybody could then pose as any client")]
    List(#[from] ListError),
    /// The list of destinations is unreadable or wrong.
    #[error(
        "{0}; it is not started without the list, as headers could then name other destinations"
    )]
    Destinations(ListError),
    /// The list of denied clients is.
    #[error("{0}; it is not started without its list, as clients that are denied would be back")]
    DeniedList(ListError),
    /// A server's host name comes to no address.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `--cpus` cannot be had.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket that was passed cannot be listened on.
    #[error(transparent)]
    Inherited(#[from] InheritError),
    /// The running instance does not give its sockets.
    #[error("cannot take over (--takeover): {0}; the other instance goes on")]
    Takeover(io::Error),
    /// Two ways to get listening sockets.
    #[error(
        "--takeover is for sockets of another instance, and systemd has passed some: remove --takeover"
    )]
    TakeoverWithSockets,
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The admin endpoint cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The routes cannot be set up.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// A shard did not start, or ended.
    #[error(transparent)]
    Shards(#[from] ShardsError),
}

/// Runs the proxy until a signal ends it, and everybody has left. It listens with the sockets it has inherited, and on all
/// other addresses with its own.
///
/// # Errors
///
/// Whatever keeps it from starting, or ends it early. What was set up is taken down first.
pub fn run(config: &Config, inherited: Inherited) -> Result<(), RunError> {
    host::check(config.shards.count(), sockets(config))?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("coordinator")
        .ring_depth(64)
        .io_memory(64 << 10)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|error| RunError::Executor(host::executor_failure(&error)))?;
    executor.run(coordinate(config, inherited))
}

async fn coordinate(config: &Config, mut inherited: Inherited) -> Result<(), RunError> {
    let state = SharedState::default();
    let readiness = Readiness::new()?;
    let driver = readiness.clone();
    let mut driver = glommio::spawn_local(async move {
        let (locality, busy_nanos) = (Locality::fixed(), Counter::default());
        driver.drive(&locality, &busy_nanos).await
    });
    keep_turning();

    // First of all, so that a signal during the start does not leave routes behind.
    let signals = Signals::new(&readiness)?;
    let (mut lists, initial_lists) = ListFiles::open(config, &readiness)?;
    let mut names = Names::new(&config.frontends, &readiness);
    let Some(frontends) = or(async { Some(names.first().await) }, told_to_stop(&signals)).await
    else {
        info!("stopping");
        return Ok(());
    };
    let frontends = frontends?;
    let dialer = Dialer {
        mark: config.mark,
        source_port: config.source_port,
        wildcard_udp: config.wildcard_udp,
    };
    dialer
        .check_privileges(&frontends[0].targets)
        .map_err(|error| RunError::Privileges(error.to_string()))?;
    let available = cpus::available()?;
    let placement = cpus::placement(&config.shards, &available)?;
    let roams = config.shards.roams(&available);
    check_descriptors(config, placement.len());
    let claims = claim(config, &mut inherited)?;
    let (listeners, sockets) = listen::bind_all(
        &frontends,
        config.protocols.tcp(),
        config.protocols.udp(),
        Manner {
            shards: placement.len(),
            transparent: config.listen_transparent,
            header: config.udp_header,
        },
        &mut inherited,
    )?;
    if !config.takeover {
        inherited.expect_none_left()?;
    }
    let offer = Offer::new(&readiness, sockets)?;
    if offer.is_unheard() {
        warn!("64 instances share this network namespace: --takeover cannot find this one");
    }
    let bound: Vec<_> = listeners[0].iter().map(|it| it.frontend).collect();
    let access_log = start_access_log(config)?;
    let noting = access_log.as_ref().map(AccessLogThread::log);
    let admin = start_admin(config, &bound, &state, &lists, noting)?;
    let admin_addr = admin.as_ref().map(|(addr, _)| *addr);
    let mut routes = Routes::prepare(config, &frontends)?;
    let udp_shards = if config.listen_transparent {
        1
    } else {
        placement.len()
    };
    let mut listeners = listeners.into_iter();
    let limits = Limits::new(config.limits);
    let blueprint = |index: usize, lifeline, metrics| Blueprint {
        index,
        cpu: placement[index],
        roams: roams.to_vec(),
        listeners: listeners.next().unwrap_or_default(),
        listen_transparent: config.listen_transparent,
        dialer: dialer.clone(),
        lists: initial_lists.clone(),
        dynamic_destination: config.dynamic_destination,
        admin: admin_addr,
        trust: config.trust,
        keep_denied: config.keep_denied,
        limits: limits.clone(),
        idle_timeout: config.idle_timeout,
        header_timeout: config.header_timeout,
        connect_timeout: config.connect_timeout,
        close_after: config.close_after,
        flows_max: share(config.max_flows, udp_shards, index),
        udp_header: config.udp_header,
        shards: udp_shards,
        metrics,
        access_log: noting.cloned(),
        lifeline,
    };
    let mut shards = Shards::start(&readiness, placement.len(), blueprint).await?;
    if let Some((_, overview)) = &admin {
        overview.set_shards(shards.metrics());
    }
    state.set(State::Ready);
    log_ready(config, &bound, placement.len());
    systemd::ready("listening");
    claims.relieve(&inherited);
    drop(inherited);

    let charges = Charges {
        lists: &mut lists,
        names: &mut names,
        routes: &mut routes,
        shards: &mut shards,
        access_log: access_log.as_ref(),
    };
    let supervised = supervise(config, &state, &offer, &signals, charges);
    let result = or(supervised, async { Err((&mut driver).await.into()) }).await;
    state.set(State::Draining);
    let metrics = shards.metrics();
    shards.stop().await;
    log_totals(&metrics);
    routes.remove()?;
    result
}

/// Opens the access log, if asked to.
fn start_access_log(config: &Config) -> Result<Option<AccessLogThread>, RunError> {
    let Some(destination) = &config.access_log else {
        return Ok(None);
    };
    let format = config.access_log_format.or(config.log_format);
    let started = access_log::start(destination, logging::chosen(format))?;
    Ok(Some(started))
}

/// Serves the admin endpoint, if asked to.
fn start_admin(
    config: &Config,
    bound: &[Frontend],
    state: &SharedState,
    lists: &ListFiles,
    access_log: Option<&AccessLog>,
) -> Result<Option<(SocketAddr, Arc<Overview>)>, RunError> {
    let Some(addr) = config.admin else {
        return Ok(None);
    };
    let facts = Facts {
        listen: spans(bound.iter().map(|frontend| frontend.listen.0)),
        target_v4: spans(bound.iter().map(|frontend| frontend.targets.v4.into())),
        target_v6: spans(bound.iter().map(|frontend| frontend.targets.v6.into())),
        protocol: config.protocols.name(),
        routes_table: config.setup_routes.then(|| config.table.number()),
    };
    let overview = Arc::new(Overview::new(
        facts,
        state.clone(),
        lists.named(),
        access_log.cloned(),
    ));
    let addr = admin::start(addr, Arc::clone(&overview))?;
    info!(%addr, "admin endpoint");
    if !addr.ip().is_loopback() {
        warn!(%addr, "everybody who reaches the admin endpoint can read it: it should be on loopback, or behind a firewall");
    }
    Ok(Some((addr, overview)))
}

/// Never lets this executor sleep for long. The shards wake it whenever they take in a command, which can send it to sleep
/// although tasks are ready to run (see the crate's page). That goes for the task that a timer has woken, too; so there are
/// two, of which the other comes to the rescue.
fn keep_turning() {
    for start in [HEARTBEAT, HEARTBEAT / 2] {
        glommio::spawn_local(async move {
            let mut wait = start;
            loop {
                Timer::new(wait).await;
                wait = HEARTBEAT;
            }
        })
        .detach();
    }
}

/// Waits for a signal that ends the process.
async fn told_to_stop<T>(signals: &Signals) -> Option<T> {
    while signals.next().await != Signal::Stop {}
    None
}

/// Asks the instances that run for their sockets, if they are to be taken over.
fn claim(config: &Config, inherited: &mut Inherited) -> Result<Claims, RunError> {
    if !config.takeover {
        return Ok(Claims::default());
    }
    if !inherited.is_empty() {
        return Err(RunError::TakeoverWithSockets);
    }
    takeover::claim(inherited).map_err(RunError::Takeover)
}

/// What may change while the process runs.
struct Charges<'a> {
    lists: &'a mut ListFiles,
    names: &'a mut Names,
    routes: &'a mut Routes,
    shards: &'a mut Shards,
    access_log: Option<&'a AccessLogThread>,
}

/// Waits for signals, changed files, looked-up names and broken shards, until everybody has left.
async fn supervise(
    config: &Config,
    state: &SharedState,
    offer: &Offer,
    signals: &Signals,
    charges: Charges<'_>,
) -> Result<(), RunError> {
    let Charges {
        lists,
        names,
        routes,
        shards,
        access_log,
    } = charges;
    enum Event {
        Signal(Signal),
        ListTouched(Kind),
        NamesLookedUp,
        Ended(ShardsError),
        TakenOver,
    }
    let watchdog = Watchdog::new();
    loop {
        let list_touched = async { Event::ListTouched(lists.changed().await) };
        let signal = async { Event::Signal(signals.next().await) };
        let ended = async { Event::Ended(shards.watch().await) };
        let names_looked_up = async {
            names.looked_up().await;
            Event::NamesLookedUp
        };
        let taken_over = async {
            offer.taken().await;
            Event::TakenOver
        };
        let beat = async { match watchdog.beat(shards).await {} };
        let touched = or(list_touched, names_looked_up);
        let event = or(or(ended, signal), or(taken_over, touched));
        let draining = match or(event, beat).await {
            Event::Signal(Signal::Stop) => {
                info!("stopping");
                Draining::Alone
            }
            Event::TakenOver => {
                info!("another instance has taken over: stopping");
                Draining::Relieved
            }
            Event::Signal(Signal::Reload) => {
                info!("reloading");
                systemd::reloading();
                names.look_up();
                if let Some(access_log) = access_log {
                    access_log.reopen();
                }
                lists.reload_all(shards).await?;
                systemd::ready("listening");
                continue;
            }
            Event::ListTouched(kind) => {
                lists.reload(kind, shards).await?;
                continue;
            }
            Event::NamesLookedUp => {
                names.follow(routes, shards).await?;
                continue;
            }
            Event::Ended(error) => return Err(error.into()),
        };
        state.set(State::Draining);
        let timeout = config.drain_timeout;
        systemd::stopping(timeout);
        return Ok(
            drain::drain(draining, timeout, offer, signals, lists, shards, &watchdog).await?,
        );
    }
}

/// Says if the limit of descriptors cannot hold all flows, or as many connections as there may be.
fn check_descriptors(config: &Config, shards: usize) {
    let limit = host::raise_descriptor_limit();
    let needed = descriptors_with_flows(config, shards);
    if needed > limit {
        warn!(
            limit,
            needed,
            max_flows = config.max_flows,
            "the limit of open files is too small for --max-flows: raise it (systemd: LimitNOFILE, Docker: --ulimit \
             nofile) or lower --max-flows"
        );
    }
    let needed = descriptors_with_connections(config, shards);
    if needed > limit {
        warn!(
            limit,
            needed,
            max_connections = config.limits.connections,
            "the limit of open files is too small for --max-connections: raise it (systemd: LimitNOFILE, Docker: \
             --ulimit nofile) or lower --max-connections"
        );
    }
}

/// The descriptors that the process takes when it has all the UDP flows it may have.
pub(crate) fn descriptors_with_flows(config: &Config, shards: usize) -> u64 {
    let mut needed = host::descriptors(shards, sockets(config));
    if config.protocols.udp() {
        needed += config.max_flows as u64;
        if config.listen_transparent {
            needed += REDIRECTED_MAX as u64;
        }
    }
    needed
}

/// The descriptors that the process takes when it has all the TCP connections it may have; without a limit, those that it
/// takes without any.
pub(crate) fn descriptors_with_connections(config: &Config, shards: usize) -> u64 {
    let max = config.limits.connections.filter(|_| config.protocols.tcp());
    // Each takes two: the balancer's side and the server's.
    let connections = max.map_or(0, |max| 2 * u64::from(max.get()));
    host::descriptors(shards, sockets(config)) + connections
}

/// How many sockets each shard listens on.
pub(crate) fn sockets(config: &Config) -> usize {
    let protocols = [config.protocols.tcp(), config.protocols.udp()];
    let protocols = protocols.into_iter().filter(|on| *on).count();
    protocols * config.frontends.len()
}

/// This shard's part of a number that is for the whole process.
fn share(total: usize, shards: usize, index: usize) -> usize {
    (total / shards + usize::from(index < total % shards)).max(1)
}

/// What the process does, in one line when it begins to.
fn log_ready(config: &Config, bound: &[Frontend], shards: usize) {
    info!(
        listen_addr = spans(bound.iter().map(|frontend| frontend.listen.0)),
        ports = bound.len(),
        protocol = config.protocols.name(),
        shards,
        target_v4 = spans(bound.iter().map(|frontend| frontend.targets.v4.into())),
        target_v6 = spans(bound.iter().map(|frontend| frontend.targets.v6.into())),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
}

/// What the process did, in one line at its end.
fn log_totals(shards: &[Arc<ShardMetrics>]) {
    let total = |counter: fn(&ShardMetrics) -> &Counter| metrics::total(shards, counter);
    let (connections_cut, flows_cut) = drain::open(shards);
    info!(
        connections = total(|m| &m.tcp.accepted),
        flows = total(|m| &m.udp.flows_opened),
        connections_cut,
        flows_cut,
        flows_evicted = total(|m| &m.udp.flows_evicted),
        bytes_upstream = total(|m| &m.tcp.bytes_upstream) + total(|m| &m.udp.bytes_upstream),
        bytes_downstream = total(|m| &m.tcp.bytes_downstream) + total(|m| &m.udp.bytes_downstream),
        peers_refused = total(|m| &m.tcp.peers_refused) + total(|m| &m.udp.peers_refused),
        header_errors = total(|m| &m.tcp.header_errors) + total(|m| &m.udp.header_errors),
        unbound = total(|m| &m.udp.unbound),
        sources_refused = total(|m| &m.tcp.sources_refused) + total(|m| &m.udp.sources_refused),
        destinations_refused =
            total(|m| &m.tcp.destinations_refused) + total(|m| &m.udp.destinations_refused),
        clients_denied = total(|m| &m.tcp.refused.denied) + total(|m| &m.udp.refused.denied),
        clients_over_count =
            total(|m| &m.tcp.refused.over_count) + total(|m| &m.udp.refused.over_count),
        clients_over_rate =
            total(|m| &m.tcp.refused.over_rate) + total(|m| &m.udp.refused.over_rate),
        ended_denied = total(|m| &m.tcp.ended_denied) + total(|m| &m.udp.ended_denied),
        ended_idle = total(|m| &m.tcp.ended_idle),
        dial_errors = total(|m| &m.tcp.dial_errors) + total(|m| &m.udp.dial_errors),
        upstream_errors = total(|m| &m.udp.upstream_errors),
        downstream_errors = total(|m| &m.udp.downstream_errors),
        ports_replaced = total(|m| &m.tcp.ports_replaced) + total(|m| &m.udp.ports_replaced),
        "stopped"
    );
}
