//! `glommproxy top`: what a running proxy does, in a terminal, refreshed in place.
//!
//! It asks the proxy's admin endpoint for its status and its busiest clients, again and again, and shows what has changed
//! between two answers.

mod ask;
mod keys;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use self::ask::{AskError, Clients, Status};
use self::keys::Keys;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why there is nothing to show. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The proxy does not answer.
    #[error("top: {0}")]
    Ask(#[from] AskError),
    /// The text cannot be written.
    #[error("top: cannot write to stdout: {0}")]
    Write(#[from] io::Error),
}

/// What a proxy said at one time.
struct Look {
    at: Instant,
    status: Status,
    /// None if it has none to tell.
    clients: Option<Clients>,
}

/// Shows the proxy with this admin address until `q` or Ctrl-C is pressed, or once.
///
/// # Errors
///
/// If the first answer does not come, or if nobody reads.
pub fn run(admin: SocketAddr, once: bool) -> Result<(), TopError> {
    let once = once || !io::stdout().is_terminal();
    let mut before = Look::take(admin)?;
    if once {
        thread::sleep(INTERVAL);
        let text = screen::text(admin, &before, &Look::take(admin)?);
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    let _keys = Keys::heed();
    loop {
        thread::sleep(INTERVAL);
        let text = match Look::take(admin) {
            Ok(now) => {
                let text = screen::text(admin, &before, &now);
                before = now;
                text
            }
            // It may be back soon.
            Err(error) => format!("{error}\n"),
        };
        screen::show(&text)?;
    }
}

// === impl Look ===

impl Look {
    fn take(admin: SocketAddr) -> Result<Self, AskError> {
        // The clients last: a proxy that does not answer, or a stranger, is told by the first question.
        let status = Status::ask(admin)?;
        let at = Instant::now();
        let clients = Clients::ask(admin)?;
        Ok(Self {
            at,
            status,
            clients,
        })
    }
}
