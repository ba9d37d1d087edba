//! Datagrams that leave in one system call.

use std::io::IoSlice;
use std::net::UdpSocket;

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use crate::harness::Result;

/// The longest datagram, or datagrams in one piece.
pub(crate) const DATAGRAM_MAX: usize = 65_535;

/// Datagrams that wait to be sent.
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    datagrams: Vec<Waiting>,
}

struct Waiting {
    /// Where it begins and ends in the bytes.
    begin: usize,
    end: usize,
    /// None on a connected socket.
    to: Option<SocketAddrAny>,
}

// === impl Outbox ===

impl Outbox {
    /// One with room for so many.
    pub(crate) fn new(datagrams: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(datagrams * 2048),
            datagrams: Vec::with_capacity(datagrams),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    pub(crate) fn push(&mut self, datagram: &[u8], to: Option<SocketAddrAny>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        let end = self.bytes.len();
        self.datagrams.push(Waiting { begin, end, to });
    }

    /// Sends them all. Those that the kernel has no room for, or whose receiver has gone, are lost, as in any network.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> Result {
        let mut slices = Vec::with_capacity(self.datagrams.len());
        for waiting in &self.datagrams {
            slices.push([IoSlice::new(&self.bytes[waiting.begin..waiting.end])]);
        }
        let none = || SendAncillaryBuffer::default();
        let mut control: Vec<_> = self.datagrams.iter().map(|_| none()).collect();
        let parts = self.datagrams.iter().zip(&slices).zip(&mut control);
        let mut headers: Vec<MMsgHdr<'_>> = parts
            .map(|((waiting, slice), control)| match &waiting.to {
                Some(to) => MMsgHdr::new_with_addr(to, slice, control),
                None => MMsgHdr::new(slice, control),
            })
            .collect();
        let mut sent = 0;
        while sent < headers.len() {
            match sendmmsg(socket, &mut headers[sent..], SendFlags::empty()) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::CONNREFUSED) => sent += 1,
                Err(error) => return Err(error.into()),
            }
        }
        drop(headers);
        self.bytes.clear();
        self.datagrams.clear();
        Ok(())
    }
}
