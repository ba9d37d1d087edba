//! Many sockets, for the one task that serves them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Sockets that became readable, by an id of their owner's choice. An id may outlive its socket.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    ids: RefCell<VecDeque<u32>>,
    waker: Cell<Option<Waker>>,
}

// === impl ReadyQueue ===

impl ReadyQueue {
    pub(super) fn push(&self, id: u32) {
        self.ids.borrow_mut().push_back(id);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Puts an id back whose socket has more to read.
    pub(crate) fn push_back(&self, id: u32) {
        self.ids.borrow_mut().push_back(id);
    }

    /// Puts in these ids, and no others.
    pub(crate) fn refill(&self, ready: impl Iterator<Item = u32>) {
        let mut ids = self.ids.borrow_mut();
        ids.clear();
        ids.extend(ready);
    }

    /// Takes the id that has waited longest.
    pub(crate) fn pop(&self) -> Option<u32> {
        self.ids.borrow_mut().pop_front()
    }

    /// Whether nothing is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.borrow().is_empty()
    }

    /// Moves all ids into `into`, which is empty.
    pub(crate) fn take_all(&self, into: &mut VecDeque<u32>) {
        std::mem::swap(&mut *self.ids.borrow_mut(), into);
    }

    /// Has the task of `cx` woken by the next id.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.set(Some(cx.waker().clone()));
    }
}
