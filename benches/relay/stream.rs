//! Connections of clients.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Result, Via};

/// How long anything may take before a measurement has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A new client's connection that has sent its header. It blocks.
pub(crate) fn connect(via: &Via<'_>) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&via.addr, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&via.stream_header())?;
    Ok(stream)
}

/// A read or write of a non-blocking connection: how many bytes, and none if it has to wait.
pub(crate) fn count(result: std::io::Result<usize>) -> Result<usize> {
    match result {
        Ok(0) => Err("a connection ended in the middle".into()),
        Ok(count) => Ok(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(format!("a connection broke: {error}").into()),
    }
}
