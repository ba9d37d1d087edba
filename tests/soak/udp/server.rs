//! The server: it answers, and says more of its own accord.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::thread;

use super::message::{LEN_MIN, Message, client_addr};
use super::{Tally, count};
use crate::Run;
use crate::kernel::drops;
use crate::namespace::TestResult;
use crate::random::Random;

/// A server of one family. It serves until the test is over.
pub(crate) struct Server {
    socket: UdpSocket,
}

/// What it knows of a client.
#[derive(Default)]
struct Known {
    heard: u64,
    said: u64,
}

// === impl Server ===

impl Server {
    pub(crate) fn start(ip: &str, tally: &Tally, run: &Run) -> TestResult<Self> {
        let socket = UdpSocket::bind((ip.parse::<IpAddr>()?, 0))?;
        let (serving, tally, run) = (socket.try_clone()?, tally.clone(), run.clone());
        thread::spawn(move || serve(&serving, &tally, &run));
        Ok(Self { socket })
    }

    pub(crate) fn addr(&self) -> TestResult<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// How many datagrams had no room in its buffer.
    pub(crate) fn lost(&self) -> TestResult<u64> {
        drops(&self.socket)
    }
}

fn serve(socket: &UdpSocket, tally: &Tally, run: &Run) {
    let mut random = Random::new(run.seed, 2 << 40);
    let mut clients: HashMap<u32, Known> = HashMap::new();
    let (mut buffer, mut answer) = (vec![0; 64 << 10], Vec::new());
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => {
                run.fail(format!("the UDP server hears: {error}"));
                return;
            }
        };
        let message = Message::read(&buffer[..len]);
        let Some(message) = message.filter(|it| it.to_server && client_addr(it.client) == from)
        else {
            run.fail(format!(
                "{from} cannot have said {message:?}, of {len} bytes"
            ));
            continue;
        };
        let client = clients.entry(message.client).or_default();
        if message.number <= client.heard {
            let (number, heard) = (message.number, client.heard);
            run.fail(format!("number {number} of {from} comes after {heard}"));
            continue;
        }
        client.heard = message.number;
        count(&tally.heard);
        // As large as the question, and perhaps something else.
        let more = if random.once_in(4) {
            random.below(4)
        } else {
            0
        };
        for n in 0..=more {
            let len = match n {
                0 => len,
                _ => LEN_MIN + random.of_any_size(1300) as usize,
            };
            client.said += 1;
            let said = Message {
                client: message.client,
                number: client.said,
                to_server: false,
            };
            answer.clear();
            said.write(&mut answer, len);
            // Before, as the client may have it before this thread goes on.
            count(&tally.said);
            if let Err(error) = socket.send_to(&answer, from) {
                tally.said.fetch_sub(1, Ordering::Relaxed);
                run.fail(format!("the UDP server cannot answer {from}: {error}"));
            }
        }
    }
}
