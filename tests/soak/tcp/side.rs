//! One end of a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::STEP_MAX;
use super::plan::{Direction, Ending, Order, Plan};
use crate::noise::Noise;
use crate::random::Random;

/// Written or read at once, at most.
const CHUNK_MAX: u64 = 256 << 10;

/// What an end says, hears and does.
pub(super) struct Side {
    says: Direction,
    hears: Direction,
    /// Whether this end resets, and whether the other one does.
    resets: bool,
    is_reset: bool,
    /// Whether it begins only when the other one has ended.
    waits: bool,
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) received: u64,
    /// Whether it ended, before all was heard.
    ended_early: bool,
}

// === impl Side ===

impl Side {
    pub(super) fn client(plan: &Plan) -> Self {
        Self {
            says: plan.up,
            hears: plan.down,
            resets: plan.ending == Ending::ClientResets,
            is_reset: plan.ending == Ending::ServerResets,
            waits: plan.order == Order::ServerFirst,
        }
    }

    pub(super) fn server(plan: &Plan) -> Self {
        Self {
            says: plan.down,
            hears: plan.up,
            resets: plan.ending == Ending::ServerResets,
            is_reset: plan.ending == Ending::ClientResets,
            waits: plan.order == Order::ClientFirst,
        }
    }

    /// Says and hears everything, and ends the connection as planned.
    pub(super) fn talk(&self, stream: TcpStream) -> Result<Outcome, String> {
        let in_setup = |error| format!("cannot set up: {error}");
        stream.set_read_timeout(Some(STEP_MAX)).map_err(in_setup)?;
        stream.set_write_timeout(Some(STEP_MAX)).map_err(in_setup)?;
        let given_up = AtomicBool::new(false);
        let (heard_all, hears_all) = mpsc::channel();
        let (said, heard) = thread::scope(|scope| {
            let (stream, given_up) = (&stream, &given_up);
            let hearing = scope.spawn(move || {
                let heard = self.hear(stream, given_up);
                // Nobody may wait for it.
                let _ = heard_all.send(());
                heard
            });
            if self.waits {
                let _ = hears_all.recv();
            }
            let said = self.say(stream, given_up);
            (said, hearing.join())
        });
        if self.resets {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        let heard = heard.map_err(|_| "the hearing thread panicked")?;
        let (told_of_reset, outcome) = (said?, heard?);
        // The kernel tells of a reset once: whoever asks behind that finds a plain end.
        if outcome.ended_early && !told_of_reset {
            return Err(format!("an end after {outcome:?}"));
        }
        Ok(outcome)
    }

    /// Returns whether it was told of a reset.
    fn say(&self, mut stream: &TcpStream, given_up: &AtomicBool) -> Result<bool, String> {
        let Direction {
            seed,
            len,
            reset_at,
        } = self.says;
        let (noise, mut random) = (Noise::new(seed), Random::new(seed, 1));
        let end = if self.resets { reset_at } else { len };
        let mut sent = 0;
        while sent < end {
            // A stretch in one manner: small messages with pauses, or bulk.
            let stretch = end.min(sent + random.of_any_size(4 << 20));
            let is_bulk = random.once_in(2);
            let stretch = if is_bulk {
                stretch
            } else {
                stretch.min(sent + 20_000)
            };
            while sent < stretch {
                let chunk_max = if is_bulk { CHUNK_MAX } else { 2000 };
                let chunk = random.of_any_size(chunk_max).min(stretch - sent);
                let chunk = noise.at(sent, chunk as usize);
                match stream.write_all(chunk) {
                    Ok(()) => sent += chunk.len() as u64,
                    Err(error) if self.is_reset && is_reset(error.kind()) => return Ok(true),
                    Err(error) => return Err(format!("at byte {sent} it cannot say: {error}")),
                }
                if random.once_in(if is_bulk { 60 } else { 20 }) {
                    thread::sleep(random.millis(4));
                }
            }
        }
        if self.resets {
            given_up.store(true, Ordering::Release);
            // Wakes the thread that hears; nothing is sent.
            let _ = stream.shutdown(Shutdown::Read);
            return Ok(false);
        }
        match stream.shutdown(Shutdown::Write) {
            Err(error) if !self.is_reset => Err(format!("cannot end: {error}")),
            ended => Ok(ended.is_err()),
        }
    }

    fn hear(&self, mut stream: &TcpStream, given_up: &AtomicBool) -> Result<Outcome, String> {
        let Direction { seed, len, .. } = self.hears;
        let (noise, mut random) = (Noise::new(seed), Random::new(seed, 2));
        let mut buffer = vec![0; CHUNK_MAX as usize];
        let is_slow = random.once_in(8);
        let mut received = 0;
        let heard = |received, ended_early| {
            Ok(Outcome {
                received,
                ended_early,
            })
        };
        loop {
            let room = random.of_any_size(CHUNK_MAX) as usize;
            let room = if is_slow { room } else { room.max(4096) };
            match stream.read(&mut buffer[..room]) {
                Ok(0) if given_up.load(Ordering::Acquire) => return heard(received, false),
                Ok(0) if self.is_reset => return heard(received, true),
                Ok(0) if received == len => return heard(received, false),
                Ok(0) => return Err(format!("an end after {received} of {len} bytes")),
                Ok(count) => {
                    if let Some(at) = noise.differs(received, &buffer[..count]) {
                        return Err(format!("byte {at} is another's"));
                    }
                    received += count as u64;
                    if received > len {
                        return Err(format!("{received} bytes of {len}"));
                    }
                }
                Err(_) if given_up.load(Ordering::Acquire) => return heard(received, false),
                Err(error) if self.is_reset && is_reset(error.kind()) => {
                    return heard(received, false);
                }
                Err(error) => return Err(format!("at byte {received} it hears: {error}")),
            }
            if random.once_in(if is_slow { 8 } else { 100 }) {
                thread::sleep(random.millis(5));
            }
        }
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
