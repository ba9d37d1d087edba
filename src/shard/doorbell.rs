//! What rings at a shard (eventfd(2)): something waits for it, from another thread. Clones ring at the same door.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::readiness::Watched;

/// A bell that any thread can ring, and one shard hears.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell(Arc<OwnedFd>);

// === impl Doorbell ===

impl Doorbell {
    /// # Errors
    ///
    /// As `eventfd(2)`: EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// What waits has to be there before.
    pub(crate) fn ring(&self) {
        // It fails once the bell has been rung 2^64 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// How often it has rung since this was last asked.
    #[cfg(test)]
    pub(crate) fn rung(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// === impl Watched ===

impl Watched<Doorbell> {
    /// Waits until it has rung since this last ended.
    pub(crate) async fn rang(&self) {
        self.readable().await;
        self.heard();
    }

    /// To be said before looking for what waits. The bell stays readable, but each ring is an event of its own.
    pub(crate) fn heard(&self) {
        self.drained();
    }
}
