//! One direction of a TCP relay.
//!
//! Small messages are **copied**: received into the shard's page buffer and sent at once, two system calls a message.
//! Once a receive fills the whole buffer the direction turns to **splice**: bytes then move through a pipe inside the
//! kernel, at a half to a quarter of the cost. When they come in small pieces again, it turns back. An idle direction
//! holds neither buffer nor pipe.

use std::io;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{SpliceFlags, splice};

use super::Stream;
use super::pipes::{Pipe, PipePool};

/// Asked of one splice.
const SPLICE_MAX: usize = 1 << 20;

/// Bytes and rounds of one direction before the other tasks of the shard get a turn …
const TURN_BYTES_MAX: u64 = 512 << 10;

/// … whichever comes first.
const TURN_ROUNDS_MAX: u32 = 8;

/// A splice that moves less than this was hardly worth it …
const SMALL: usize = 16 << 10;

/// … and so many of them in a row turn the direction back to copying.
const SMALL_ROUNDS_MAX: u8 = 4;

/// One direction of a relay.
pub(crate) struct Half {
    mode: Mode,
    /// Bytes the kernel took at the far side.
    pub(crate) bytes: u64,
    ended: bool,
}

enum Mode {
    /// With what the far side had no room for yet; usually nothing.
    Copy { unsent: Vec<u8> },
    /// The pipe is in the pool while there is nothing to move.
    Splice {
        pipe: Option<Pipe>,
        small_rounds: u8,
    },
}

/// Where a turn left a direction.
pub(crate) enum Progress {
    /// It waits for one of its sockets.
    Blocked,
    /// It has used up its turn.
    Again,
    /// The source ended, and all was sent: the end is to be passed on.
    Finished,
    /// The far side takes no more: its connection was reset, as the other direction will find.
    SinkClosed,
    /// The far side failed otherwise.
    SinkFailed(io::Error),
    /// The source failed: reset, or timed out.
    SourceFailed(io::Error),
}

// === impl Half ===

impl Half {
    /// A direction that has moved so many bytes already, and has others to send first.
    pub(crate) fn new(bytes: u64, unsent: Vec<u8>) -> Self {
        Self {
            mode: Mode::Copy { unsent },
            bytes,
            ended: false,
        }
    }

    /// Whether nothing more will come this way.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether it has bytes in hand that the far side had no room for.
    pub(crate) fn holds_bytes(&self) -> bool {
        match &self.mode {
            Mode::Copy { unsent } => !unsent.is_empty(),
            Mode::Splice { pipe, .. } => pipe.as_ref().is_some_and(|pipe| pipe.filled > 0),
        }
    }

    /// Moves what can be moved now. `buffer` is lent for the turn.
    pub(crate) fn advance(
        &mut self,
        source: &Stream,
        sink: &Stream,
        buffer: &mut [u8],
        pipes: &PipePool,
    ) -> Progress {
        let bytes_max = self.bytes + TURN_BYTES_MAX;
        for _ in 0..TURN_ROUNDS_MAX {
            if self.bytes >= bytes_max {
                break;
            }
            let step = match &mut self.mode {
                Mode::Copy { unsent } => copy_step(unsent, source, sink, buffer, &mut self.bytes),
                Mode::Splice { pipe, small_rounds } => {
                    // In its place even while it is used: whatever happens, `release` finds it there.
                    if pipe.is_none() {
                        *pipe = pipes.take();
                    }
                    let Some(taken) = pipe else {
                        self.release(pipes);
                        continue;
                    };
                    let step = splice_step(taken, small_rounds, source, sink, &mut self.bytes);
                    if matches!(step, Step::Blocked) && taken.filled == 0 {
                        pipe.take().into_iter().for_each(|empty| pipes.put(empty));
                    }
                    step
                }
            };
            match step {
                Step::Moved => {}
                Step::Bulk => {
                    self.mode = Mode::Splice {
                        pipe: None,
                        small_rounds: 0,
                    }
                }
                Step::Trickle => self.release(pipes),
                Step::Blocked => return Progress::Blocked,
                Step::Ended(progress) => {
                    self.ended = true;
                    self.release(pipes);
                    return progress;
                }
            }
        }
        Progress::Again
    }

    /// Gives the pipe back, if it has one.
    pub(crate) fn release(&mut self, pipes: &PipePool) {
        let mode = std::mem::replace(&mut self.mode, Mode::Copy { unsent: Vec::new() });
        if let Mode::Splice {
            pipe: Some(pipe), ..
        } = mode
        {
            pipes.put(pipe);
        }
    }
}

