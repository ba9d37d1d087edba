//! One readiness set per shard: which of its sockets can be read or written.
//!
//! glommio 0.9 has no public way to wait for a foreign file descriptor, and its own sockets cost a ring submission for
//! each wait and several system calls for each accept. So a shard keeps every socket of its own, once, in an
//! edge-triggered epoll instance, and a driver task ([`Readiness::drive`]) turns what epoll reports into woken glommio
//! tasks.
//!
//! The driver sleeps in one of two places:
//!
//! - while traffic flows, in `epoll_wait` itself: one system call for each round, where an idle-wake-idle cycle of
//!   glommio costs about four;
//! - once it is quiet, in glommio's ring, so that timers and channels run and a silent shard costs nothing.
//!
//! Which one is decided by the usual gap between events (see [`Pace`]), so that a few datagrams a second do not mean a
//! hundred timed wake-ups a second.

mod pace;
mod queue;
mod slot;
#[cfg(test)]
mod tests;
mod watched;

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use futures_lite::future::{or, poll_fn, yield_now};
use glommio::timer::Timer;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use self::pace::Pace;
pub(crate) use self::queue::ReadyQueue;
use self::slot::{Slot, Slots, Wake};
pub(crate) use self::watched::Watched;
use super::locality::Locality;
use crate::metrics::Counter;
use crate::sys;

/// Events taken from epoll at once.
const EVENTS_MAX: usize = 256;

/// How long the driver sleeps in `epoll_wait` at most.
const EPOLL_SLEEP: Duration = Duration::from_millis(10);

/// How often glommio's timers and channels get a turn while the driver does not sleep in the ring: so late can a timer or
/// a command be on a shard under load.
const TURN: Duration = Duration::from_millis(10);

/// A shard's sockets and their readiness. Clones share the set.
#[derive(Clone)]
pub(crate) struct Readiness(Rc<Set>);

struct Set {
    epoll: OwnedFd,
    slots: RefCell<Slots>,
    /// Tasks with work left, which have paused to let others have their turn.
    paused: RefCell<Vec<Waker>>,
    /// The driver, while it sleeps in the ring.
    sleeper: Cell<Option<Waker>>,
}

// === impl Readiness ===

