//! Connections that have not sent their header yet. Where there is no room for others they go first, the oldest of them
//! before the rest: one that is meant well sends its header at once, and whoever opens connections to fill all places
//! displaces his own. Those of other shards have to do where a shard has none itself.

mod neighbours;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) use self::neighbours::{Lobbies, LobbyEnd};

/// How long a connection is left alone: its header may be a segment behind.
const GRACE: Duration = Duration::from_millis(10);

/// Those of a shard, in the order they came.
pub(crate) struct Lobby {
    /// To those of the other shards.
    pub(crate) end: LobbyEnd,
    waiting: RefCell<BTreeMap<u64, Rc<Seat>>>,
    next: Cell<u64>,
}

struct Seat {
    since: Instant,
    is_wanted: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// One that waits, until it is dropped.
struct Guest<'a> {
    lobby: &'a Lobby,
    number: u64,
    seat: Rc<Seat>,
}

// === impl Lobby ===

impl Lobby {
    pub(crate) fn new(end: LobbyEnd) -> Self {
        Self {
            end,
            waiting: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Waits for `future`; None if it had to go. It costs nothing if there is nothing to wait for.
    pub(super) async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut guest: Option<Guest<'_>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let seat = &guest.get_or_insert_with(|| self.enter()).seat;
            if seat.is_wanted.get() {
                return Poll::Ready(None);
            }
            seat.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Has the oldest go, in its next turn. Returns whether there is one that may be asked to.
    pub(super) fn make_room(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some(oldest) = waiting.first_entry() else {
            return false;
        };
        if oldest.get().since.elapsed() < GRACE {
            return false;
        }
        let seat = oldest.remove();
        self.end.set_guests(waiting.len());
        seat.is_wanted.set(true);
        if let Some(waker) = seat.waker.take() {
            waker.wake();
        }
        true
    }

    fn enter(&self) -> Guest<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let seat = Rc::new(Seat {
            since: Instant::now(),
            is_wanted: Cell::new(false),
            waker: Cell::new(None),
        });
        let mut waiting = self.waiting.borrow_mut();
        waiting.insert(number, Rc::clone(&seat));
        self.end.set_guests(waiting.len());
        Guest {
            lobby: self,
            number,
            seat,
        }
    }
}

// === impl Guest ===

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut waiting = self.lobby.waiting.borrow_mut();
        waiting.remove(&self.number);
        self.lobby.end.set_guests(waiting.len());
    }
}
