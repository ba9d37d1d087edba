//! Signals as something to wait for.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::Timer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::pipe;
use tracing::warn;

use super::pace::Pace;
use crate::shard::readiness::{Readiness, Watched};

/// How often a signal without a meaning is told of, at most.
const UNKNOWN_EVERY: Duration = Duration::from_secs(1);

/// The signals this process listens to.
pub(super) struct Signals {
    reload: Watched<UnixStream>,
    stop: Watched<UnixStream>,
    /// Those that mean something to other programs, and by default end this one with its routes left behind.
    unknown: Watched<UnixStream>,
    reloads: RefCell<Pace>,
    /// When the reload began that was told of last.
    reloading_since: Cell<Option<Instant>>,
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
            unknown: socket(readiness, &[SIGUSR1, SIGUSR2])?,
            reloads: RefCell::default(),
            reloading_since: Cell::new(None),
        })
    }

    /// Waits for the next signal. Several of one kind that came meanwhile count as one, and reloads rest in between, so
    /// that a storm of them is no more work than the [`Pace`] allows. May be dropped and called again at any time.
    pub(super) async fn next(&self) -> Signal {
        // Whoever asks for the next one has done what the last one said.
        if let Some(began) = self.reloading_since.take() {
            self.reloads.borrow_mut().worked(began.elapsed());
        }
        let signal = or(
            self.next_stop(),
            or(self.next_reload(), self.warn_of_unknown()),
        )
        .await;
        if signal == Signal::Reload {
            self.reloading_since.set(Some(Instant::now()));
        }
        signal
    }

    /// Whether the next signal will be one to stop. Asks the kernel: it may have come while nothing was waited for.
    pub(super) fn is_told_to_stop(&self) -> bool {
        let mut stop = [PollFd::new(&self.stop, PollFlags::IN)];
        // EINTR, the one error there can be, says that nothing was there either (poll(2)).
        poll(&mut stop, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    async fn next_stop(&self) -> Signal {
        received(&self.stop).await;
        Signal::Stop
    }

    async fn next_reload(&self) -> Signal {
        self.reload.readable().await;
        let rest = self.reloads.borrow().rest();
        if !rest.is_zero() {
            Timer::new(rest).await;
        }
        received(&self.reload).await;
        Signal::Reload
    }

    async fn warn_of_unknown(&self) -> Signal {
        loop {
            received(&self.unknown).await;
            warn!(
                "SIGUSR1 and SIGUSR2 mean nothing here: SIGHUP reads lists and names again and reopens the access log, \
                 SIGTERM ends"
            );
            Timer::new(UNKNOWN_EVERY).await;
        }
    }
}

/// A socket that gets a byte with each of these signals.
fn socket(readiness: &Readiness, signals: &[i32]) -> io::Result<Watched<UnixStream>> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for &signal in signals {
        pipe::register(signal, writer.try_clone()?)?;
    }
    readiness.watch(reader)
}

async fn received(socket: &Watched<UnixStream>) {
    socket.readable().await;
    while (&**socket).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    socket.drained();
}
