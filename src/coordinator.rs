//! The coordinator: starts everything, keeps the lists, takes signals, ends everything.
//!
//! It runs on an executor of its own, which is not pinned and has next to nothing to do while the shards work.

pub(crate) mod census;
mod descriptors;
mod drain;
mod error;
mod list_file;
mod lists;
mod names;
mod pace;
mod report;
mod routes;
mod shards;
mod signal;
pub(crate) mod state;
mod supervise;
mod takeover;
mod vigil;
mod watchdog;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use futures_lite::future::or;
use glommio::{LocalExecutorBuilder, Placement};
use tracing::{info, warn};

use self::census::Census;
use self::descriptors::check_descriptors;
pub(crate) use self::descriptors::{descriptors_with_connections, descriptors_with_flows, needs};
pub use self::error::RunError;
pub use self::list_file::ListError;
pub(crate) use self::list_file::load as load_list_once;
use self::lists::ListFiles;
pub use self::names::NameError;
use self::names::Names;
pub(crate) use self::names::{Resolved, resolve};
use self::report::{log_ready, log_totals, warn_of_itself};
use self::routes::Routes;
pub(crate) use self::routes::route_plan;
pub use self::shards::ShardsError;
use self::shards::{Ends, Shards};
use self::signal::{Signal, Signals};
pub use self::state::{SharedState, State};
use self::supervise::{Charges, supervise};
use self::takeover::{Claims, Offer};
pub use crate::access_log::AccessLogError;
use crate::access_log::{self, AccessLog, AccessLogThread};
use crate::addr::{Frontend, spans};
pub use crate::admin::AdminError;
use crate::admin::{self, Entrance, Facts, Overview};
use crate::config::{Config, UdpHeader};
use crate::cpus;
use crate::host;
use crate::limits::Limits;
use crate::listen::{self, Manner};
pub use crate::listen::{BindError, InheritError, Inherited};
use crate::logging;
use crate::metrics::Counter;
use crate::panics;
use crate::sandbox::Sandbox;
use crate::shard::locality::Locality;
use crate::shard::readiness::Readiness;
use crate::shard::{Blueprint, NO_POOL, PREEMPT};
use crate::systemd;
use crate::tcp::Lobbies;
use crate::transparent::{Dialer, congestion};
use crate::udp::handover;

/// Runs the proxy until a signal ends it, and everybody has left. It listens with the sockets it has inherited, and on all
/// other addresses with its own. The sandbox is closed when it is ready.
///
/// # Errors
///
/// Whatever keeps it from starting, or ends it early. What was set up is taken down first.
pub fn run(config: &Config, inherited: Inherited, sandbox: Sandbox) -> Result<(), RunError> {
    host::check(needs(config, config.shards.count()))?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("coordinator")
        .ring_depth(64)
        .io_memory(64 << 10)
        .preempt_timer(PREEMPT)
        .blocking_thread_pool_placement(NO_POOL)
        .make()
        .map_err(|error| RunError::Executor(host::executor_failure(&error)))?;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        executor.run(coordinate(config, inherited, sandbox))
    }));
    // Whatever a panic led to, it says more.
    match (panics::fatal(), ran) {
        (Some(fatal), _) => Err(fatal.into()),
        (None, Ok(result)) => result,
        (None, Err(panic)) => resume_unwind(panic),
    }
}

