//! Requests to the kernel over rtnetlink (netlink(7), rtnetlink(7)), each answered before the next is sent.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

/// How long the kernel may take to answer. It answers within the call that asks, unless something holds its lock.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A dump comes in pieces of at most 32 KiB (`netlink_dump` in the kernel).
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How often a dump is begun again when the tables changed while it was read.
const DUMPS_MAX: u32 = 8;

/// A socket to the kernel's routing tables.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum NetlinkError {
    /// The kernel said no.
    Refused(io::Error),
    /// The kernel could not be asked or did not answer.
    Broken(io::Error),
}

/// What the pieces of an answer amount to so far.
struct Answer {
    sequence: u32,
    messages: Vec<RouteNetlinkMessage>,
    /// Whether the tables changed meanwhile, so that entries may be missing or be there twice.
    interrupted: bool,
    done: bool,
}

// === impl Netlink ===

impl Netlink {
    /// Opens a socket on this thread's network namespace. Needs no capability.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        SockRef::from(&socket).set_read_timeout(Some(ANSWER_MAX))?;
        // Lets the kernel apply the filters of a dump, instead of copying a router's million routes to us.
        socket.set_netlink_get_strict_chk(true)?;
        socket.bind_auto()?;
        // Once connected to the kernel (port 0), no other process can send to this socket.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and returns what the kernel answers before its acknowledgement.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.exchange(message, flags | NLM_F_ACK)?.messages)
    }

    /// Reads a table, again if it changed meanwhile.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMPS_MAX {
            let answer = self.exchange(message.clone(), NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        let text = "the routing tables changed every time they were read";
        Err(NetlinkError::Broken(io::Error::other(text)))
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, NetlinkError> {
        self.sequence += 1;
        self.send(message, flags).map_err(NetlinkError::Broken)?;
        let mut answer = Answer::to(self.sequence);
        while !answer.done {
            let piece = self.receive().map_err(NetlinkError::Broken)?;
            answer.absorb(&piece)?;
        }
        Ok(answer)
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        match self.socket.recv(&mut piece, 0) {
            Ok(_) => Ok(piece),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let text = format!("no answer within {} s", ANSWER_MAX.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            Err(e) => Err(e),
        }
    }
}

// === impl Answer ===

impl Answer {
    fn to(sequence: u32) -> Self {
        Self {
            sequence,
            messages: Vec::new(),
            interrupted: false,
            done: false,
        }
    }

    /// Takes in one piece: messages one after another, each padded to four bytes.
    fn absorb(&mut self, mut piece: &[u8]) -> Result<(), NetlinkError> {
        while !self.done && !piece.is_empty() {
            let buffer = NetlinkBuffer::new_checked(piece).map_err(|e| {
                NetlinkError::Broken(io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
            })?;
            let length = buffer.length() as usize;
            // A late answer to a request that timed out is not for us.
            if buffer.sequence_number() == self.sequence {
                self.interrupted |= buffer.flags() & NLM_F_DUMP_INTR != 0;
                self.absorb_message(&piece[..length])?;
            }
            piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn absorb_message(&mut self, message: &[u8]) -> Result<(), NetlinkError> {
        // A rule or route this version of the crate cannot read is not one of the few forms we look for.
        let Ok(message) = NetlinkMessage::deserialize(message) else {
            return Ok(());
        };
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => self.messages.push(inner),
            NetlinkPayload::Error(error) if error.code.is_none() => self.done = true,
            NetlinkPayload::Error(error) => return Err(NetlinkError::Refused(error.to_io())),
            NetlinkPayload::Done(done) if done.code < 0 => {
                let error = io::Error::from_raw_os_error(-done.code);
                return Err(NetlinkError::Refused(error));
            }
            NetlinkPayload::Done(_) => self.done = true,
            _ => {}
        }
        Ok(())
    }
}

// === impl NetlinkError ===

impl NetlinkError {
    /// Whether the kernel refused with one of these error numbers (errno(3)).
    pub(super) fn is_refusal(&self, codes: &[i32]) -> bool {
        match self {
            Self::Refused(e) => e.raw_os_error().is_some_and(|code| codes.contains(&code)),
            Self::Broken(_) => false,
        }
    }

    /// The error itself.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Refused(e) | Self::Broken(e) => e,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_kernel_does_not_hang_us() -> io::Result<()> {
        let netlink = Netlink::open()?;
        // Nothing was asked, so nothing comes.
        let outcome = netlink.receive().map_err(|e| e.kind());
        assert_eq!(outcome, Err(io::ErrorKind::TimedOut));
        Ok(())
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        // 20 bytes announced, NLMSG_ERROR, no flags, sequence 1, from the kernel; then nothing.
        let piece = [20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        for length in 1..piece.len() {
            let outcome = Answer::to(1).absorb(&piece[..length]);
            assert!(
                matches!(outcome, Err(NetlinkError::Broken(_))),
                "{length} bytes"
            );
        }
        assert!(matches!(
            Answer::to(1).absorb(&piece),
            Err(NetlinkError::Broken(_))
        ));
    }

    #[test]
    fn answers_to_earlier_requests_are_passed_over() -> Result<(), NetlinkError> {
        let acknowledgement = |sequence: u8| {
            // 36 bytes, NLMSG_ERROR, no flags, sequence, from the kernel; error 0 and the head of the request.
            let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend([0; 20]);
            bytes
        };
        let mut answer = Answer::to(2);
        answer.absorb(&acknowledgement(1))?;
        assert!(!answer.done);
        answer.absorb(&[acknowledgement(1), acknowledgement(2)].concat())?;
        assert!(answer.done);
        Ok(())
    }
}
