//! A UDP server behind the proxy.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use super::{PATIENCE, reachable};
use crate::namespace::TestResult;

/// More than any datagram's payload.
const DATAGRAM_MAX: usize = 64 << 10;

/// A socket whose datagrams a test receives itself.
pub(crate) struct UdpServer(UdpSocket);

/// What came, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

// === impl UdpServer ===

impl UdpServer {
    /// Binds to a port of the kernel's choice.
    #[track_caller]
    pub(crate) fn bind(ip: &str) -> TestResult<Self> {
        Self::bind_to(SocketAddr::new(ip.parse::<IpAddr>()?, 0))
    }

    /// Binds to where a server was before.
    #[track_caller]
    pub(crate) fn bind_to(addr: SocketAddr) -> TestResult<Self> {
        let socket = UdpSocket::bind(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// A server that answers every datagram with the address it came from, a space, and its payload. It serves until
    /// the test is over.
    #[track_caller]
    pub(crate) fn echo(ip: &str) -> TestResult<SocketAddr> {
        let socket = UdpSocket::bind((ip.parse::<IpAddr>()?, 0))?;
        let addr = reachable(socket.local_addr()?);
        thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_MAX];
            // An answer that cannot be sent is for the client to miss.
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = [format!("{from} ").as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(addr)
    }

    /// Where the proxy finds it: on loopback if it is bound to everything.
    pub(crate) fn addr(&self) -> TestResult<SocketAddr> {
        Ok(reachable(self.0.local_addr()?))
    }

    /// The socket itself, for what the methods here do not do.
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.0
    }

    /// The next datagram.
    #[track_caller]
    pub(crate) fn receive(&self) -> TestResult<Datagram> {
        receive(&self.0)
    }

    /// The next datagram, which must be this.
    #[track_caller]
    pub(crate) fn expect(&self, from: &str, payload: &[u8]) -> TestResult<Datagram> {
        let datagram = self.receive()?;
        let expected = Datagram {
            from: from.parse()?,
            payload: payload.to_vec(),
        };
        if datagram != expected {
            return Err(format!("received {datagram:?}, expected {expected:?}").into());
        }
        Ok(datagram)
    }

    /// Nothing has come. For when all that could have come has been heard of.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) -> TestResult {
        expect_nothing(&self.0)
    }

    /// Forgets what has come so far.
    #[track_caller]
    pub(crate) fn drain(&self) -> TestResult {
        while try_receive(&self.0)?.is_some() {}
        Ok(())
    }

    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr, payload: &[u8]) -> TestResult {
        self.0.send_to(payload, to)?;
        Ok(())
    }
}

#[track_caller]
pub(super) fn receive(socket: &UdpSocket) -> TestResult<Datagram> {
    let mut payload = vec![0; DATAGRAM_MAX];
    let received = socket.recv_from(&mut payload);
    let (length, from) = received.map_err(|error| format!("no datagram came: {error}"))?;
    payload.truncate(length);
    Ok(Datagram { from, payload })
}

#[track_caller]
pub(super) fn expect_nothing(socket: &UdpSocket) -> TestResult {
    match try_receive(socket)? {
        Some(datagram) => Err(format!("{datagram:?} has come").into()),
        None => Ok(()),
    }
}

/// The next datagram, if it is there.
#[track_caller]
fn try_receive(socket: &UdpSocket) -> TestResult<Option<Datagram>> {
    socket.set_nonblocking(true)?;
    let mut payload = vec![0; DATAGRAM_MAX];
    let received = socket.recv_from(&mut payload);
    socket.set_nonblocking(false)?;
    match received {
        Ok((length, from)) => {
            payload.truncate(length);
            Ok(Some(Datagram { from, payload }))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}
