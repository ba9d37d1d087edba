//! The shards as the coordinator sees them.

mod census;
mod draining;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::ExecutorJoinHandle;
use glommio::channels::shared_channel::{self, ConnectedSender, SharedSender};

use super::vigil::Vigil;
use crate::addr::Targets;
use crate::host;
use crate::metrics::ShardMetrics;
use crate::shard::deadline::within;
use crate::shard::doorbell::Doorbell;
use crate::shard::readiness::{Readiness, Watched};
use crate::shard::{self, Blueprint, Command, ShardError};
use crate::subnets::SubnetSet;

/// Commands on their way to one shard. They are rare.
const COMMANDS_MAX: usize = 16;

/// How long a shard may leave so many lying. One that does is broken, or its host is so busy that nobody is served.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the end waits for a shard to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How long a shard has to answer a command before it is nudged, again and again. See [`Shards::watch`].
const NUDGE_AFTER: Duration = Duration::from_millis(100);

/// All shards of the process.
pub(super) struct Shards(Vec<Shard>);

struct Shard {
    index: usize,
    /// Gets a byte when the shard listens and one for each command it has taken in, and ends with it.
    lifeline: Watched<UnixStream>,
    /// Commands without an answer so far.
    unanswered: Cell<usize>,
    commands: Option<ConnectedSender<Command>>,
    handle: Cell<Option<ExecutorJoinHandle<Result<(), ShardError>>>>,
    metrics: Arc<ShardMetrics>,
    bell: Doorbell,
    vigil: Vigil,
}

/// The shard's ends of what ties it to the coordinator, beside the channel.
pub(super) struct Ends {
    pub(super) lifeline: UnixStream,
    pub(super) bell: Doorbell,
}

/// A shard that could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// Before it listened, or later, or because it does not do what it is told.
    #[error("shard {index} has ended: {reason}")]
    Ended {
        /// Its number.
        index: usize,
        /// Why.
        reason: String,
    },
    /// Its thread, or the channel to it, could not be made.
    #[error("cannot start shard {index}: {reason}")]
    Start {
        /// Its number.
        index: usize,
        /// Why.
        reason: String,
    },
}

// === impl Shards ===

impl Shards {
    /// Starts a shard for each blueprint and waits until all of them listen and answer.
    pub(super) async fn start(
        readiness: &Readiness,
        count: usize,
        mut blueprint: impl FnMut(usize, Ends, Arc<ShardMetrics>) -> Blueprint,
    ) -> Result<Self, ShardsError> {
        let mut shards = Vec::with_capacity(count);
        let mut senders = Vec::with_capacity(count);
        let vigil = Vigil::default();
        for index in 0..count {
            let failed = |error: &dyn std::fmt::Display| ShardsError::Start {
                index,
                reason: error.to_string(),
            };
            let (lifeline, far_end) = lifeline(readiness).map_err(|error| failed(&error))?;
            let bell = Doorbell::new().map_err(|error| failed(&error))?;
            let ends = Ends {
                lifeline: far_end,
                bell: bell.clone(),
            };
            let (sender, receiver) = shared_channel::new_bounded(COMMANDS_MAX);
            let metrics = Arc::<ShardMetrics>::default();
            let blueprint = blueprint(index, ends, Arc::clone(&metrics));
            let handle = shard::spawn(blueprint, receiver).map_err(|error| failed(&error))?;
            senders.push(sender);
            shards.push(Shard {
                index,
                lifeline,
                // That it listens is its first answer.
                unanswered: Cell::new(1),
                commands: None,
                handle: Cell::new(Some(handle)),
                metrics,
                bell,
                vigil: vigil.clone(),
            });
        }
        for (shard, sender) in shards.iter_mut().zip(senders) {
            shard.connect(sender).await?;
        }
        for shard in &mut shards {
            shard.nudge();
            while !shard.has_answered().await? {
                shard.nudge();
            }
        }
        Ok(Self(shards))
    }

    /// Sends a new allow list to all.
    pub(super) async fn allow(&mut self, allowed: &Arc<SubnetSet>) -> Result<(), ShardsError> {
        for shard in &mut self.0 {
            shard.send(Command::Allow(Arc::clone(allowed))).await?;
        }
        Ok(())
    }

    /// Sends a new deny list to all.
    pub(super) async fn deny(&mut self, denied: &Arc<SubnetSet>) -> Result<(), ShardsError> {
        for shard in &mut self.0 {
            shard.send(Command::Deny(Arc::clone(denied))).await?;
        }
        Ok(())
    }

    /// Sends a new list of allowed destinations to all.
    pub(super) async fn allow_destinations(
        &mut self,
        destinations: &Arc<SubnetSet>,
    ) -> Result<(), ShardsError> {
        for shard in &mut self.0 {
            let command = Command::AllowDestinations(Arc::clone(destinations));
            shard.send(command).await?;
        }
        Ok(())
    }

    /// Tells all the addresses of the servers, one for each frontend.
    pub(super) async fn retarget(&mut self, targets: &Arc<[Targets]>) -> Result<(), ShardsError> {
        for shard in &mut self.0 {
            shard.send(Command::Retarget(Arc::clone(targets))).await?;
        }
        Ok(())
    }

