//! Keeps the coordinator's executor from sleeping through what it has been told.
//!
//! The shards wake it whenever they take in a command, which can send it to sleep although tasks are ready to run (see the
//! crate's page). That goes for the task that a timer has woken, too; so there are always two, of which the other comes to
//! the rescue.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// How long it sleeps at most while it talks with shards is half of this …
const HEARTBEAT: Duration = Duration::from_secs(1);

/// … and half of this while it does not. Then nobody wakes it but the kernel, and this is for what nobody has thought of: it
/// is too rare to cost anything.
const SLOW_HEARTBEAT: Duration = Duration::from_secs(60);

/// How long it stays awake after it has last said something. A shard that does not answer is spoken to again sooner.
const LENGTH: Duration = Duration::from_secs(5);

/// Held while there is something to be told. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Vigil(Rc<State>);

#[derive(Default)]
struct State {
    until: Cell<Option<Instant>>,
}

// === impl Vigil ===

impl Vigil {
    /// The coordinator has spoken to a shard. Must be called on its executor.
    pub(super) fn keep(&self) {
        let state = &self.0;
        let was_held = state.until.replace(Some(Instant::now() + LENGTH)).is_some();
        if was_held {
            return;
        }
        for start in [HEARTBEAT, HEARTBEAT / 2] {
            let state = Rc::clone(state);
            glommio::spawn_local(async move {
                let mut wait = start;
                while state
                    .until
                    .get()
                    .is_some_and(|until| Instant::now() < until)
                {
                    Timer::new(wait).await;
                    wait = HEARTBEAT;
                }
                state.until.set(None);
            })
            .detach();
        }
    }
}

/// Never lets this executor sleep for ever.
pub(super) fn keep_turning() {
    for start in [SLOW_HEARTBEAT, SLOW_HEARTBEAT / 2] {
        glommio::spawn_local(async move {
            let mut wait = start;
            loop {
                Timer::new(wait).await;
                wait = SLOW_HEARTBEAT;
            }
        })
        .detach();
    }
}
