//! The end of the process: it stops listening, and goes when the last client has, or when the time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::Timer;
use tracing::{info, warn};

use super::census::{Asker, Questions};
use super::lists::{Kind, ListFiles};
use super::shards::{Shards, ShardsError};
use super::signal::{Signal, Signals};
use super::supervise::asked;
use super::takeover::Offer;
use super::watchdog::Watchdog;
use crate::access_log::AccessLogThread;
use crate::metrics::{ShardMetrics, total};
use crate::shard::drain::Draining;
use crate::systemd;

/// How often systemd is told how much longer it takes, since it can be told of 71 minutes only.
const TOLD_EVERY: Duration = Duration::from_secs(30 * 60);

/// Whom it listens to meanwhile.
pub(super) struct Heard<'a> {
    /// Which is opened anew on SIGHUP.
    pub(super) access_log: Option<&'a AccessLogThread>,
    pub(super) offer: &'a Offer,
    pub(super) signals: &'a Signals,
    pub(super) questions: Option<&'a Questions>,
    pub(super) watchdog: &'a Watchdog,
}

/// Lets everybody finish, for `timeout` at the longest. Commands of all kinds are still obeyed.
///
/// # Errors
///
/// If a shard ends otherwise than by draining.
pub(super) async fn drain(
    draining: Draining,
    timeout: Duration,
    heard: Heard<'_>,
    lists: &mut ListFiles,
    shards: &mut Shards,
) -> Result<(), ShardsError> {
    enum Event {
        Drained(Result<(), ShardsError>),
        Signal(Signal),
        ListTouched(Kind),
        TimeIsOver,
        StillDraining,
        TakenOver,
        Asked(Asker),
    }
    let Heard {
        access_log,
        offer,
        signals,
        questions,
        watchdog,
    } = heard;
    if timeout.is_zero() {
        return Ok(());
    }
    let deadline = Instant::now() + timeout;
    // What another process has as well does not count as closed.
    offer.close_tcp();
    shards.drain(draining).await?;
    shards.answered().await;
    let (connections, flows) = open(&shards.metrics());
    let drain_timeout = timeout.as_secs_f32();
    info!(connections, flows, drain_timeout, "draining");
    systemd::status(&format!(
        "draining {connections} connections and {flows} flows"
    ));
    let mut told_again_at = Instant::now() + TOLD_EVERY;
    loop {
        let list_touched = async { Event::ListTouched(lists.changed().await) };
        let signal = async { Event::Signal(signals.next().await) };
        let drained = async { Event::Drained(shards.drained().await) };
        let time_is_over = async {
            Timer::new(deadline.saturating_duration_since(Instant::now())).await;
            Event::TimeIsOver
        };
        let still_draining = async {
            Timer::new(told_again_at.saturating_duration_since(Instant::now())).await;
            Event::StillDraining
        };
        let taken_over = async {
            offer.taken().await;
            Event::TakenOver
        };
        let asked = async { Event::Asked(asked(questions).await) };
        let event = or(or(drained, signal), or(list_touched, time_is_over));
        let event = or(event, or(asked, still_draining));
        let beat = async { match watchdog.beat(shards).await {} };
        match or(event, or(taken_over, beat)).await {
            Event::Drained(result) => return result,
            Event::Signal(Signal::Stop) => {
                info!("stopping at once, as told again");
                return Ok(());
            }
            Event::Signal(Signal::Reload) => {
                info!("reloading");
                if let Some(access_log) = access_log {
                    access_log.reopen();
                }
                lists.reload_all(shards).await?;
            }
            Event::ListTouched(kind) => lists.reload(kind, shards).await?,
            Event::Asked(asker) => shards.count(&asker),
            Event::StillDraining => {
                systemd::still_stopping(deadline.saturating_duration_since(Instant::now()));
                told_again_at += TOLD_EVERY;
            }
            Event::TakenOver => {
                info!("another instance has taken over");
                shards.drain(Draining::Relieved).await?;
            }
            Event::TimeIsOver => {
                warn!("--drain-timeout is over, what is left is cut");
                return Ok(());
            }
        }
    }
}

/// How many connections and flows are open.
pub(super) fn open(shards: &[Arc<ShardMetrics>]) -> (u64, u64) {
    // What ends is read first: a shard may count on meanwhile, and none ends that has not begun.
    let closed = total(shards, |m| &m.tcp.closed);
    let connections = total(shards, |m| &m.tcp.accepted).saturating_sub(closed);
    let closed = total(shards, |m| &m.udp.flows_closed);
    let flows = total(shards, |m| &m.udp.flows_opened).saturating_sub(closed);
    (connections, flows)
}
