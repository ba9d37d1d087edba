//! The side of the newcomer.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use socket2::Socket;
use tracing::{info, warn};

use super::{ADMIN, END, NEXT, READY, READY_WITH_ADMIN, SLOTS, SOCKETS, address, is_trusted};
use crate::listen::{Inherited, Steered};

/// How long an instance may take for an answer. Its coordinator has next to nothing else to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// The instances that were asked.
#[derive(Default)]
pub(in crate::coordinator) struct Claims(Vec<Claim>);

/// One that has given its sockets.
struct Claim {
    socket: OwnedFd,
    /// What they are called.
    name: String,
    count: usize,
    /// Whether its admin endpoint is served here, too.
    with_admin: bool,
}

/// Asks all instances of this network namespace for their listening sockets. Blocks until they have answered.
///
/// # Errors
///
/// If one of them breaks off, or is another program.
pub(in crate::coordinator) fn claim(inherited: &mut Inherited) -> io::Result<Claims> {
    let mut claims = Vec::new();
    for slot in 0..SLOTS {
        let Some(socket) = ask(slot)? else { continue };
        let name = format!("the socket of instance {slot}");
        let count = fetch(&socket, &name, inherited)?;
        claims.push(Claim {
            socket,
            name,
            count,
            with_admin: false,
        });
    }
    if claims.is_empty() {
        info!("no other instance of this user is there: nothing to take over");
    }
    Ok(Claims(claims))
}

fn ask(slot: usize) -> io::Result<Option<OwnedFd>> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
    }
    let address = address(slot)?;
    match retry_on_intr(|| connect(&socket, &address)) {
        // Another user's would not answer.
        Ok(()) => Ok(is_trusted(&socket).then_some(socket)),
        Err(Errno::CONNREFUSED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Fetches the sockets of one instance, and tells how many there were.
fn fetch(socket: &OwnedFd, name: &str, inherited: &mut Inherited) -> io::Result<usize> {
    let mut count = 0;
    loop {
        super::send(socket, NEXT, &[])?;
        match super::receive(socket).map_err(no_answer)? {
            (SOCKETS, descriptors) => {
                for descriptor in descriptors {
                    let added = inherited.add(name.to_owned(), Socket::from(descriptor));
                    added.map_err(io::Error::other)?;
                    count += 1;
                }
            }
            (END, _) => return Ok(count),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What a receive timeout is told as (socket(7), SO_RCVTIMEO).
fn no_answer(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let seconds = PATIENCE.as_secs();
    io::Error::other(format!("no answer within {seconds} s"))
}

// === impl Claims ===

impl Claims {
    /// Whether somebody has given its sockets. Unless it is relieved, it goes on as if nothing had happened.
    pub(in crate::coordinator) fn are_there(&self) -> bool {
        self.0.iter().any(|claim| claim.count > 0)
    }

    /// The listener of an admin endpoint at this address, if one of those has it whose sockets are in use here.
    ///
    /// # Errors
    ///
    /// If one of them breaks off.
    pub(in crate::coordinator) fn admin_listener(
        &mut self,
        addr: SocketAddr,
        inherited: &Inherited,
    ) -> io::Result<Option<TcpListener>> {
        for claim in &mut self.0 {
            if claim.taken(inherited) == 0 {
                continue;
            }
            super::send(&claim.socket, ADMIN, &[])?;
            let (_, descriptors) = super::receive(&claim.socket).map_err(no_answer)?;
            for listener in descriptors.into_iter().map(TcpListener::from) {
                if listener.local_addr().is_ok_and(|bound| bound == addr) {
                    claim.with_admin = true;
                    return Ok(Some(listener));
                }
            }
        }
        Ok(None)
    }

    /// Relieves those whose sockets are in use here, and steered for it; those that are not are in `inherited` still.
    pub(in crate::coordinator) fn relieve(self, inherited: &Inherited, _steered: &Steered) {
        for claim in self.0 {
            let taken = claim.taken(inherited);
            let word = if claim.with_admin {
                READY_WITH_ADMIN
            } else {
                READY
            };
            if taken > 0 && super::send(&claim.socket, word, &[]).is_ok() {
                info!(sockets = taken, "taken over; the other instance drains");
                let left = inherited.told(&claim.name);
                if !left.is_empty() {
                    warn!(
                        sockets = left.join(", "),
                        "the other instance also listened there, and nobody does now: name these addresses with -l and the \
                         protocol with -p, if that is not meant"
                    );
                }
            }
        }
    }
}

// === impl Claim ===

impl Claim {
    /// How many of its sockets are in use here.
    fn taken(&self, inherited: &Inherited) -> usize {
        self.count - inherited.count(&self.name)
    }
}
