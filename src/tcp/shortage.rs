//! Whether descriptors run out. A connection that is accepted without one left for the server is lost, one that waits is
//! not: so before that, accepting has to ask for both.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::ACCEPTS_MAX;
use crate::host;

/// How long it is asked after the last sign of a shortage. The number of a new descriptor is a sign if it is high, and none
/// if it is low: that of a connection that ended is given out again while all others are in use.
const LASTS: Duration = Duration::from_secs(1);

/// The last sign of it on a shard.
#[derive(Default)]
pub(crate) struct Shortage {
    seen_at: Cell<Option<Instant>>,
}

// === impl Shortage ===

impl Shortage {
    /// It costs nothing if there has never been one.
    fn may_last(&self) -> bool {
        let lasts = self.seen_at.get().is_some_and(|it| it.elapsed() < LASTS);
        if !lasts {
            self.seen_at.set(None);
        }
        lasts
    }

    /// Asks for the two descriptors of a connection, by duplicating `any`. Returns the one for the server, to be held until
    /// then: others are accepted before the header is there.
    ///
    /// # Errors
    ///
    /// EMFILE if there are not so many, but for those that are kept.
    pub(super) fn ask(&self, any: impl AsFd) -> io::Result<Option<OwnedFd>> {
        if !self.may_last() {
            return Ok(None);
        }
        let [first, second] = [(); 2].map(|()| {
            let new = fcntl_dupfd_cloexec(&any, 0).inspect_err(|_| self.note())?;
            self.look_at(&new);
            if host::is_kept(&new, 0) {
                return Err(Errno::MFILE);
            }
            Ok(new)
        });
        first?;
        Ok(Some(second?))
    }

    /// A new descriptor's number may be a sign.
    pub(super) fn look_at(&self, new: &impl AsFd) {
        // The connections of a turn are accepted before they dial.
        if host::is_kept(new, 2 * ACCEPTS_MAX as u64) {
            self.note();
        }
    }

    /// Notes a sign: there was none for a connection to a server, for example.
    pub(super) fn note(&self) {
        self.seen_at.set(Some(Instant::now()));
    }
}
