//! The relay of an established session: both directions until both have ended.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;

use super::half::{Half, Progress};
use super::{Stream, Tcp};
use crate::shard::roster::{Ended, Leash};
use crate::sys::receive_queue::ReceiveQueue;
use crate::sys::sockopt::unacknowledged;

/// What a session came to.
#[derive(Debug)]
pub(crate) struct Closed {
    /// From the client to the server.
    pub(crate) bytes_upstream: u64,
    /// From the server to the client.
    pub(crate) bytes_downstream: u64,
    pub(crate) reason: Reason,
}

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum Reason {
    /// Both sides closed.
    Finished,
    /// The client's side was reset, or timed out.
    ClientFailed(io::Error),
    /// The server's side was reset, or timed out.
    ServerFailed(io::Error),
    /// Neither side ended it.
    Ended(Ended),
}

/// What the client sent along with the header.
pub(crate) struct FirstBytes {
    /// How many of them are with the server already.
    pub(crate) sent: u64,
    pub(crate) unsent: Vec<u8>,
}

/// A relay between two connections, which it owns. Moves bytes until both directions have ended, beginning with the
/// client's first bytes. A reset of one side is passed on to the other when the sockets are dropped. If the leash is pulled,
/// both sides are reset, unless the process ends: neither may take for the end of a stream what is none.
pub(crate) struct Relay<'a> {
    client: Side,
    server: Side,
    to_server: Half,
    to_client: Half,
    leash: Option<Leash>,
    tcp: &'a Tcp,
}

/// One connection of the two.
struct Side {
    stream: Stream,
    /// It took no more bytes: it was reset, which its other direction may not have found yet.
    closed: bool,
    /// The other side's end has been passed on to it.
    end_sent: bool,
}

// === impl Relay ===

impl<'a> Relay<'a> {
    pub(crate) fn new(
        downstream: Stream,
        upstream: Stream,
        first: FirstBytes,
        leash: Option<Leash>,
        tcp: &'a Tcp,
    ) -> Self {
        tcp.metrics.tcp.bytes_upstream.add(first.sent);
        Self {
            client: Side::new(downstream),
            server: Side::new(upstream),
            to_server: Half::new(first.sent, first.unsent),
            to_client: Half::new(0, Vec::new()),
            leash,
            tcp,
        }
    }

    /// Serves to the end. The sockets are closed when the relay is dropped.
    pub(crate) async fn run(&mut self) -> Closed {
        let reason = poll_fn(|cx| self.poll(cx)).await;
        match reason {
            Reason::Finished => {}
            // Where it was not a reset that it failed by, but the kernel had no memory, that side has to learn of it, too.
            Reason::ClientFailed(_) => {
                if !self.server.has_last_words() {
                    self.reset_server();
                }
                reset_on_close(&self.client.stream);
            }
            Reason::ServerFailed(_) => {
                if !self.client.has_last_words() {
                    reset_on_close(&self.client.stream);
                }
                reset_on_close(&self.server.stream);
            }
            Reason::Ended(ended) => {
                let metrics = &self.tcp.metrics.tcp;
                match ended {
                    Ended::Denied => metrics.ended_denied.increment(),
                    Ended::Idle(_) => metrics.ended_idle.increment(),
                    Ended::Cut => metrics.ended_cut.increment(),
                }
                // At its end the process closes them, as the kernel would.
                if ended != Ended::Cut {
                    reset_on_close(&self.client.stream);
                    self.reset_server();
                }
            }
        }
        Closed {
            bytes_upstream: self.to_server.bytes,
            bytes_downstream: self.to_client.bytes,
            reason,
        }
    }

    /// Lets the close send a reset to the server, and has it sent again if bytes that are on their way keep it from being
    /// obeyed.
    fn reset_server(&self) {
        let stream = &self.server.stream;
        if unacknowledged(stream).is_ok_and(|count| count > 0) {
            self.tcp.late_resets.answer_for(stream);
        }
        reset_on_close(stream);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(ended) = self.leash.as_ref().and_then(|leash| leash.pulled(cx)) {
            return Poll::Ready(Reason::Ended(ended));
        }
        self.client.stream.register(cx);
        self.server.stream.register(cx);
        let metrics = &self.tcp.metrics.tcp;

        let before = self.to_server.bytes;
        let sent = turn(
            &mut self.to_server,
            &self.client,
            &mut self.server,
            self.tcp,
        );
        let moved = self.to_server.bytes - before;
        metrics.bytes_upstream.add(moved);
        let up_again = match sent {
            Ok(again) => again,
            Err(Failed::Source(error)) => return Poll::Ready(Reason::ClientFailed(error)),
            Err(Failed::Sink(error)) => return Poll::Ready(Reason::ServerFailed(error)),
        };

        let before = self.to_client.bytes;
        let sent = turn(
            &mut self.to_client,
            &self.server,
            &mut self.client,
            self.tcp,
        );
        let moved_back = self.to_client.bytes - before;
        metrics.bytes_downstream.add(moved_back);
        self.tcp.locality.moved(moved + moved_back);
        let down_again = match sent {
            Ok(again) => again,
            Err(Failed::Source(error)) => return Poll::Ready(Reason::ServerFailed(error)),
            Err(Failed::Sink(error)) => return Poll::Ready(Reason::ClientFailed(error)),
        };

        if let Some(reason) = self.outcome() {
            return Poll::Ready(reason);
        }
        if let Some(leash) = &self.leash {
            leash.note([self.to_server.bytes, self.to_client.bytes]);
        }
        if up_again || down_again {
            self.tcp.readiness.resume_later(cx);
        }
        Poll::Pending
    }

