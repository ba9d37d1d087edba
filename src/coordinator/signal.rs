//! Signals as something to wait for.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::shard::readiness::{Readiness, Watched};

/// The signals this process listens to.
pub(super) struct Signals {
    reload: Watched<UnixStream>,
    stop: Watched<UnixStream>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

// === impl Signals ===

impl Signals {
    /// Takes the signals over from their default actions.
    pub(super) fn new(readiness: &Readiness) -> io::Result<Self> {
        Ok(Self {
            reload: socket(readiness, &[SIGHUP])?,
            stop: socket(readiness, &[SIGTERM, SIGINT])?,
        })
    }

    /// Waits for the next signal. Several of one kind that came meanwhile count as one.
    pub(super) async fn next(&self) -> Signal {
        futures_lite::future::or(
            received(&self.stop, Signal::Stop),
            received(&self.reload, Signal::Reload),
        )
        .await
    }
}

/// A socket that gets a byte with each of these signals.
fn socket(readiness: &Readiness, signals: &[i32]) -> io::Result<Watched<UnixStream>> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for &signal in signals {
        pipe::register(signal, writer.try_clone()?)?;
    }
    readiness.watch_input(reader)
}

async fn received(socket: &Watched<UnixStream>, signal: Signal) -> Signal {
    socket.readable().await;
    while (&**socket).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    socket.drained();
    signal
}
