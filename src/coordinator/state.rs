//! Where the process is in its life, for whoever has to tell others (an admin endpoint, a supervisor).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A part of the process's life. They follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not all shards listen so far.
    Starting,
    /// All shards listen.
    Ready,
    /// It takes no new clients, and ends when the last ones have left.
    Draining,
}

/// The state, to be read from any thread. Clones share it; the coordinator alone changes it.
#[derive(Clone, Debug, Default)]
pub struct SharedState(Arc<AtomicU8>);

// === impl State ===

impl State {
    /// How it is called in what people and programs read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

// === impl SharedState ===

impl SharedState {
    /// The state at this moment.
    pub fn get(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }

    pub(crate) fn set(&self, state: State) {
        // Nothing else is shared through it.
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_tell_what_was_set_last() {
        let state = SharedState::default();
        let clone = state.clone();
        assert_eq!(clone.get(), State::Starting);
        for set in [State::Ready, State::Draining] {
            state.set(set);
            assert_eq!(clone.get(), set);
        }
    }
}
