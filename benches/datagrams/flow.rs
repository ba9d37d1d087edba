//! A client's flow: what it sends, and what it expects back.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::harness::{Result, Via};
use crate::outbox::{DATAGRAM_MAX, Outbox};

/// Bytes in front of a payload that tell when and by whom it was sent.
const STAMP: usize = 12;
/// How long a datagram is waited for before it counts as lost: longer than 5000 of them queue on a slow machine.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(500);

/// A client with a balancer's socket of its own.
pub(crate) struct Flow {
    pub(crate) socket: UdpSocket,
    number: u32,
    /// The next datagram; its first bytes, the header, stay.
    datagram: Vec<u8>,
    header_len: usize,
}

/// The clock that datagrams are stamped by, room for some, and when those in it were sent.
pub(crate) struct Stamps {
    start: Instant,
    buffer: Vec<u8>,
    sent_at: Vec<Instant>,
}

// === impl Flow ===

impl Flow {
    /// A new client's. The payload has so many bytes.
    pub(crate) fn new(via: &Via<'_>, number: u32, size: usize) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(via.addr)?;
        let mut datagram = via.datagram_header();
        let header_len = datagram.len();
        datagram.extend((0..size).map(|index| index as u8));
        Ok(Self {
            socket,
            number,
            datagram,
            header_len,
        })
    }

    /// Bytes of a datagram, header included.
    pub(crate) fn datagram_len(&self) -> usize {
        self.datagram.len()
    }

    /// The next datagram.
    pub(crate) fn stamped(&mut self, stamps: &Stamps) -> &[u8] {
        let now = stamps.start.elapsed().as_nanos() as u64;
        let stamp = &mut self.datagram[self.header_len..][..STAMP];
        stamp[..8].copy_from_slice(&now.to_be_bytes());
        stamp[8..].copy_from_slice(&self.number.to_be_bytes());
        &self.datagram
    }

    /// Puts so many datagrams into the outbox and sends them.
    pub(crate) fn send(&mut self, stamps: &Stamps, outbox: &mut Outbox, count: usize) -> Result {
        for _ in 0..count {
            let datagram = self.stamped(stamps);
            outbox.push(datagram, None);
        }
        outbox.send(&self.socket)
    }

    /// When the datagrams that come back were sent: one, or some that the kernel hands over in one piece; none while there
    /// are none.
    ///
    /// # Errors
    ///
    /// They are not what was sent.
    pub(crate) fn receive<'a>(&self, stamps: &'a mut Stamps) -> Result<&'a [Instant]> {
        stamps.sent_at.clear();
        let length = match self.socket.recv(&mut stamps.buffer) {
            Ok(length) => length,
            // Refused: there was nobody yet to send to.
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused => 0,
                _ => return Err(error.into()),
            },
        };
        let sent = &self.datagram[self.header_len..];
        for payload in stamps.buffer[..length].chunks(sent.len()) {
            let intact = payload.len() == sent.len()
                && payload[8..STAMP] == self.number.to_be_bytes()
                && payload[STAMP..] == sent[STAMP..];
            if !intact {
                return Err("a datagram came back changed, or to the wrong client".into());
            }
            let mut nanoseconds = [0; 8];
            nanoseconds.copy_from_slice(&payload[..8]);
            let since_start = Duration::from_nanos(u64::from_be_bytes(nanoseconds));
            stamps.sent_at.push(stamps.start + since_start);
        }
        Ok(&stamps.sent_at)
    }
}

/// One datagram there and back, for proxies that may not be ready.
pub(crate) fn probe(via: &Via<'_>) -> Result {
    let mut flow = Flow::new(via, 0, STAMP)?;
    let mut stamps = Stamps::new();
    flow.socket.set_read_timeout(Some(LOST_AFTER))?;
    flow.send(&stamps, &mut Outbox::new(1), 1)?;
    match flow.receive(&mut stamps)? {
        [] => Err("no answer".into()),
        _ => Ok(()),
    }
}

// === impl Stamps ===

impl Stamps {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            buffer: vec![0; DATAGRAM_MAX],
            sent_at: Vec::new(),
        }
    }
}
