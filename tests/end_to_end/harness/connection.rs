//! One end of a TCP connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::{Balancer, Header, PATIENCE, Proxy, TcpServer};
use crate::namespace::TestResult;

/// The client's end, or the server's. Every step fails if it takes longer than [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Connection(TcpStream);

/// A connection of this client through the proxy to the server: the balancer's end and the server's.
#[track_caller]
pub(crate) fn open(
    proxy: &Proxy,
    server: &TcpServer,
    client: &str,
) -> TestResult<(Connection, Connection)> {
    let downstream = Balancer::default().connect(proxy, &Header::of(client)?)?;
    let session = server.accept()?;
    assert_eq!(session.peer()?, client.parse()?);
    Ok((downstream, session))
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> TestResult<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The socket itself, for what the methods here do not do.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.0
    }

    /// The address this end has.
    pub(crate) fn local(&self) -> TestResult<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Who this end believes to talk with.
    pub(crate) fn peer(&self) -> TestResult<SocketAddr> {
        Ok(self.0.peer_addr()?)
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: &[u8]) -> TestResult {
        Ok((&self.0).write_all(bytes)?)
    }

    /// Reads as many bytes as these are, and compares.
    #[track_caller]
    pub(crate) fn expect(&self, bytes: &[u8]) -> TestResult {
        let mut received = vec![0; bytes.len()];
        (&self.0).read_exact(&mut received)?;
        let Some(at) = received.iter().zip(bytes).position(|(a, b)| a != b) else {
            return Ok(());
        };
        let excerpt = at..bytes.len().min(at + 40);
        let (received, bytes) = (&received[excerpt.clone()], &bytes[excerpt]);
        let (received, bytes) = (received.escape_ascii(), bytes.escape_ascii());
        Err(format!("at byte {at}, received \"{received}\", expected \"{bytes}\"").into())
    }

    /// The other end is finished, and had nothing more to say.
    #[track_caller]
    pub(crate) fn expect_end(&self) -> TestResult {
        match (&self.0).read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("there are more bytes".into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The connection is reset, and had nothing more to say.
    #[track_caller]
    pub(crate) fn expect_reset(&self) -> TestResult {
        match (&self.0).read(&mut [0]) {
            Ok(0) => Err("an end, not a reset".into()),
            Ok(_) => Err("there are more bytes".into()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The connection is over, in whatever manner: with data left unread, an end is sent as a reset.
    #[track_caller]
    pub(crate) fn expect_over(&self) -> TestResult {
        match (&self.0).read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("there are more bytes".into()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The connection is reset, perhaps after a part of what was said before.
    #[track_caller]
    pub(crate) fn expect_reset_in_time(&self) -> TestResult {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(0) => return Err("an end, not a reset".into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Both ends hear each other.
    #[track_caller]
    pub(crate) fn expect_talk(&self, other: &Connection) -> TestResult {
        self.send(b"question")?;
        other.expect(b"question")?;
        other.send(b"answer")?;
        self.expect(b"answer")
    }

    /// What a server that echoes makes of these bytes.
    #[track_caller]
    pub(crate) fn expect_echo(&self, bytes: &[u8]) -> TestResult {
        self.send(bytes)?;
        self.expect(bytes)
    }

    /// Has nothing more to say, but listens.
    #[track_caller]
    pub(crate) fn finish(&self) -> TestResult {
        Ok(self.0.shutdown(Shutdown::Write)?)
    }

    /// Resets the connection (socket(7), SO_LINGER).
    pub(crate) fn reset(self) -> TestResult {
        Ok(SockRef::from(&self.0).set_linger(Some(Duration::ZERO))?)
    }
}
