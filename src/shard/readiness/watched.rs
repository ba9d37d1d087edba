//! A socket in a readiness set, as its owner has it.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use rustix::event::epoll;
use socket2::SockRef;

use super::slot::{Slot, Wake};
use super::{INPUT, Readiness};

/// A socket in a readiness set. Dropping it takes it out of the set.
pub(crate) struct Watched<T: AsFd> {
    pub(super) io: T,
    pub(super) slot: Rc<Slot>,
    pub(super) index: u32,
    pub(super) set: Readiness,
}

// === impl Watched ===

impl<T: AsFd> Watched<T> {
    /// Takes the socket out of the set before it is dropped: for one that another process has, too, which closing our
    /// descriptor would leave in it (epoll(7), question 6).
    pub(crate) fn leave(&self) {
        // It fails if it has left before.
        let _ = epoll::delete(&self.set.0.epoll, &self.io);
    }

    /// Whether a read may find something. True after an event, until [`Watched::drained`].
    pub(crate) fn is_readable(&self) -> bool {
        self.slot.readable.get()
    }

    /// Whether a write may find room. True until [`Watched::filled`], and after the next event.
    pub(crate) fn is_writable(&self) -> bool {
        self.slot.writable.get()
    }

    /// Whether a short read left the socket empty. Not so if the end of the stream, an error or urgent data (where reads
    /// stop, tcp(7)) was seen: then only EAGAIN tells.
    pub(crate) fn short_read_drains(&self) -> bool {
        !self.slot.exceptional.get()
    }

    /// Whether the connection broke, or ended in both directions (epoll_ctl(2), EPOLLERR and EPOLLHUP).
    pub(crate) fn has_failed(&self) -> bool {
        self.slot.failed.get()
    }

    /// Whether the connection broke (epoll_ctl(2), EPOLLERR), which a read or a write has perhaps told already.
    pub(crate) fn is_broken(&self) -> bool {
        self.slot.broken.get()
    }

    /// Whether the far side has ended what it says (epoll_ctl(2), EPOLLRDHUP), though not all of it may have been read.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.slot.hung_up.get()
    }

    /// To be said when a read found nothing (or less than asked for): wait for the next event.
    pub(crate) fn drained(&self) {
        self.slot.readable.set(false);
    }

    /// To be said when a write found no room, or before a connection is established: wait for the next event.
    pub(crate) fn filled(&self) {
        self.slot.writable.set(false);
        if self.slot.waits_for_room.replace(true) {
            return;
        }
        let data = self.set.0.slots.borrow().data(self.index);
        let both = INPUT | epoll::EventFlags::OUT;
        let modified = epoll::modify(
            &self.set.0.epoll,
            &self.io,
            epoll::EventData::new_u64(data),
            both,
        );
        // It is in the set, and changing what is waited for takes no memory (epoll_ctl(2)).
        debug_assert!(modified.is_ok(), "{modified:?}");
    }

    /// Has the task of `cx` woken by the next event.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let Wake::Task(cell) = &self.slot.wake else {
            return;
        };
        let waker = match cell.take() {
            Some(old) if old.will_wake(cx.waker()) => old,
            _ => cx.waker().clone(),
        };
        cell.set(Some(waker));
    }

    /// Waits until [`Watched::is_readable`].
    pub(crate) async fn readable(&self) {
        poll_fn(|cx| self.poll_flag(cx, &self.slot.readable)).await;
    }

    /// Waits until [`Watched::is_writable`].
    pub(crate) async fn writable(&self) {
        poll_fn(|cx| self.poll_flag(cx, &self.slot.writable)).await;
    }

    /// Waits until [`Watched::has_failed`].
    pub(crate) async fn failed(&self) {
        poll_fn(|cx| self.poll_flag(cx, &self.slot.failed)).await;
    }

    fn poll_flag(&self, cx: &Context<'_>, flag: &Cell<bool>) -> Poll<()> {
        if flag.get() {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }
}

impl<T: AsFd> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.io
    }
}

impl<T: AsFd> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            // The connection did not end, it broke: neither side may take it for the other's end. Nothing for what is none.
            let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
        }
        // Closing a descriptor takes it out of epoll. `io` is about to be closed, and owned sockets are not duplicated,
        // but for those that `leave`; events already fetched are told apart by the generation.
        self.set.0.slots.borrow_mut().remove(self.index);
    }
}
