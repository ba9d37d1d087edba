//! The proxy's log, while it is written.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;
use crate::namespace::TestResult;

/// JSON lines as they come. A line that is none becomes a string.
pub(super) struct Log {
    lines: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Value>,
    ended: bool,
}

// === impl Log ===

impl Log {
    pub(super) fn read(output: impl Read + Send + 'static) -> Self {
        let lines = Arc::<Shared>::default();
        let shared = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                eprintln!("{line}");
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                shared.state().lines.push(line);
                shared.changed.notify_all();
            }
            shared.state().ended = true;
            shared.changed.notify_all();
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    /// All lines until now.
    pub(super) fn lines(&self) -> Vec<Value> {
        self.lines.state().lines.clone()
    }

    /// The first `count` lines that are wanted, as soon as there are so many.
    #[track_caller]
    pub(super) fn wait(
        &self,
        count: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> TestResult<Vec<Value>> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lines.state();
        loop {
            let found: Vec<_> = state.lines.iter().filter(|line| wanted(line)).collect();
            if found.len() >= count {
                return Ok(found.into_iter().take(count).cloned().collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let how = if state.ended { "ended" } else { "went on" };
                let found = found.len();
                return Err(format!("the log {how} with {found} of {count} lines wanted").into());
            }
            (state, _) = self
                .lines
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until whoever writes has closed its end, and returns all lines.
    pub(super) fn finish(&mut self) -> Vec<Value> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.lines()
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
