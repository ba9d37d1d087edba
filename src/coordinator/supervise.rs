//! What the coordinator does while the shards run.

use futures_lite::future::or;
use tracing::info;

use super::census::{Asker, Questions};
use super::drain::{self, Heard};
use super::lists::{Kind, ListFiles};
use super::names::Names;
use super::routes::Routes;
use super::shards::Shards;
use super::signal::{Signal, Signals};
use super::state::{SharedState, State};
use super::takeover::Offer;
use super::watchdog::Watchdog;
use super::{RunError, ShardsError};
use crate::access_log::AccessLogThread;
use crate::config::Config;
use crate::shard::drain::Draining;
use crate::systemd;

/// What may change while the process runs.
pub(super) struct Charges<'a> {
    pub(super) lists: &'a mut ListFiles,
    pub(super) names: &'a mut Names,
    pub(super) routes: &'a mut Routes,
    pub(super) shards: &'a mut Shards,
    pub(super) access_log: Option<&'a AccessLogThread>,
    /// Of the admin endpoint, if there is one.
    pub(super) questions: Option<&'a Questions>,
}

/// Waits for signals, changed files, looked-up names and broken shards, until everybody has left.
pub(super) async fn supervise(
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
        questions,
    } = charges;
    enum Event {
        Signal(Signal),
        ListTouched(Kind),
        NamesLookedUp,
        Ended(ShardsError),
        TakenOver,
        Asked(Asker),
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
        let asked = async { Event::Asked(asked(questions).await) };
        let event = or(or(ended, signal), or(taken_over, or(touched, asked)));
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
                routes.mend();
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
            Event::Asked(asker) => {
                shards.count(&asker);
                continue;
            }
            Event::Ended(error) => return Err(error.into()),
        };
        state.set(State::Draining);
        let timeout = config.drain_timeout;
        systemd::stopping(timeout);
        let heard = Heard {
            access_log,
            offer,
            signals,
            questions,
            watchdog: &watchdog,
        };
        return Ok(drain::drain(draining, timeout, heard, lists, shards).await?);
    }
}

/// Waits for a question of the admin endpoint.
pub(super) async fn asked(questions: Option<&Questions>) -> Asker {
    match questions {
        Some(questions) => questions.next().await,
        None => std::future::pending().await,
    }
}
