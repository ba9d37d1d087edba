//! What is known of each socket, by the number epoll knows it by.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;

use rustix::event::epoll;

use super::ReadyQueue;

/// Slots by the index in `epoll_data`. The generation beside it tells events of a slot's former owner apart.
#[derive(Default)]
pub(super) struct Slots {
    entries: Vec<(u32, Option<Rc<Slot>>)>,
    free: Vec<u32>,
}

/// What is known of one socket.
pub(super) struct Slot {
    pub(super) readable: Cell<bool>,
    pub(super) writable: Cell<bool>,
    /// Whether it is watched for room, too: from the first time on that there was none.
    pub(super) waits_for_room: Cell<bool>,
    /// More than plain data may lie ahead (end of stream, error, urgent data): a short read does not mean empty.
    pub(super) exceptional: Cell<bool>,
    /// An error is pending, or both directions have ended.
    pub(super) failed: Cell<bool>,
    /// An error is pending, or was.
    pub(super) broken: Cell<bool>,
    /// The far side has ended what it says.
    pub(super) hung_up: Cell<bool>,
    pub(super) wake: Wake,
}

/// Who learns of events.
pub(super) enum Wake {
    /// The one task that waits for the socket.
    Task(Cell<Option<Waker>>),
    /// A queue which one task empties, for many sockets.
    Queue { queue: Rc<ReadyQueue>, id: u32 },
}

// === impl Slots ===

impl Slots {
    /// Gives a slot an index, and the number by which epoll is to tell it.
    pub(super) fn insert(&mut self, slot: Rc<Slot>) -> (u32, u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            // A process has at most 2^31 descriptors (fs.nr_open).
            (self.entries.len() - 1) as u32
        });
        self.entries[index as usize].1 = Some(slot);
        (index, self.data(index))
    }

    /// The number by which epoll tells the slot of this index.
    pub(super) fn data(&self, index: u32) -> u64 {
        u64::from(self.entries[index as usize].0) << 32 | u64::from(index)
    }

    /// The slot of such a number, unless its owner is gone.
    pub(super) fn get(&self, data: u64) -> Option<Rc<Slot>> {
        let (generation, slot) = self.entries.get(data as u32 as usize)?;
        if *generation != (data >> 32) as u32 {
            return None;
        }
        slot.clone()
    }

    pub(super) fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.0 = entry.0.wrapping_add(1);
        entry.1 = None;
        self.free.push(index);
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(wake: Wake) -> Self {
        Self {
            readable: Cell::new(false),
            writable: Cell::new(true),
            waits_for_room: Cell::new(false),
            exceptional: Cell::new(false),
            failed: Cell::new(false),
            broken: Cell::new(false),
            hung_up: Cell::new(false),
            wake,
        }
    }

    /// Takes in an event and wakes whoever waits for it.
    pub(super) fn ready(&self, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        if flags.intersects(E::RDHUP | E::HUP | E::ERR | E::PRI) {
            self.exceptional.set(true);
        }
        if flags.intersects(E::HUP | E::ERR) {
            self.failed.set(true);
        }
        if flags.contains(E::ERR) {
            self.broken.set(true);
        }
        if flags.contains(E::RDHUP) {
            self.hung_up.set(true);
        }
        let read = flags.intersects(E::IN | E::RDHUP | E::HUP | E::ERR | E::PRI);
        let was_readable = self.readable.replace(self.readable.get() || read);
        if flags.intersects(E::OUT | E::HUP | E::ERR) {
            self.writable.set(true);
        }
        match &self.wake {
            Wake::Task(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            // One that was readable before is in the queue, or being served.
            Wake::Queue { queue, id } if read && !was_readable => queue.push(*id),
            Wake::Queue { .. } => {}
        }
    }
}
