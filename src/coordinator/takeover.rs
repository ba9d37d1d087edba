//! One instance takes the place of another without a moment in which nobody listens (`--takeover`).
//!
//! The newcomer asks the running instance for its listening sockets, and gets descriptors of the very same sockets
//! (unix(7), SCM_RIGHTS). So no connection in a backlog and no datagram in a buffer is lost, as they are when sockets are
//! closed, and clients stay where they are steered to. Once all its shards listen, the newcomer has them steered to these
//! (`listen::group`), says so, and the other one drains. If it does not get that far, the other one has noticed nothing.
//! (Except that where nothing but the kernel's own hash spreads datagrams, with headers on first ones, more listeners take
//! their share as of their binding. What has come to those of a newcomer that fails is lost.)
//!
//! They meet at an abstract address, which is the network namespace's as ports are, and speak only to the same user, or
//! root. The newcomer asks with one byte a message:
//!
//! | newcomer | answer |
//! |---|---|
//! | `n` | `s` with up to 64 descriptors, or `e`: there are no more |
//! | `a` | `s` with the descriptor of the admin endpoint, or `e`: there is none |
//! | `r`: I am ready | none, the other one drains |
//! | `R`: and I serve the admin endpoint | the same, and leaves that alone |

mod claim;
mod offer;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, recvmsg, sendmsg,
};
use rustix::process::geteuid;

use crate::sys::sockopt::peer_user;

pub(super) use self::claim::{Claims, claim};
pub(super) use self::offer::Offer;

/// How many instances of a network namespace can offer their sockets.
const SLOTS: usize = 64;

/// Descriptors in one message; the kernel takes 253 (unix(7)).
const DESCRIPTORS_MAX: usize = 64;

const NEXT: u8 = b'n';
const ADMIN: u8 = b'a';
const READY: u8 = b'r';
const READY_WITH_ADMIN: u8 = b'R';
const SOCKETS: u8 = b's';
const END: u8 = b'e';

/// Where the instance with this number is asked.
fn address(slot: usize) -> io::Result<SocketAddrUnix> {
    let name = format!("glommproxy-takeover-{slot}");
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

/// Whether the other end was opened by this user, or by root.
fn is_trusted(socket: impl AsFd) -> bool {
    peer_user(socket).is_ok_and(|user| user == geteuid().as_raw() || user == 0)
}

fn send(socket: impl AsFd, word: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let word = [word];
    let bytes = [IoSlice::new(&word)];
    retry_on_intr(|| sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// A message; UnexpectedEof if the other end is gone.
fn receive(socket: impl AsFd) -> io::Result<(u8, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0];
    let mut bytes = [IoSliceMut::new(&mut word)];
    // The ring interrupts calls that have a timeout, too.
    let received =
        retry_on_intr(|| recvmsg(&socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((word[0], descriptors))
}
