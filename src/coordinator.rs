//! The coordinator: starts everything, keeps the lists, takes signals, ends everything.
//!
//! It runs on an executor of its own, which is not pinned and has next to nothing to do while the shards work.

mod descriptors;
mod drain;
mod error;
mod list_file;
mod lists;
mod names;
mod report;
mod routes;
mod shards;
mod signal;
pub(crate) mod state;
mod supervise;
mod takeover;
mod watchdog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use tracing::{info, warn};

use self::descriptors::check_descriptors;
pub(crate) use self::descriptors::{descriptors_with_connections, descriptors_with_flows, sockets};
pub use self::error::RunError;
pub use self::list_file::ListError;
pub(crate) use self::list_file::load as load_list_once;
use self::lists::ListFiles;
pub use self::names::NameError;
use self::names::Names;
pub(crate) use self::names::{Resolved, resolve};
use self::report::{log_ready, log_totals};
use self::routes::Routes;
pub(crate) use self::routes::route_plan;
use self::shards::Shards;
pub use self::shards::ShardsError;
use self::signal::{Signal, Signals};
pub use self::state::{SharedState, State};
use self::supervise::{Charges, supervise};
use self::takeover::{Claims, Offer};
pub use crate::access_log::AccessLogError;
use crate::access_log::{self, AccessLog, AccessLogThread};
use crate::addr::{Frontend, spans};
pub use crate::admin::AdminError;
use crate::admin::{self, Facts, Overview};
use crate::config::Config;
use crate::cpus;
use crate::host;
use crate::limits::Limits;
use crate::listen::{self, Manner};
pub use crate::listen::{BindError, InheritError, Inherited};
use crate::logging;
use crate::metrics::Counter;
use crate::shard::locality::Locality;
use crate::shard::readiness::Readiness;
use crate::shard::{Blueprint, PREEMPT};
use crate::systemd;
use crate::transparent::Dialer;

/// The longest the coordinator sleeps is half of this.
const HEARTBEAT: Duration = Duration::from_secs(1);

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

/// This shard's part of a number that is for the whole process.
fn share(total: usize, shards: usize, index: usize) -> usize {
    (total / shards + usize::from(index < total % shards)).max(1)
}
