//! Clients that connect, ask one thing and go.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::harness::{Meter, Metric, Poll, Result, Run, Samples, Via};
use crate::ping_pong::MESSAGE;
use crate::server::EchoServer;
use crate::stream::{PATIENCE, count};

/// A client's only message.
const QUESTION: [u8; MESSAGE] = [b'?'; MESSAGE];

/// A client on its visit.
struct Visit {
    stream: TcpStream,
    began_at: Instant,
    asked: bool,
    answer: [u8; MESSAGE],
    answer_len: usize,
}

/// So many clients at a time.
pub(crate) fn run(run: &Run<'_, EchoServer>, clients: usize) -> Result<Samples> {
    let mut poll = Poll::new()?;
    let mut visits = Vec::new();
    for number in 0..clients {
        visits.push(Visit::begin(&run.via, &poll, number)?);
    }
    let mut meter = Meter::start(run);
    while meter.goes_on() {
        let ready = poll.wait(Some(PATIENCE))?;
        if ready == 0 {
            return Err("no connection was served for a long time".into());
        }
        for index in 0..ready {
            let (number, _) = poll.ready(index);
            if let Some(latency) = visits[number].go_on(&run.via, &poll, number)? {
                meter.tally(|tally| tally.message(latency));
                visits[number] = Visit::begin(&run.via, &poll, number)?;
            }
        }
    }
    meter.finish(Metric::Connections)
}

// === impl Visit ===

impl Visit {
    fn begin(via: &Via<'_>, poll: &Poll, number: usize) -> Result<Self> {
        let began_at = Instant::now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // It goes with a reset, for its port would be taken for a minute otherwise.
        socket.set_linger(Some(Duration::ZERO))?;
        match socket.connect(&via.addr.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error.into());
            }
            _ => {}
        }
        let stream = TcpStream::from(socket);
        poll.add(&stream, number, Poll::WRITABLE)?;
        Ok(Self {
            stream,
            began_at,
            asked: false,
            answer: [0; MESSAGE],
            answer_len: 0,
        })
    }

    /// The next step. How long the visit took, once it is over.
    fn go_on(&mut self, via: &Via<'_>, poll: &Poll, number: usize) -> Result<Option<Duration>> {
        if !self.asked {
            let mut first = via.stream_header();
            first.extend(QUESTION);
            match self.stream.write(&first) {
                Ok(sent) if sent == first.len() => {}
                Ok(_) => return Err("a small message was not taken whole".into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(format!("a connection was refused: {error}").into()),
            }
            self.asked = true;
            poll.change(&self.stream, number, Poll::READABLE)?;
            return Ok(None);
        }
        let unread = &mut self.answer[self.answer_len..];
        self.answer_len += count(self.stream.read(unread))?;
        if self.answer_len < MESSAGE {
            return Ok(None);
        }
        if self.answer != QUESTION {
            return Err("an answer was changed".into());
        }
        Ok(Some(self.began_at.elapsed()))
    }
}