async fn coordinate(
    config: &Config,
    mut inherited: Inherited,
    mut sandbox: Sandbox,
) -> Result<(), RunError> {
    let state = SharedState::default();
    let readiness = Readiness::new()?;
    // It hears of shards through glommio's channels.
    readiness.rest_in_ring();
    let driver = readiness.clone();
    let mut driver = glommio::spawn_local(async move {
        let (locality, busy_nanos) = (Locality::fixed(), Counter::default());
        driver.drive(&locality, &busy_nanos).await
    });
    vigil::keep_turning();

    let panicked = readiness.watch(panics::alarm()?)?;
    // First of all, so that a signal during the start does not leave routes behind.
    let signals = Signals::new(&readiness)?;
    let (mut lists, initial_lists) = ListFiles::open(config, &readiness)?;
    let mut names = Names::new(&config.frontends, &readiness, sandbox.keep_none());
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
        unpaced_loopback: congestion::default_paces(),
    };
    dialer
        .check_privileges(&frontends[0].targets)
        .map_err(|error| RunError::Privileges(error.to_string()))?;
    sandbox.settle(|| dialer.check_privileges(&frontends[0].targets).is_ok());
    let available = cpus::available()?;
    let placement = cpus::placement(&config.shards, &available)?;
    let roams = config.shards.roams(&available);
    check_descriptors(config, placement.len());
    let mut claims = claim(config, &mut inherited)?;
    let manner = Manner {
        shards: placement.len(),
        transparent: config.listen_transparent,
        header: config.udp_header,
        takeover: config.takeover,
    };
    let (listeners, sockets, unsteered) = listen::bind_all(
        &frontends,
        config.protocols.tcp(),
        config.protocols.udp(),
        manner,
        &mut inherited,
    )?;
    if !config.takeover {
        inherited.expect_none_left()?;
    }
    let entrance = open_admin(config, &mut claims, &inherited)?;
    let door = entrance.as_ref().map(Entrance::door).transpose()?;
    let offer = Offer::new(&readiness, sockets, door)?;
    if offer.is_unheard() {
        warn!("64 instances share this network namespace: --takeover cannot find this one");
    }
    let bound: Vec<_> = listeners[0].iter().map(|it| it.frontend).collect();
    warn_of_itself(&bound);
    let access_log = start_access_log(config, &sandbox)?;
    let noting = access_log.as_ref().map(AccessLogThread::log);
    let (census, questions) = config
        .admin
        .map(|_| census::open(&readiness))
        .transpose()?
        .unzip();
    let asked = entrance.zip(census);
    let admin = start_admin(config, &bound, &state, &lists, noting, asked, &sandbox)?;
    let admin_addr = admin.as_ref().map(|(addr, _)| *addr);
    let mut routes = Routes::prepare(config, &frontends)?;
    let udp_shards = manner.udp_shards();
    let mut listeners = listeners.into_iter();
    let by_client = config.udp_header != UdpHeader::V2First;
    let mut handovers = if config.protocols.udp() && udp_shards > 1 && by_client {
        handover::ends(udp_shards)?.into_iter()
    } else {
        Vec::new().into_iter()
    };
    let lobbies = Lobbies::open(placement.len())?;
    let limits = Limits::new(config.limits);
    let late_resets = Arc::default();
    let blueprint = |index: usize, ends: Ends, metrics| Blueprint {
        index,
        cpu: placement[index],
        roams: roams.to_vec(),
        listeners: listeners.next().unwrap_or_default(),
        listen_transparent: config.listen_transparent,
        dialer: dialer.clone(),
        late_resets: Arc::clone(&late_resets),
        lobby: lobbies.end(index),
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
        handover: handovers.next(),
        metrics,
        access_log: noting.cloned(),
        keep: sandbox.keep_for_shard(),
        bell: ends.bell,
        lifeline: ends.lifeline,
    };
    let mut shards = Shards::start(&readiness, placement.len(), blueprint).await?;
    // All threads are there, and all rings.
    let confined = sandbox.close();
    if let Some((_, overview)) = &admin {
        overview.set_sandbox(confined);
        overview.set_shards(shards.metrics());
    }
    // Were it relieved, nobody would listen.
    let stops = claims.are_there() && signals.is_told_to_stop();
    let steered = (!stops).then(|| unsteered.steer()).transpose();
    let result = match steered {
        Ok(None) => {
            info!("stopping: the other instance goes on");
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(Some(steered)) => {
            state.set(State::Ready);
            log_ready(config, &bound, placement.len());
            systemd::ready("listening");
            claims.relieve(&inherited, &steered);
            drop(inherited);

            let charges = Charges {
                lists: &mut lists,
                names: &mut names,
                routes: &mut routes,
                shards: &mut shards,
                access_log: access_log.as_ref(),
                questions: questions.as_ref(),
            };
            let supervised = supervise(config, &state, &offer, &signals, charges);
            let broken = async { Err((&mut driver).await.into()) };
            let panicked = async {
                panicked.readable().await;
                // `run` says what of.
                Ok(())
            };
            or(or(supervised, broken), panicked).await
        }
    };
    state.set(State::Draining);
    let metrics = shards.metrics();
    shards.stop().await;
    log_totals(&metrics);
    routes.remove()?;
    result
}

/// Opens the access log, if asked to.
fn start_access_log(
    config: &Config,
    sandbox: &Sandbox,
) -> Result<Option<AccessLogThread>, RunError> {
    let Some(destination) = &config.access_log else {
        return Ok(None);
    };
    let format = config.access_log_format.or(config.log_format);
    let keep = sandbox.keep_for_access_log();
    let started = access_log::start(destination, logging::chosen(format), keep)?;
    Ok(Some(started))
}

/// Listens for the admin endpoint, if asked to, with the listener of the instance whose place is taken if that has one there.
fn open_admin(
    config: &Config,
    claims: &mut Claims,
    inherited: &Inherited,
) -> Result<Option<Entrance>, RunError> {
    let Some(addr) = config.admin else {
        return Ok(None);
    };
    let listener = claims
        .admin_listener(addr, inherited)
        .map_err(RunError::Takeover)?;
    Ok(Some(Entrance::open(addr, listener)?))
}

/// Serves the admin endpoint, if asked to.
fn start_admin(
    config: &Config,
    bound: &[Frontend],
    state: &SharedState,
    lists: &ListFiles,
    access_log: Option<&AccessLog>,
    asked: Option<(Entrance, Census)>,
    sandbox: &Sandbox,
) -> Result<Option<(SocketAddr, Arc<Overview>)>, RunError> {
    let Some((entrance, census)) = asked else {
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
    let keep = sandbox.keep_none();
    let addr = admin::start(entrance, Arc::clone(&overview), census, keep)?;
    info!(%addr, "admin endpoint");
    if !addr.ip().is_loopback() {
        warn!(%addr, "{}", admin::EXPOSED);
    }
    Ok(Some((addr, overview)))
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