impl Readiness {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// As `epoll_create1(2)`: EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self(Rc::new(Set {
            epoll,
            slots: RefCell::default(),
            paused: RefCell::default(),
            sleeper: Cell::default(),
        })))
    }

    /// Adds a socket, waited for by one task.
    ///
    /// # Errors
    ///
    /// As `epoll_ctl(2)`: ENOMEM, ENOSPC (`fs.epoll.max_user_watches`).
    pub(crate) fn watch<T: AsFd>(&self, io: T) -> io::Result<Watched<T>> {
        self.add(
            io,
            Wake::Task(Cell::new(None)),
            epoll::EventFlags::IN | epoll::EventFlags::OUT,
        )
    }

    /// Adds a socket of which one task waits for input only. For UDP: there, each datagram that leaves the send buffer
    /// would otherwise be an event.
    ///
    /// # Errors
    ///
    /// As [`Readiness::watch`].
    pub(crate) fn watch_input<T: AsFd>(&self, io: T) -> io::Result<Watched<T>> {
        self.add(io, Wake::Task(Cell::new(None)), epoll::EventFlags::IN)
    }

    /// Adds a socket that shows up in `queue` as `id` when it becomes readable; input only, too.
    ///
    /// # Errors
    ///
    /// As [`Readiness::watch`].
    pub(crate) fn watch_queued<T: AsFd>(
        &self,
        io: T,
        queue: &Rc<ReadyQueue>,
        id: u32,
    ) -> io::Result<Watched<T>> {
        self.add(
            io,
            Wake::Queue {
                queue: Rc::clone(queue),
                id,
            },
            epoll::EventFlags::IN,
        )
    }

    fn add<T: AsFd>(
        &self,
        io: T,
        wake: Wake,
        interest: epoll::EventFlags,
    ) -> io::Result<Watched<T>> {
        let slot = Rc::new(Slot::new(wake));
        let (index, data) = self.0.slots.borrow_mut().insert(Rc::clone(&slot));
        let interest =
            interest | epoll::EventFlags::RDHUP | epoll::EventFlags::PRI | epoll::EventFlags::ET;
        // Built first: its drop gives the slot back if the kernel refuses.
        let watched = Watched {
            io,
            slot,
            index,
            set: self.clone(),
        };
        epoll::add(
            &self.0.epoll,
            &watched.io,
            epoll::EventData::new_u64(data),
            interest,
        )?;
        Ok(watched)
    }

    /// Lets the other tasks have their turn, and goes on in the driver's next round.
    ///
    /// Not simply `yield_now`: a task that wakes itself is behind the driver, which would go to sleep before it; and it
    /// would keep glommio from looking at its timers and channels.
    pub(crate) async fn pause(&self) {
        let mut paused = false;
        poll_fn(|cx| {
            if mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            self.resume_later(cx);
            Poll::Pending
        })
        .await;
    }

    /// Has the task of `cx` woken in the driver's next round. It is about to pause with work left.
    pub(crate) fn resume_later(&self, cx: &Context<'_>) {
        self.0.paused.borrow_mut().push(cx.waker().clone());
        // A timer or a command may have woken the task, and not the driver.
        if let Some(driver) = self.0.sleeper.take() {
            driver.wake();
        }
    }

    /// Wakes tasks as their sockets become ready, and counts the nanoseconds in which it does not sleep, as nobody else
    /// does. Never ends but by an error.
    ///
    /// # Errors
    ///
    /// As `epoll_wait(2)`, except EINTR: none that a caller could mend.
    pub(crate) async fn drive(&self, locality: &Locality, busy_nanos: &Counter) -> io::Error {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut awake_since = Instant::now();
        let mut pace = Pace::new(awake_since);
        let mut resumed = Vec::new();
        let mut last_turn = awake_since;
        // Whether some task has paused with work left: then there is no time to sleep.
        let mut work_left = false;
        loop {
            let before = Instant::now();
            busy_nanos.add(nanos(before - awake_since));
            let ready = if work_left {
                self.wait(&mut events, Duration::ZERO)
            } else if pace.is_brisk(before) {
                self.wait(&mut events, EPOLL_SLEEP)
            } else if or(self.sleep_in_ring(), self.work_is_left()).await {
                last_turn = Instant::now();
                self.wait(&mut events, Duration::ZERO)
            } else {
                // Out of descriptors.
                self.wait(&mut events, EPOLL_SLEEP)
            };
            let now = Instant::now();
            // A look at epoll that does not wait is work.
            awake_since = if work_left { before } else { now };
            match ready {
                Ok(0) => {}
                Ok(count) => {
                    pace.events(now);
                    locality.round(count);
                    self.dispatch(&events);
                }
                Err(error) => return error,
            }
            if now.saturating_duration_since(last_turn) >= TURN {
                give_turn().await;
                last_turn = Instant::now();
                locality.settle(last_turn);
            }
            mem::swap(&mut *self.0.paused.borrow_mut(), &mut resumed);
            for waker in resumed.drain(..) {
                waker.wake();
            }
            // The woken tasks run now; then it is our turn again.
            yield_now().await;
            work_left = !self.0.paused.borrow().is_empty();
        }
    }

    /// Waits until some task has paused with work left, which does not show in epoll. Returns true.
    async fn work_is_left(&self) -> bool {
        poll_fn(|cx| {
            if !self.0.paused.borrow().is_empty() {
                return Poll::Ready(true);
            }
            self.0.sleeper.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, timeout: Duration) -> io::Result<usize> {
        events.clear();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(
            &self.0.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&timeout),
        ) {
            Ok(count) => Ok(count),
            // A signal, or the ring, whose completions may interrupt system calls.
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn dispatch(&self, events: &[epoll::Event]) {
        for event in events {
            let data = event.data.u64();
            let slot = self.0.slots.borrow().get(data);
            if let Some(slot) = slot {
                slot.ready(event.flags);
            }
        }
    }

    /// Sleeps in glommio's ring until epoll has something.
    ///
    /// There is no public call for it. What there is: a glommio `TcpStream` arms POLL_ADD for its descriptor when it is
    /// made, and its first read waits for that poll before it calls `recv`. Given a duplicate of the epoll descriptor,
    /// the read ends, with ENOTSOCK, when epoll becomes readable. This is how glommio 0.9.0 works inside, hence the
    /// exact version in Cargo.toml and the test below.
    ///
    /// Returns false, at once, if there is no descriptor left for the duplicate.
    async fn sleep_in_ring(&self) -> bool {
        let Ok(duplicate) = rustix::io::fcntl_dupfd_cloexec(&self.0.epoll, 0) else {
            return false;
        };
        let mut stream = sys::uring::into_stream(duplicate);
        let result = stream.read(&mut [0; 1]).await;
        debug_assert!(result.is_err(), "an epoll descriptor is no socket");
        true
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets glommio look at its timers and channels, which it does when no task is left to run: while the driver waits for a
/// timer, none is, since those with work left pause until the driver's next round. The timer is over by then, so that
/// nobody sleeps.
async fn give_turn() {
    Timer::new(Duration::from_micros(1)).await;
}
