//! Clients that send as much as is taken, and read as much as comes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{HeaderVersion, Meter, Metric, Poll, Result, Run, Samples, Via};
use crate::server::EchoServer;
use crate::stream::{PATIENCE, connect, count};

/// The message of the benchmark this project began with (tcpkali).
const PING: &[u8] = b"PING\r\n";
const PING_CONNECTIONS: usize = 50;

/// Bytes that one write offers, and one read takes.
const BLOCK: usize = 64 << 10;

/// Connections that are flooded with copies of one message.
pub(crate) struct Flood {
    poll: Poll,
    connections: Vec<Flooded>,
    /// Copies of the message: a block of it from any offset within the first copy.
    source: Vec<u8>,
    message_len: usize,
    buffer: Vec<u8>,
}

struct Flooded {
    stream: TcpStream,
    /// Bytes sent and received so far.
    sent: u64,
    received: u64,
}

/// What passed in one turn of a flood.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) sent: usize,
    pub(crate) received: usize,
}

/// The benchmark this project began with: small messages both ways on 50 connections, behind a header of version 1.
pub(crate) fn seed(run: &Run<'_, EchoServer>) -> Result<Samples> {
    let via = run.via.with_header(HeaderVersion::V1);
    measure(run, Flood::start(&via, PING_CONNECTIONS, PING)?)
}

/// Runs a flood for as long as the measurement takes.
pub(crate) fn measure(run: &Run<'_, EchoServer>, mut flood: Flood) -> Result<Samples> {
    let mut meter = Meter::start(run);
    while meter.goes_on() {
        let passed = flood.turn(PATIENCE)?;
        meter.tally(|tally| tally.payload(passed.sent + passed.received));
    }
    let samples = meter.finish(Metric::Throughput)?;
    flood.check()?;
    Ok(samples)
}

// === impl Flood ===

impl Flood {
    pub(crate) fn start(via: &Via<'_>, connections: usize, message: &[u8]) -> Result<Self> {
        let poll = Poll::new()?;
        let mut flooded = Vec::new();
        for number in 0..connections {
            let stream = connect(via)?;
            stream.set_nonblocking(true)?;
            poll.add(&stream, number, Poll::READABLE | Poll::WRITABLE)?;
            flooded.push(Flooded {
                stream,
                sent: 0,
                received: 0,
            });
        }
        let copies = BLOCK.div_ceil(message.len()) + 1;
        Ok(Self {
            poll,
            connections: flooded,
            source: message.repeat(copies),
            message_len: message.len(),
            buffer: vec![0; BLOCK],
        })
    }

    /// Waits for connections that have something to say or take, and gives each its turn.
    pub(crate) fn turn(&mut self, patience: Duration) -> Result<Passed> {
        let ready = self.poll.wait(Some(patience))?;
        if ready == 0 {
            return Err("nothing moved for a long time".into());
        }
        let mut passed = Passed::default();
        for index in 0..ready {
            let (number, events) = self.poll.ready(index);
            if events.intersects(Poll::READABLE) {
                passed.received += self.receive(number)?;
            }
            if events.intersects(Poll::WRITABLE) {
                passed.sent += self.send(number)?;
            }
        }
        Ok(passed)
    }

    /// Bytes sent since the start.
    pub(crate) fn sent(&self) -> u64 {
        let sent = self.connections.iter().map(|connection| connection.sent);
        sent.sum()
    }

    /// Goes on until every connection has got something back: on a busy machine that may take longer than the measurement.
    pub(crate) fn check(&mut self) -> Result {
        let deadline = Instant::now() + PATIENCE;
        while self.connections.iter().any(|c| c.received == 0) {
            if Instant::now() > deadline {
                return Err("a connection got nothing back".into());
            }
            self.turn(PATIENCE)?;
        }
        Ok(())
    }

    fn send(&mut self, number: usize) -> Result<usize> {
        let connection = &mut self.connections[number];
        let from = (connection.sent % self.message_len as u64) as usize;
        let sent = count(connection.stream.write(&self.source[from..from + BLOCK]))?;
        connection.sent += sent as u64;
        Ok(sent)
    }

    fn receive(&mut self, number: usize) -> Result<usize> {
        let connection = &mut self.connections[number];
        let received = count(connection.stream.read(&mut self.buffer))?;
        let from = (connection.received % self.message_len as u64) as usize;
        if self.buffer[..received] != self.source[from..from + received] {
            return Err("bytes came back changed".into());
        }
        connection.received += received as u64;
        Ok(received)
    }
}
