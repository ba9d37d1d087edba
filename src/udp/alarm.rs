//! A timer that one task polls beside its sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// Rings once at a time it was set to. Costs a timer only while it is set.
#[derive(Clone, Default)]
pub(crate) struct Alarm(Rc<State>);

#[derive(Default)]
struct State {
    set: Cell<bool>,
    ringing: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

// === impl Alarm ===

impl Alarm {
    /// Sets the alarm, unless it is set already. Must be called on an executor.
    pub(crate) fn set(&self, at: Instant, now: Instant) {
        if self.0.set.replace(true) {
            return;
        }
        // Not more often than ten times a second, however short the times are that it is set to.
        let wait = at
            .saturating_duration_since(now)
            .max(Duration::from_millis(100));
        let state = Rc::clone(&self.0);
        glommio::spawn_local(async move {
            Timer::new(wait).await;
            state.set.set(false);
            state.ringing.set(true);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        })
        .detach();
    }

    /// Whether it rings.
    pub(crate) fn is_ringing(&self) -> bool {
        self.0.ringing.get()
    }

    /// Stops it ringing.
    pub(crate) fn stop(&self) {
        self.0.ringing.set(false);
    }

    /// Has the task of `cx` woken when it rings.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.0.waker.set(Some(cx.waker().clone()));
    }
}
