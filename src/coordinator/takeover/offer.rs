//! The side of the instance that runs.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};

use super::{
    ADMIN, DESCRIPTORS_MAX, END, NEXT, READY, READY_WITH_ADMIN, SLOTS, SOCKETS, address, is_trusted,
};
use crate::admin::Door;
use crate::listen::ListeningSockets;
use crate::shard::readiness::{Readiness, Watched};

/// How long nobody is let in once descriptors have run out.
const ADMIT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets, for whoever asks for them.
pub(in crate::coordinator) struct Offer {
    readiness: Readiness,
    /// None if all addresses are taken.
    door: Option<Watched<OwnedFd>>,
    asking: RefCell<Option<Rc<Newcomer>>>,
    sockets: RefCell<ListeningSockets>,
    admin: RefCell<Option<Door>>,
}

/// An instance that asks.
struct Newcomer {
    socket: Watched<OwnedFd>,
    /// How many descriptors it has got.
    sent: Cell<usize>,
}

// === impl Offer ===

impl Offer {
    /// Offers these sockets, and keeps them open.
    pub(in crate::coordinator) fn new(
        readiness: &Readiness,
        sockets: ListeningSockets,
        admin: Option<Door>,
    ) -> io::Result<Self> {
        Ok(Self {
            readiness: readiness.clone(),
            door: open_door(readiness)?,
            asking: RefCell::default(),
            sockets: RefCell::new(sockets),
            admin: RefCell::new(admin),
        })
    }

    /// Whether nobody can ask.
    pub(in crate::coordinator) fn is_unheard(&self) -> bool {
        self.door.is_none()
    }

    /// Lets go of the TCP sockets, which are about to be closed.
    pub(in crate::coordinator) fn close_tcp(&self) {
        self.sockets.borrow_mut().tcp.clear();
    }

    /// Serves whoever asks, until somebody has taken the sockets over. May be dropped and called again at any time.
    pub(in crate::coordinator) async fn taken(&self) {
        let Some(door) = &self.door else {
            return std::future::pending().await;
        };
        loop {
            let newcomer = self.asking.borrow().clone();
            let Some(newcomer) = newcomer else {
                door.readable().await;
                if self.admit(door).is_err() {
                    // Out of descriptors. Whoever waits at the door is still there then.
                    Timer::new(ADMIT_PAUSE).await;
                }
                continue;
            };
            newcomer.socket.readable().await;
            match self.answer(&newcomer) {
                Ok(true) => {
                    // They are not ours to give twice.
                    self.sockets.take();
                    return;
                }
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    newcomer.socket.drained();
                }
                // It is gone, or talks nonsense.
                Err(_) => *self.asking.borrow_mut() = None,
            }
        }
    }

    /// Lets in the one who is first at the door.
    ///
    /// # Errors
    ///
    /// As `accept(2)`, if nobody could be let in now.
    fn admit(&self, door: &Watched<OwnedFd>) -> Result<(), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match accept_with(door, flags) {
            Ok(socket) if is_trusted(&socket) => {
                let newcomer = self.readiness.watch(socket).map(|socket| Newcomer {
                    socket,
                    sent: Cell::new(0),
                });
                *self.asking.borrow_mut() = newcomer.ok().map(Rc::new);
            }
            Err(Errno::AGAIN) => door.drained(),
            Ok(_) | Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Answers one message. Whether it was the last.
    fn answer(&self, newcomer: &Newcomer) -> io::Result<bool> {
        let (word, _) = super::receive(&newcomer.socket)?;
        match word {
            NEXT => self.send_some(newcomer).map(|()| false),
            ADMIN => self.send_admin(newcomer).map(|()| false),
            READY => Ok(true),
            READY_WITH_ADMIN => {
                self.admin.take().into_iter().for_each(Door::close);
                Ok(true)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn send_admin(&self, newcomer: &Newcomer) -> io::Result<()> {
        match &*self.admin.borrow() {
            Some(door) => super::send(&newcomer.socket, SOCKETS, &[door.as_fd()]),
            None => super::send(&newcomer.socket, END, &[]),
        }
    }

    fn send_some(&self, newcomer: &Newcomer) -> io::Result<()> {
        let sockets = self.sockets.borrow();
        let descriptors: Vec<BorrowedFd<'_>> = (sockets.tcp.iter())
            .chain(&sockets.udp)
            .skip(newcomer.sent.get())
            .take(DESCRIPTORS_MAX)
            .map(|socket| socket.as_fd())
            .collect();
        let word = if descriptors.is_empty() { END } else { SOCKETS };
        newcomer.sent.set(newcomer.sent.get() + descriptors.len());
        super::send(&newcomer.socket, word, &descriptors)
    }
}

/// Opens the first address that is free.
fn open_door(readiness: &Readiness) -> io::Result<Option<Watched<OwnedFd>>> {
    for slot in 0..SLOTS {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match bind(&socket, &address(slot)?) {
            Ok(()) => {
                listen(&socket, 1)?;
                return readiness.watch(socket).map(Some);
            }
            Err(Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
