//! The server behind the proxies: it sends each datagram back.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};
use socket2::SockRef;

use crate::harness::{Result, Target};
use crate::outbox::{DATAGRAM_MAX, Outbox};

/// Datagrams that are received before answers are sent.
const BATCH: usize = 32;
/// Room for a burst from all clients at once.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A server with one thread, which ends with the process.
pub(crate) struct EchoServer {
    socket: UdpSocket,
    addr: SocketAddr,
}

// === impl EchoServer ===

impl EchoServer {
    pub(crate) fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // As large as we may: root of a user namespace stays below `net.core.rmem_max`.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err()
        {
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        let addr = socket.local_addr()?;
        let serving = socket.try_clone()?;
        thread::Builder::new()
            .name("echo server".to_owned())
            .spawn(move || {
                if let Err(error) = serve(&serving) {
                    eprintln!("the echo server ended: {error}");
                }
            })?;
        Ok(Self { socket, addr })
    }

    /// From now on the kernel hands over datagrams of this size in one piece as far as it can (GRO), and takes answers
    /// the same way (GSO). With 0, each on its own.
    pub(crate) fn coalesce(&self, size: usize) -> Result {
        setsockopt(&self.socket, UdpGroSegment, &(size > 0))?;
        setsockopt(&self.socket, UdpGsoSegment, &i32::try_from(size)?)?;
        Ok(())
    }
}

impl Target for EchoServer {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn serve(socket: &UdpSocket) -> Result {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut answers = Outbox::new(BATCH);
    loop {
        let mut flags = RecvFlags::empty();
        while answers.len() < BATCH {
            match recvfrom(socket, &mut buffer[..], flags) {
                Ok((length, _, from)) => answers.push(&buffer[..length], from),
                Err(Errno::AGAIN) => break,
                // A client or proxy that has gone.
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(error) => return Err(error.into()),
            }
            flags = RecvFlags::DONTWAIT;
        }
        answers.send(socket)?;
    }
}
