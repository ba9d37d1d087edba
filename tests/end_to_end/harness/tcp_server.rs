//! A TCP server behind the proxy.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::SockRef;

use super::{Connection, PATIENCE, reachable};
use crate::namespace::TestResult;

/// A listener whose connections a test accepts itself. Without [`TcpServer::accept`] they wait in the backlog.
pub(crate) struct TcpServer(TcpListener);

// === impl TcpServer ===

impl TcpServer {
    /// Listens on a port of the kernel's choice.
    #[track_caller]
    pub(crate) fn bind(ip: &str) -> TestResult<Self> {
        Self::bind_to(SocketAddr::new(ip.parse::<IpAddr>()?, 0))
    }

    /// Listens where a server listened before.
    #[track_caller]
    pub(crate) fn bind_to(addr: SocketAddr) -> TestResult<Self> {
        let listener = TcpListener::bind(addr)?;
        // Linux: this holds for accept, too (socket(7), SO_RCVTIMEO).
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
        Ok(Self(listener))
    }

    /// A server that sends everything back until it ends, on all connections at once. It serves until the test is over.
    #[track_caller]
    pub(crate) fn echo(ip: &str) -> TestResult<SocketAddr> {
        let listener = TcpListener::bind((ip.parse::<IpAddr>()?, 0))?;
        let addr = reachable(listener.local_addr()?);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The client finds out if this fails.
                thread::spawn(move || echo(&stream).ok());
            }
        });
        Ok(addr)
    }

    /// Where the proxy finds it: on loopback if it listens everywhere.
    pub(crate) fn addr(&self) -> TestResult<SocketAddr> {
        Ok(reachable(self.0.local_addr()?))
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> TestResult<Connection> {
        let accepted = self.0.accept();
        let (stream, _) = accepted.map_err(|error| format!("no connection came: {error}"))?;
        Connection::new(stream)
    }

    /// Nobody has connected. For when all who could have done so have been heard of.
    #[track_caller]
    pub(crate) fn expect_nobody(&self) -> TestResult {
        self.0.set_nonblocking(true)?;
        let accepted = self.0.accept();
        self.0.set_nonblocking(false)?;
        match accepted {
            Ok((_, peer)) => Err(format!("{peer} has connected").into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..count])?;
    }
}
