//! The preface of a connection: its PROXY header, complete, and whatever came with it.

use std::io;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{Pages, Stream};
use crate::header::{self, Decoded, Details, HeaderError, Origin, Transport};
use crate::logging;
use crate::trust::Trust;

/// Read of a new connection at first: any header, and often the first request behind it.
const FIRST_READ: usize = 16 << 10;

/// What a connection begins with.
#[derive(Debug)]
pub(crate) struct Preface {
    pub(crate) origin: Origin,
    /// What the header tells beside the addresses, if that is logged.
    pub(crate) details: Option<Box<Details>>,
    /// Bytes behind the header: the client's first.
    pub(crate) rest: Vec<u8>,
}

/// Why a connection has no preface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrefaceError {
    /// A health check, or a port scan. Many end with a reset, HAProxy's among them: it leaves nothing in TIME_WAIT.
    #[error("the peer connected and closed without a byte")]
    Empty,
    #[error("the peer closed after {0} bytes of the PROXY header")]
    Truncated(usize),
    #[error("{0}")]
    Header(HeaderError),
    #[error("cannot read the PROXY header: {0}")]
    Read(io::Error),
}

/// Reads the header, in whatever pieces it comes. Nothing is kept of a connection but what it has sent of its header.
pub(crate) async fn read(
    stream: &Stream,
    pages: &Pages,
    trust: Trust,
) -> Result<Preface, PrefaceError> {
    let mut partial = Vec::new();
    loop {
        let received = {
            let mut page = pages.borrow_mut();
            let buffer = &mut page.as_bytes_mut()[..FIRST_READ];
            match recv(stream, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) if partial.is_empty() => return Err(PrefaceError::Empty),
                Ok((_, 0)) => return Err(PrefaceError::Truncated(partial.len())),
                Ok((_, received)) => {
                    if let Some(preface) = accumulate(&mut partial, &buffer[..received], trust)? {
                        return Ok(preface);
                    }
                    true
                }
                Err(Errno::AGAIN) => false,
                Err(Errno::INTR) => true,
                Err(Errno::CONNRESET) if partial.is_empty() => return Err(PrefaceError::Empty),
                Err(error) => return Err(PrefaceError::Read(error.into())),
            }
        };
        if !received {
            stream.drained();
            stream.readable().await;
        }
    }
}

/// Looks for the end of the header in what has come so far; `partial` holds what came before.
fn accumulate(
    partial: &mut Vec<u8>,
    received: &[u8],
    trust: Trust,
) -> Result<Option<Preface>, PrefaceError> {
    let bytes = if partial.is_empty() {
        received
    } else {
        partial.extend_from_slice(received);
        partial.as_slice()
    };
    match header::decode(bytes, Transport::Stream).map_err(PrefaceError::Header)? {
        Decoded::Complete { header, consumed } => {
            let header = trust.check(header).map_err(PrefaceError::Header)?;
            Ok(Some(Preface {
                origin: header.origin(),
                details: logging::details(header.tlvs),
                rest: bytes[consumed..].to_vec(),
            }))
        }
        Decoded::Partial => {
            if partial.is_empty() {
                *partial = received.to_vec();
            }
            Ok(None)
        }
    }
}
