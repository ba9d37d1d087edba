//! Questions of the admin endpoint: which clients are the busiest?
//!
//! It has an executor of its own, and this one does not hear of others' wakers: a socket tells of a question.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::metrics::Tally;
use crate::shard::readiness::{Readiness, Watched};

/// Answers of shards: each gives one, and then the channel ends. None is for a shard that could not count.
pub(crate) type Answers = UnboundedReceiver<Option<Tally>>;

/// Where answers go.
pub(super) type Asker = UnboundedSender<Option<Tally>>;

/// Asks the shards.
#[derive(Debug)]
pub(crate) struct Census {
    questions: SyncSender<Asker>,
    bell: UnixStream,
}

/// Hears of questions.
pub(super) struct Questions {
    questions: Receiver<Asker>,
    bell: Watched<UnixStream>,
}

/// Both ends.
pub(super) fn open(readiness: &Readiness) -> io::Result<(Census, Questions)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let (sender, receiver) = mpsc::sync_channel(1);
    let census = Census {
        questions: sender,
        bell: near,
    };
    let questions = Questions {
        questions: receiver,
        bell: readiness.watch(far)?,
    };
    Ok((census, questions))
}

/// One end, whose questions nobody answers, and what keeps them.
#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
pub(crate) fn unanswered() -> (Census, impl Sized) {
    let (sender, questions) = mpsc::sync_channel(1);
    let (near, far) = UnixStream::pair().expect("a socket");
    let census = Census {
        questions: sender,
        bell: near,
    };
    (census, (questions, far))
}

// === impl Census ===

impl Census {
    /// Asks all shards. If the last question has not been heard yet, there are no answers.
    pub(crate) fn ask(&self) -> Answers {
        let (asker, answers) = unbounded_channel();
        if self.questions.try_send(asker).is_ok() {
            // If there is no room for another byte, the coordinator will find one.
            let _ = (&self.bell).write(b"?");
        }
        answers
    }
}

// === impl Questions ===

impl Questions {
    /// Waits for a question. May be dropped and called again at any time.
    pub(super) async fn next(&self) -> Asker {
        loop {
            if let Ok(asker) = self.questions.try_recv() {
                return asker;
            }
            self.bell.readable().await;
            while (&*self.bell)
                .read(&mut [0; 64])
                .is_ok_and(|count| count > 0)
            {}
            self.bell.drained();
        }
    }
}
