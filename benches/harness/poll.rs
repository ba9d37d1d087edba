//! Waiting for many sockets.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::Result;

/// An epoll instance that knows sockets by numbers. Level-triggered: what is not dealt with is told again.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    /// The numbers of the sockets that were ready at the last wait, and what for.
    ready: Vec<(usize, EventFlags)>,
}

// === impl Poll ===

impl Poll {
    /// Events of one wait.
    const EVENTS_MAX: usize = 512;

    pub(crate) const READABLE: EventFlags = EventFlags::IN;
    pub(crate) const WRITABLE: EventFlags = EventFlags::OUT;

    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(Self::EVENTS_MAX),
        })
    }

    pub(crate) fn add(&self, socket: impl AsFd, number: usize, interest: EventFlags) -> Result {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, interest)?)
    }

    pub(crate) fn change(&self, socket: impl AsFd, number: usize, to: EventFlags) -> Result {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::modify(&self.epoll, socket, data, to)?)
    }

    /// Waits until some are ready, or for so long, and returns how many are.
    pub(crate) fn wait(&mut self, at_most: Option<Duration>) -> Result<usize> {
        let timeout = at_most.map(Timespec::try_from).transpose()?;
        let mut events = [MaybeUninit::<Event>::uninit(); Self::EVENTS_MAX];
        self.ready.clear();
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                let ready = events.iter();
                self.ready
                    .extend(ready.map(|event| (event.data.u64() as usize, event.flags)));
                Ok(self.ready.len())
            }
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of those that are ready: its number, and what for.
    pub(crate) fn ready(&self, index: usize) -> (usize, EventFlags) {
        self.ready[index]
    }
}
