//! A line that says how far a bench is.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Writes to standard error: on a terminal one line in place, otherwise a line for each step.
#[derive(Debug)]
pub(crate) struct Progress {
    total: usize,
    done: usize,
    started: Instant,
    in_place: bool,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            done: 0,
            started: Instant::now(),
            in_place: io::stderr().is_terminal(),
        }
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &str) {
        let left = self.left().map_or_else(String::new, |left| {
            let seconds = left.as_secs();
            format!(", {}:{:02} left", seconds / 60, seconds % 60)
        });
        self.done += 1;
        let line = format!("[{}/{}{left}] {what}", self.done, self.total);
        let (before, after) = if self.in_place {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        self.write(&format!("{before}{line}{after}"));
    }

    /// There is something to say that is to stay.
    pub(crate) fn say(&self, what: &str) {
        let before = if self.in_place { "\r\x1b[K" } else { "" };
        self.write(&format!("{before}{what}\n"));
    }

    /// All steps are done.
    pub(crate) fn finish(&self) {
        if self.in_place {
            self.write("\r\x1b[K");
        }
    }

    /// How long it takes if it goes on as it went.
    fn left(&self) -> Option<Duration> {
        let share = self.total.saturating_sub(self.done) as f64 / self.done as f64;
        (self.done > 0).then(|| self.started.elapsed().mul_f64(share))
    }

    /// That nobody may be listening is no reason to stop.
    fn write(&self, text: &str) {
        let mut stderr = io::stderr();
        let _ = stderr.write_all(text.as_bytes());
        let _ = stderr.flush();
    }
}
