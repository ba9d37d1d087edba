//! Each client sends a message, waits for it to come back, and sends the next.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Meter, Metric, Poll, Result, Run, Samples, Via};
use crate::server::EchoServer;
use crate::stream::{PATIENCE, connect, count};

/// Bytes of a message: what a game sends at once.
pub(crate) const MESSAGE: usize = 64;

/// A client.
struct Player {
    stream: TcpStream,
    /// The message on its way.
    message: [u8; MESSAGE],
    number: u64,
    sent_at: Instant,
    /// What came back of it, and how much.
    back: [u8; MESSAGE],
    back_len: usize,
}

/// So many clients at once.
pub(crate) fn run(run: &Run<'_, EchoServer>, clients: usize) -> Result<Samples> {
    let mut poll = Poll::new()?;
    let mut players = Vec::new();
    for number in 0..run.scaled(clients) {
        let player = Player::connect(&run.via)?;
        player.stream.set_nonblocking(true)?;
        poll.add(&player.stream, number, Poll::READABLE)?;
        players.push(player);
    }
    for player in &mut players {
        player.send()?;
    }
    let mut meter = Meter::start(run);
    while meter.goes_on() {
        let ready = poll.wait(Some(PATIENCE))?;
        if ready == 0 {
            return Err("no message came back for a long time".into());
        }
        for index in 0..ready {
            let player = &mut players[poll.ready(index).0];
            if let Some(latency) = player.receive()? {
                meter.tally(|tally| tally.message(latency));
                player.send()?;
            }
        }
    }
    meter.finish(Metric::RoundTrips)
}

/// One message there and back, for proxies that may not be ready.
pub(crate) fn probe(via: &Via<'_>) -> Result {
    let mut player = Player::connect(via)?;
    player
        .stream
        .set_read_timeout(Some(Duration::from_secs(1)))?;
    player.exchange()?;
    Ok(())
}

// === impl Player ===

impl Player {
    fn connect(via: &Via<'_>) -> Result<Self> {
        Ok(Self {
            stream: connect(via)?,
            message: [0; MESSAGE],
            number: 0,
            sent_at: Instant::now(),
            back: [0; MESSAGE],
            back_len: 0,
        })
    }

    /// Sends the next message, which is like no other before it.
    fn send(&mut self) -> Result {
        self.number += 1;
        self.message[..8].copy_from_slice(&self.number.to_be_bytes());
        self.message[8..].fill(self.number as u8 | 1);
        self.sent_at = Instant::now();
        // So little always fits into a socket whose last message has come back.
        let sent = self.stream.write(&self.message)?;
        if sent != MESSAGE {
            return Err("a small message was not taken whole".into());
        }
        Ok(())
    }

    /// How long the message took, once it is back; None while it is not.
    fn receive(&mut self) -> Result<Option<Duration>> {
        self.back_len += count(self.stream.read(&mut self.back[self.back_len..]))?;
        if self.back_len < MESSAGE {
            return Ok(None);
        }
        let latency = self.sent_at.elapsed();
        if self.back != self.message {
            return Err("a message came back changed".into());
        }
        self.back_len = 0;
        Ok(Some(latency))
    }

    /// One message there and back on a blocking connection.
    fn exchange(&mut self) -> Result<Duration> {
        self.send()?;
        loop {
            if let Some(latency) = self.receive()? {
                return Ok(latency);
            }
        }
    }
}

/// A client on its own, whose connection blocks.
pub(crate) struct LonePlayer(Player);

// === impl LonePlayer ===

impl LonePlayer {
    pub(crate) fn connect(via: &Via<'_>) -> Result<Self> {
        Player::connect(via).map(Self)
    }

    /// One message there and back.
    pub(crate) fn exchange(&mut self) -> Result<Duration> {
        self.0.exchange()
    }
}
