//! Shards that end one by one, because they were told to drain.

use std::future::poll_fn;
use std::task::Poll;

use super::{NUDGE_AFTER, Shard, Shards, ShardsError};
use crate::shard::Command;
use crate::shard::deadline::within;
use crate::shard::drain::Draining;

impl Shards {
    /// Tells all to drain.
    pub(in crate::coordinator) async fn drain(
        &mut self,
        draining: Draining,
    ) -> Result<(), ShardsError> {
        for shard in &mut self.0 {
            shard.send(Command::Drain(draining)).await?;
        }
        Ok(())
    }

    /// Has all answer.
    pub(in crate::coordinator) fn ask(&self) {
        let running = self.0.iter().filter(|shard| !shard.has_ended());
        running.for_each(Shard::nudge);
    }

    /// Waits until each has answered all it was told, or has ended. May be dropped and called again at any time.
    pub(in crate::coordinator) async fn answered(&self) {
        while within(NUDGE_AFTER, self.until(|shard| !shard.is_silent()))
            .await
            .is_none()
        {
            self.nudge_silent();
        }
    }

    /// Waits until all have ended. May be dropped and called again at any time.
    ///
    /// # Errors
    ///
    /// If one of them did not end by draining.
    pub(in crate::coordinator) async fn drained(&self) -> Result<(), ShardsError> {
        self.answered().await;
        self.until(Shard::has_ended).await;
        for shard in &self.0 {
            let index = shard.index;
            let failed = |reason| ShardsError::Ended { index, reason };
            shard.join().map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until this holds for all.
    async fn until(&self, holds: impl Fn(&Shard) -> bool) {
        poll_fn(|cx| {
            for shard in &self.0 {
                shard.lifeline.register(cx);
            }
            if self.0.iter().all(&holds) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn nudge_silent(&self) {
        let silent = self.0.iter().filter(|shard| shard.is_silent());
        silent.for_each(Shard::nudge);
    }
}

// === impl Shard ===

impl Shard {
    /// Whether it is there and has something left to answer.
    fn is_silent(&self) -> bool {
        !self.has_ended() && self.unanswered.get() > 0
    }
}
