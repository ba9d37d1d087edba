//! Sockets that send and receive several datagrams in one piece (udp(7), `UDP_SEGMENT` and `UDP_GRO`), as QUIC
//! implementations do.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

use crate::namespace::TestResult;

/// More than any piece has.
const PIECE_MAX: usize = 64 << 10;

/// A UDP socket that knows of pieces.
pub(crate) struct Pieces<'a>(&'a UdpSocket);

// === impl Pieces ===

impl<'a> Pieces<'a> {
    /// Has the socket take pieces, too.
    pub(crate) fn of(socket: &'a UdpSocket) -> TestResult<Self> {
        setsockopt(socket, UdpGroSegment, &true)?;
        Ok(Self(socket))
    }

    /// Sends all these datagrams in one piece: they are of one length but the last, which may be shorter.
    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr, datagrams: &[Vec<u8>]) -> TestResult {
        let segment_len = u16::try_from(datagrams.first().map_or(0, Vec::len))?;
        let payloads: Vec<_> = datagrams.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let fd = self.0.as_raw_fd();
        let control = [ControlMessage::UdpGsoSegments(&segment_len)];
        let to = SockaddrStorage::from(to);
        sendmsg(fd, &payloads, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// The datagrams that the next system call receives.
    #[track_caller]
    pub(crate) fn receive(&self) -> TestResult<Vec<Vec<u8>>> {
        let mut bytes = vec![0; PIECE_MAX];
        let mut control = cmsg_space!(i32);
        let (received, segment_len) = {
            let mut buffer = [IoSliceMut::new(&mut bytes)];
            let fd = self.0.as_raw_fd();
            let control = Some(control.as_mut_slice());
            let message = recvmsg::<()>(fd, &mut buffer, control, MsgFlags::empty())
                .map_err(|error| format!("nothing came: {error}"))?;
            let segment_len = message.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::UdpGroSegments(segment_len) => {
                    usize::try_from(segment_len).ok()
                }
                _ => None,
            });
            (message.bytes, segment_len)
        };
        let bytes = &bytes[..received];
        Ok(match segment_len {
            Some(segment_len) => bytes.chunks(segment_len).map(<[u8]>::to_vec).collect(),
            None => vec![bytes.to_vec()],
        })
    }

    /// So many datagrams, by the system calls that received them.
    #[track_caller]
    pub(crate) fn receive_all(&self, count: usize) -> TestResult<Vec<Vec<Vec<u8>>>> {
        let mut pieces: Vec<Vec<Vec<u8>>> = Vec::new();
        while pieces.iter().map(Vec::len).sum::<usize>() < count {
            pieces.push(self.receive()?);
        }
        Ok(pieces)
    }
}