    /// Waits until a shard ends, which none does unasked, and tells why. May be dropped and called again at any time.
    ///
    /// Meanwhile it nudges shards that do not answer a command: glommio 0.9 can go to sleep with tasks to run when another
    /// executor's wake-up, such as the one that comes with a command, arrives at the wrong moment (see the crate's page).
    pub(super) async fn watch(&self) -> ShardsError {
        loop {
            match within(NUDGE_AFTER, self.ended()).await {
                Some(at) => return self.0[at].end(),
                None => self
                    .0
                    .iter()
                    .filter(|shard| shard.unanswered.get() > 0)
                    .for_each(Shard::nudge),
            }
            if self.0.iter().all(|shard| shard.unanswered.get() == 0) {
                let at = self.ended().await;
                return self.0[at].end();
            }
        }
    }

    /// Waits until a shard ends, and tells its place.
    async fn ended(&self) -> usize {
        poll_fn(|cx| {
            for shard in &self.0 {
                shard.lifeline.register(cx);
            }
            let ended = self.0.iter().position(Shard::has_ended);
            ended.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Ends all shards and waits for their threads, though not for one that does not listen any more.
    pub(super) async fn stop(mut self) {
        // All have it before the first is waited for. A second time does no harm.
        for shard in &self.0 {
            shard.tell(Command::Stop);
        }
        for shard in &mut self.0 {
            shard.stop().await;
        }
    }

    /// What the shards have counted.
    pub(super) fn metrics(&self) -> Vec<Arc<ShardMetrics>> {
        let metrics = self.0.iter().map(|shard| Arc::clone(&shard.metrics));
        metrics.collect()
    }
}

// === impl Shard ===

impl Shard {
    async fn connect(&mut self, sender: SharedSender<Command>) -> Result<(), ShardsError> {
        self.vigil.keep();
        while !self.has_answered().await? {}
        // The shard waits for the other end of its channel, unless it ends first.
        let ended = async {
            self.lifeline.readable().await;
            None
        };
        self.commands = or(async { Some(sender.connect().await) }, ended).await;
        if self.commands.is_none() {
            return Err(self.end());
        }
        Ok(())
    }

    /// Waits until everything is answered, for as long as it takes to lose patience.
    async fn has_answered(&mut self) -> Result<bool, ShardsError> {
        let answered = poll_fn(|cx| {
            self.lifeline.register(cx);
            match (self.has_ended(), self.unanswered.get()) {
                (true, _) => Poll::Ready(false),
                (false, 0) => Poll::Ready(true),
                (false, _) => Poll::Pending,
            }
        });
        match within(NUDGE_AFTER, answered).await {
            Some(false) => Err(self.end()),
            Some(true) => Ok(true),
            None => Ok(false),
        }
    }

    /// Sends a command. That the shard has ended is no error here: its lifeline tells.
    async fn send(&mut self, command: Command) -> Result<(), ShardsError> {
        let Some(commands) = &self.commands else {
            return Ok(());
        };
        self.vigil.keep();
        if within(PATIENCE, commands.send(command)).await.is_none() {
            return Err(ShardsError::Ended {
                index: self.index,
                reason: format!(
                    "it has left its commands lying for {} s",
                    PATIENCE.as_secs()
                ),
            });
        }
        self.sent();
        Ok(())
    }

    /// A command is in the channel.
    fn sent(&self) {
        self.unanswered.set(self.unanswered.get() + 1);
        self.bell.ring();
    }

    /// Has the shard answer, unless so many commands are lying there that one more would make no difference.
    fn nudge(&self) {
        self.tell(Command::Nudge);
    }

    /// Sends a command if there is room for one. Otherwise it is dropped.
    fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands
            && commands.try_send(command).is_ok()
        {
            self.vigil.keep();
            self.sent();
        }
    }

    /// Tells the shard to stop, as often as it takes, and waits until it has.
    async fn stop(&mut self) {
        let deadline = Instant::now() + STOP_MAX;
        while !self.has_ended() && Instant::now() < deadline {
            if self.send(Command::Stop).await.is_err() {
                break;
            }
            within(NUDGE_AFTER, self.lifeline.readable()).await;
        }
        if self.has_ended() {
            self.end();
        } else {
            tracing::warn!(shard = self.index, "it does not stop, and is left behind");
        }
    }

    /// Takes in answers. Whether the far end of the lifeline is gone.
    fn has_ended(&self) -> bool {
        loop {
            match (&*self.lifeline).read(&mut [0; 8]) {
                Ok(0) => return true,
                Ok(answers) => {
                    let unanswered = self.unanswered.get().saturating_sub(answers);
                    self.unanswered.set(unanswered);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lifeline.drained();
                    return false;
                }
                Err(_) => return true,
            }
        }
    }

    /// Joins the thread of a shard that has ended.
    fn end(&self) -> ShardsError {
        let reason = self.join().err();
        ShardsError::Ended {
            index: self.index,
            reason: reason.unwrap_or_else(|| "nobody asked it to".to_owned()),
        }
    }

    /// As [`Shard::end`]. Fails, once, with the reason if it is more than a command.
    fn join(&self) -> Result<(), String> {
        match self.handle.take().map(ExecutorJoinHandle::join) {
            Some(Ok(Ok(()))) | None => Ok(()),
            Some(Ok(Err(error))) => Err(error.to_string()),
            Some(Err(error)) => Err(host::executor_failure(&error)),
        }
    }
}

fn lifeline(readiness: &Readiness) -> io::Result<(Watched<UnixStream>, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((readiness.watch(near)?, far))
}
