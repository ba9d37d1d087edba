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
//!   glommio costs about ten;
//! - once it is quiet, in glommio's ring, so that timers and channels run and a silent shard costs nothing.
//!
//! Which one, and for how long, is decided by the usual gap between events (see [`Pace`]), so that a few datagrams a second
//! mean neither a hundred timed wake-ups a second, nor as many of those cycles. Meanwhile glommio's timers and channels have
//! their turn every [`BRISK_SLEEP`], or [`SPARSE_SLEEP`]: so late can a deadline be. What cannot wait so long asks for the
//! ring ([`Readiness::rest`]), or for a turn ([`Readiness::want_turn`]).

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
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use futures_lite::future::{or, poll_fn, yield_now};
use glommio::timer::Timer;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use self::pace::{BRISK_SLEEP, Pace, SPARSE_SLEEP};
pub(crate) use self::queue::ReadyQueue;
use self::slot::{Slot, Slots, Wake};
pub(crate) use self::watched::Watched;
use super::courtesy::Courtesy;
use super::locality::Locality;
use crate::metrics::Counter;
use crate::sys;

/// Events taken from epoll at once.
const EVENTS_MAX: usize = 256;

/// What is waited for on every socket.
const INPUT: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::PRI)
    .union(epoll::EventFlags::ET);

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
    /// Tasks that rest for less than [`SPARSE_SLEEP`].
    resting: Cell<usize>,
    /// Whether somebody waits for glommio's channels.
    turn_wanted: Cell<bool>,
    /// Whether others are to run before the next look for events.
    gives_way: Cell<bool>,
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
            resting: Cell::default(),
            turn_wanted: Cell::default(),
            gives_way: Cell::default(),
        })))
    }

    /// Adds a socket, waited for by one task: for input, and for room once there was none ([`Watched::filled`]). Otherwise
    /// the room that every new socket has would be an event, and so would each datagram that leaves the send buffer.
    ///
    /// # Errors
    ///
    /// As `epoll_ctl(2)`: ENOMEM, ENOSPC (`fs.epoll.max_user_watches`).
    pub(crate) fn watch<T: AsFd>(&self, io: T) -> io::Result<Watched<T>> {
        self.add(io, Wake::Task(Cell::new(None)))
    }

    /// Adds a socket that shows up in `queue` as `id` when it becomes readable.
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
        )
    }

    fn add<T: AsFd>(&self, io: T, wake: Wake) -> io::Result<Watched<T>> {
        let slot = Rc::new(Slot::new(wake));
        let (index, data) = self.0.slots.borrow_mut().insert(Rc::clone(&slot));
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
            INPUT,
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

    /// For a set whose tasks wait for glommio's channels as much as for sockets: while events are sparse, the driver always
    /// sleeps in the ring.
    pub(crate) fn rest_in_ring(&self) {
        self.0.resting.set(self.0.resting.get() + 1);
    }

    /// Waits for so long, and hardly longer even if that is less than the driver sleeps in `epoll_wait` otherwise.
    pub(crate) async fn rest(&self, duration: Duration) {
        let _resting = (duration < SPARSE_SLEEP).then(|| Resting::new(&self.0.resting));
        Timer::new(duration).await;
    }

    /// Has the driver let glommio look at its channels before it sleeps again.
    pub(crate) fn want_turn(&self) {
        self.0.turn_wanted.set(true);
    }

    /// Has the driver let others run before it looks for more: see [`Courtesy`].
    pub(crate) fn give_way(&self) {
        self.0.gives_way.set(true);
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
        let mut courtesy = Courtesy::new(awake_since);
        let mut resumed = Vec::new();
        let mut last_turn = awake_since;
        // Whether some task has paused with work left: then there is no time to sleep.
        let mut work_left = false;
        loop {
            let before = Instant::now();
            busy_nanos.add(nanos(before - awake_since));
            let sleep = pace.sleep(before).filter(|&sleep| self.suits(sleep));
            let ready = if work_left {
                self.wait(&mut events, Duration::ZERO)
            } else if let Some(sleep) = sleep {
                self.wait(&mut events, sleep)
            } else if or(self.sleep_in_ring(), self.work_is_left()).await {
                last_turn = Instant::now();
                self.wait(&mut events, Duration::ZERO)
            } else {
                // Out of descriptors.
                self.wait(&mut events, BRISK_SLEEP)
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
            if now.saturating_duration_since(last_turn) >= sleep.unwrap_or(BRISK_SLEEP) {
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
            if self.0.turn_wanted.take() {
                give_turn().await;
                last_turn = Instant::now();
                // glommio looks at its timers first, and so wakes us before those whom a channel wakes.
                yield_now().await;
            }
            work_left = !self.0.paused.borrow().is_empty();
            if self.0.gives_way.take() {
                // That is no work of ours.
                awake_since += courtesy.give_way(now);
            }
        }
    }

    /// Whether nobody rests who would oversleep.
    fn suits(&self, sleep: Duration) -> bool {
        sleep < SPARSE_SLEEP || self.0.resting.get() == 0
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

/// Counts a task that rests, until it is dropped.
struct Resting<'a>(&'a Cell<usize>);

// === impl Resting ===

impl<'a> Resting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets glommio look at its timers and channels, which it does when no task is left to run: while the driver waits for a
/// timer, none is, since those with work left pause until the driver's next round. The timer is over by then, so that
/// nobody sleeps; but not before it was waited for, which would be no turn at all.
async fn give_turn() {
    let mut wait = Duration::from_micros(1);
    let mut given = false;
    while !given {
        let mut timer = Timer::new(wait);
        poll_fn(|cx| {
            let over = Pin::new(&mut timer).poll(cx);
            given |= over.is_pending();
            over
        })
        .await;
        wait *= 2;
    }
}
