//! The file descriptors that connections and flows may have.
//!
//! They are counted, not asked of the kernel: a connection is accepted with one descriptor and needs another for the server
//! as soon as its header is there. If the kernel's word were waited for, it would come too late: whoever is accepted by then
//! is lost, whoever still waits in the backlog is not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// How many are left. The limit of descriptors is the process', so this is, too.
static FREE: AtomicU64 = AtomicU64::new(u64::MAX);

/// So many of them, until dropped.
#[derive(Debug)]
pub(crate) struct Descriptors(u32);

/// Says how many there are. To be called before the first is taken.
pub(crate) fn set_descriptors(count: u64) {
    FREE.store(count, Ordering::Relaxed);
}

// === impl Descriptors ===

impl Descriptors {
    /// Takes so many.
    ///
    /// # Errors
    ///
    /// EMFILE if there are not so many: what the kernel says of a process that has as many open as it may.
    pub(crate) fn take(count: u32) -> io::Result<Self> {
        take_from(&FREE, count)?;
        Ok(Self(count))
    }

    /// Takes so many more.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take).
    pub(crate) fn take_more(&mut self, count: u32) -> io::Result<()> {
        take_from(&FREE, count)?;
        self.0 += count;
        Ok(())
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        FREE.fetch_add(u64::from(self.0), Ordering::Relaxed);
    }
}

/// Only the number matters: nothing else is shared through it.
fn take_from(free: &AtomicU64, count: u32) -> io::Result<()> {
    let fewer = |free: u64| free.checked_sub(u64::from(count));
    free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
        .map(drop)
        .map_err(|_| Errno::MFILE.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_taken_of_those_that_are_not_there() {
        let free = AtomicU64::new(3);
        take_from(&free, 2).expect("two of three");
        let error = take_from(&free, 2).expect_err("two of one");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        take_from(&free, 1).expect("one of one");
        assert_eq!(free.into_inner(), 0);
    }
}
