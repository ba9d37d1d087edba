//! Pipes for `splice(2)`, kept for the next connection that needs one.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use crate::limits::Descriptors;

/// Asked of the kernel. Measured with a flood through 50 connections: 1 MiB moves 1.1 times as much as 64 KiB.
const PIPE_SIZE: usize = 1 << 20;

/// What pipes have by themselves, and what makes one worth using. Once the pipes of all processes of a user exceed
/// `fs.pipe-user-pages-soft` (64 MiB), the kernel gives those without CAP_SYS_RESOURCE pipes of 8 KiB (pipe(7)).
const PIPE_SIZE_MIN: usize = 64 << 10;

/// Pipes in use at once by one shard; further connections go on copying. Bounds descriptors and kernel memory.
const PIPES_MAX: usize = 256;

/// Empty pipes kept.
const SPARE_MAX: usize = 64;

/// Bytes on their way inside the kernel.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
    /// How many bytes are in it.
    pub(crate) filled: usize,
    _descriptors: Descriptors,
}

/// A shard's pipes.
#[derive(Default)]
pub(crate) struct PipePool {
    spare: RefCell<Vec<Pipe>>,
    in_use: Cell<usize>,
}

// === impl PipePool ===

impl PipePool {
    /// An empty pipe, or None if there are enough in use or the kernel has none of a useful size.
    pub(crate) fn take(&self) -> Option<Pipe> {
        if self.in_use.get() >= PIPES_MAX {
            return None;
        }
        let pipe = self
            .spare
            .borrow_mut()
            .pop()
            .or_else(|| Pipe::new().ok().flatten())?;
        self.in_use.set(self.in_use.get() + 1);
        Some(pipe)
    }

    /// Gives a pipe back. One with bytes in it is closed: they are another connection's. So is one that comes back because
    /// of a panic, which may have been between a splice and its count.
    pub(crate) fn put(&self, pipe: Pipe) {
        self.in_use.set(self.in_use.get() - 1);
        let mut spare = self.spare.borrow_mut();
        if pipe.filled == 0 && spare.len() < SPARE_MAX && !thread::panicking() {
            spare.push(pipe);
        }
    }

    /// Closes what is kept, for its descriptors. Returns whether there was anything.
    pub(crate) fn close_spare(&self) -> bool {
        let spare = self.spare.take();
        !spare.is_empty()
    }
}

// === impl Pipe ===

impl Pipe {
    /// None if the kernel only gives a small one.
    fn new() -> io::Result<Option<Self>> {
        let descriptors = Descriptors::take(2)?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if fcntl_setpipe_size(&writer, PIPE_SIZE).is_err()
            && fcntl_getpipe_size(&writer)? < PIPE_SIZE_MIN
        {
            return Ok(None);
        }
        Ok(Some(Self {
            reader,
            writer,
            filled: 0,
            _descriptors: descriptors,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panics;

    /// Who may not have so many of this size gets fewer (pipe(7), `pipe-user-pages-soft`).
    #[test]
    fn there_are_no_more_in_use_and_in_store_than_there_may_be() {
        let pool = PipePool::default();
        let taken: Vec<_> = (0..=PIPES_MAX).map_while(|_| pool.take()).collect();
        assert!(!taken.is_empty() && taken.len() <= PIPES_MAX);
        let count = taken.len();
        for pipe in taken {
            pool.put(pipe);
        }
        assert_eq!(pool.in_use.get(), 0);
        assert_eq!(pool.spare.borrow().len(), count.min(SPARE_MAX));
        // What is left of another connection's bytes is nobody else's.
        let mut filled = pool.take().expect("a spare pipe");
        let spare = pool.spare.borrow().len();
        filled.filled = 1;
        pool.put(filled);
        assert_eq!((pool.in_use.get(), pool.spare.borrow().len()), (0, spare));
        assert_eq!(pool.close_spare(), spare > 0);
        assert!(!pool.close_spare(), "there is nothing left");
    }

    /// It may hold bytes that nobody has counted.
    #[test]
    fn a_pipe_that_comes_back_by_a_panic_is_not_kept_but_counts_no_more() {
        struct Lent<'a>(&'a PipePool, Option<Pipe>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                self.1.take().into_iter().for_each(|pipe| self.0.put(pipe));
            }
        }
        let pool = PipePool::default();
        let lent = Lent(&pool, pool.take());
        assert!(lent.1.is_some(), "the kernel gives pipes");
        drop(lent);
        assert_eq!((pool.in_use.get(), pool.spare.borrow().len()), (0, 1));
        let lent = Lent(&pool, pool.take());
        let panicked = panics::catch(|| {
            let _lent = lent;
            panic!("with a pipe in hand");
        });
        assert!(panicked.is_err());
        assert_eq!((pool.in_use.get(), pool.spare.borrow().len()), (0, 0));
    }
}