    fn outcome(&self) -> Option<Reason> {
        match (self.to_server.ended(), self.to_client.ended()) {
            (true, true) if self.client.closed => Some(Reason::ClientFailed(reset())),
            (true, true) if self.server.closed => Some(Reason::ServerFailed(reset())),
            (true, true) => Some(Reason::Finished),
            // A side that has ended is read no more, and neither is a client whose server takes no more: then only the
            // failure of the connection tells of a reset. A server's last words are delivered first.
            (ended, false)
                if self.client.stream.has_failed() && (ended || self.to_server.holds_bytes()) =>
            {
                Some(Reason::ClientFailed(reset()))
            }
            // … unless the client takes none of them before it has been heard, and there is nobody left to hear it.
            (true, false) if self.server.closed && self.client.is_deadlocked(&self.to_client) => {
                Some(Reason::ServerFailed(reset()))
            }
            (false, true) if self.server.stream.has_failed() => Some(Reason::ServerFailed(reset())),
            // The client's own end, with the server's passed on to it, would look like a failure, but is no error.
            (false, true) if self.client.is_gone() && self.to_server.holds_bytes() => {
                Some(Reason::ClientFailed(reset()))
            }
            _ => None,
        }
    }
}

impl Drop for Relay<'_> {
    /// However it ends: the pool counts its pipes.
    fn drop(&mut self) {
        self.to_server.release(&self.tcp.pipes);
        self.to_client.release(&self.tcp.pipes);
    }
}

/// What ended a session early.
enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// Gives a direction its turn. Returns whether it wants another.
fn turn(half: &mut Half, source: &Side, sink: &mut Side, tcp: &Tcp) -> Result<bool, Failed> {
    if half.ended() {
        return Ok(false);
    }
    let mut pages = tcp.pages.borrow_mut();
    match half.advance(
        &source.stream,
        &sink.stream,
        pages.as_bytes_mut(),
        &tcp.pipes,
    ) {
        Progress::Blocked => Ok(false),
        Progress::Again => Ok(true),
        // A write has told of the reset already, so that the read found a plain end.
        Progress::Finished if source.closed => Err(Failed::Source(reset())),
        Progress::Finished => {
            sink.pass_on_end();
            Ok(false)
        }
        Progress::SinkClosed => {
            sink.closed = true;
            Ok(false)
        }
        Progress::SinkFailed(error) => Err(Failed::Sink(error)),
        Progress::SourceFailed(error) => Err(Failed::Source(error)),
    }
}

// === impl Side ===

impl Side {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            closed: false,
            end_sent: false,
        }
    }

    /// Whether its connection was reset, or timed out.
    fn is_gone(&self) -> bool {
        self.closed || self.stream.is_broken()
    }

    /// Whether it takes nothing of what it is sent now, and has said as much as there is room for, which nobody has read: it
    /// may be in the midst of a write, and read only after that. Whoever says less can read, however slowly.
    fn is_deadlocked(&self, to_it: &Half) -> bool {
        let is_full = |queue: ReceiveQueue| queue.used >= queue.limit / 2;
        to_it.holds_bytes()
            && !self.stream.has_hung_up()
            && ReceiveQueue::of(&self.stream).is_ok_and(is_full)
    }

    fn pass_on_end(&mut self) {
        // It fails only if the connection is gone, as the other direction will find.
        let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Write);
        self.end_sent = true;
    }

    /// Whether the end was passed on to it, and bytes before it are still on their way: a reset would take them back.
    fn has_last_words(&self) -> bool {
        // The end itself counts for one, and nothing is lost with it.
        self.end_sent && unacknowledged(&self.stream).is_ok_and(|count| count > 1)
    }
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("both sides closed"),
            Self::ClientFailed(error) => write!(f, "the client's side ended: {error}"),
            Self::ServerFailed(error) => write!(f, "the server's side ended: {error}"),
            Self::Ended(ended) => ended.fmt(f),
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Lets the socket's close send a reset (socket(7), SO_LINGER), so that the other end learns how the session ended.
pub(crate) fn reset_on_close(stream: &Stream) {
    let _ = SockRef::from(&**stream).set_linger(Some(Duration::ZERO));
}