/// What one round did.
enum Step {
    /// Something; there may be more.
    Moved,
    /// A whole buffer: splice may pay.
    Bulk,
    /// The pipe is empty and the source gives little: copying is enough.
    Trickle,
    Blocked,
    Ended(Progress),
}

fn copy_step(
    unsent: &mut Vec<u8>,
    source: &Stream,
    sink: &Stream,
    buffer: &mut [u8],
    moved: &mut u64,
) -> Step {
    if !unsent.is_empty() {
        if !sink.is_writable() {
            return Step::Blocked;
        }
        return match send_some(sink, unsent) {
            Ok(sent) if sent == unsent.len() => {
                *moved += sent as u64;
                // Freed, not cleared: an idle connection holds no buffer.
                *unsent = Vec::new();
                Step::Moved
            }
            Ok(sent) => {
                *moved += sent as u64;
                unsent.drain(..sent);
                Step::Blocked
            }
            Err(error) => sink_failed(error),
        };
    }
    if !source.is_readable() {
        return Step::Blocked;
    }
    let received = match recv(source, &mut *buffer, RecvFlags::empty()) {
        Ok((_, 0)) => return Step::Ended(Progress::Finished),
        Ok((_, received)) => received,
        Err(Errno::INTR) => return Step::Moved,
        Err(Errno::AGAIN) => {
            source.drained();
            return Step::Blocked;
        }
        Err(error) => return Step::Ended(Progress::SourceFailed(error.into())),
    };
    let sent = match send_some(sink, &buffer[..received]) {
        Ok(sent) => sent,
        Err(error) => return sink_failed(error),
    };
    *moved += sent as u64;
    if sent < received {
        *unsent = buffer[sent..received].to_vec();
        return Step::Blocked;
    }
    if received == buffer.len() {
        return Step::Bulk;
    }
    if source.short_read_drains() {
        source.drained();
        return Step::Blocked;
    }
    Step::Moved
}

fn splice_step(
    pipe: &mut Pipe,
    small_rounds: &mut u8,
    source: &Stream,
    sink: &Stream,
    moved: &mut u64,
) -> Step {
    if pipe.filled > 0 && !sink.is_writable() {
        return Step::Blocked;
    }
    let mut all_taken = true;
    let mut taken = 0;
    if source.is_readable() {
        match splice(
            source,
            None,
            &pipe.writer,
            None,
            SPLICE_MAX,
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        ) {
            // The end of the stream, or urgent data with the end behind it: receiving tells them apart.
            Ok(0) if pipe.filled == 0 => return Step::Trickle,
            Ok(count) => taken = count,
            Err(Errno::INTR) => return Step::Moved,
            // The source is empty, or the pipe is full: only an empty pipe tells which. At urgent data (tcp(7)) it only
            // seems empty, which again receiving tells.
            Err(Errno::AGAIN) if pipe.filled == 0 && !source.short_read_drains() => {
                return Step::Trickle;
            }
            Err(Errno::AGAIN) if pipe.filled == 0 => {
                source.drained();
                return Step::Blocked;
            }
            Err(Errno::AGAIN) => all_taken = false,
            Err(error) => return Step::Ended(Progress::SourceFailed(error.into())),
        }
    }
    pipe.filled += taken;
    if pipe.filled == 0 {
        return Step::Blocked;
    }
    match splice(
        &pipe.reader,
        None,
        sink,
        None,
        pipe.filled,
        SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
    ) {
        Ok(sent) => {
            pipe.filled -= sent;
            *moved += sent as u64;
        }
        Err(Errno::INTR) => return Step::Moved,
        Err(Errno::AGAIN) => {
            sink.filled();
            return Step::Blocked;
        }
        Err(error) => return sink_failed(error.into()),
    }
    if pipe.filled > 0 || !all_taken {
        return Step::Moved;
    }
    *small_rounds = if taken < SMALL { *small_rounds + 1 } else { 0 };
    if *small_rounds >= SMALL_ROUNDS_MAX {
        Step::Trickle
    } else {
        Step::Moved
    }
}

fn sink_failed(error: io::Error) -> Step {
    Step::Ended(match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Progress::SinkClosed,
        _ => Progress::SinkFailed(error),
    })
}

/// Sends what the kernel takes: 0 if it has no room now.
fn send_some(sink: &Stream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(sink, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                if sent < bytes.len() {
                    sink.filled();
                }
                return Ok(sent);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                sink.filled();
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
