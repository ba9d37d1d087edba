//! Asking the proxy.

mod clients;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

pub(super) use self::clients::Clients;

/// How long the proxy may take. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read: far more than a thousand shards fill.
const ANSWER_MAX: u64 = 4 << 20;

/// The proxy does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not answer.
    #[error("no answer from {addr}: {error}; is glommproxy running with --admin {addr}?")]
    Silent {
        /// Where it should be.
        addr: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// Somebody else answers.
    #[error(
        "what answers at {0} is no glommproxy: want the address it was started with as --admin"
    )]
    Stranger(SocketAddr),
}

/// What a proxy says of itself.
#[derive(Clone, Debug)]
pub(super) struct Status(Value);

// === impl Status ===

impl Status {
    pub(super) fn ask(addr: SocketAddr) -> Result<Self, AskError> {
        let answer = fetch(addr, "/status")?;
        Self::parse(&answer).ok_or(AskError::Stranger(addr))
    }

    fn parse(answer: &[u8]) -> Option<Self> {
        let status = document(answer).map(Self);
        status.filter(|it| it.0["shards"].is_array() && it.0["version"].is_string())
    }

    /// A text by its name.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// A number by its name.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.0["shards"].as_array().map_or(0, Vec::len)
    }

    /// A number of one shard.
    pub(super) fn of_shard(&self, shard: usize, name: &str) -> f64 {
        self.0["shards"][shard][name].as_f64().unwrap_or_default()
    }

    /// What was dropped: protocol, reason, how many.
    pub(super) fn dropped(&self) -> Vec<(&str, &str, f64)> {
        let rows = self.0["dropped"].as_array().map_or(&[][..], Vec::as_slice);
        rows.iter()
            .map(|row| {
                (
                    row["protocol"].as_str().unwrap_or_default(),
                    row["reason"].as_str().unwrap_or_default(),
                    row["count"].as_f64().unwrap_or_default(),
                )
            })
            .collect()
    }
}

/// Asks for a path, and returns the whole answer.
fn fetch(addr: SocketAddr, path: &str) -> Result<Vec<u8>, AskError> {
    let fetch = || {
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // The endpoint has one answer for a connection.
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    fetch().map_err(|error: io::Error| {
        // What a read says whose time is over (socket(7), SO_RCVTIMEO).
        let error = match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        };
        AskError::Silent { addr, error }
    })
}

/// The JSON of a good answer.
fn document(answer: &[u8]) -> Option<Value> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_good = head.starts_with("HTTP/1.1 200 ");
    serde_json::from_str(body).ok().filter(|_| is_good)
}
