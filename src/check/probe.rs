//! Reaching out to servers: to all at once, each of which answers soon or is given up.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Socket, Type};

use crate::addr::{ClientAddr, PeerAddr};
use crate::transparent::{DialError, Dialer, Traffic};

/// How long a server may take. Over loopback a millisecond is long, and a server on another host is not far.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The port of the client that does not exist.
const CLIENT_PORT: u16 = 40001;

/// A server, and from where it is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) kind: Type,
    pub(super) target: SocketAddr,
    /// The client to speak for; our own address if there is none.
    pub(super) client: Option<IpAddr>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A TCP connection is established, or a datagram was answered.
    Reached,
    /// Nobody listens there.
    Refused,
    /// Nothing has come back.
    Silent,
    /// Anything else, in words.
    Failed(String),
}

/// Connects over TCP and sends an empty datagram over UDP.
pub(super) fn all(dialer: &Dialer, attempts: &[Attempt]) -> Vec<Outcome> {
    let deadline = Instant::now() + ANSWER_MAX;
    let mut pending: Vec<(usize, Type, Socket)> = Vec::new();
    let mut outcomes = vec![Outcome::Silent; attempts.len()];
    for (at, attempt) in attempts.iter().enumerate() {
        match begin(dialer, attempt) {
            Ok(socket) => pending.push((at, attempt.kind, socket)),
            Err(outcome) => outcomes[at] = outcome,
        }
    }
    while !pending.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = match wait(&pending, left) {
            Ok(ready) if ready.is_empty() => break,
            Ok(ready) => ready,
            Err(error) => {
                let failed = Outcome::Failed(format!("cannot wait for an answer: {error}"));
                pending
                    .iter()
                    .for_each(|(at, ..)| outcomes[*at] = failed.clone());
                break;
            }
        };
        let mut ready = ready.into_iter();
        pending.retain(|(at, kind, socket)| {
            let outcome = ready.next().unwrap_or(false).then(|| answer(*kind, socket));
            match outcome.flatten() {
                Some(outcome) => outcomes[*at] = outcome,
                None => return true,
            }
            false
        });
    }
    outcomes
}

fn begin(dialer: &Dialer, attempt: &Attempt) -> Result<Socket, Outcome> {
    let Attempt {
        kind,
        target,
        client,
    } = *attempt;
    let client = client.map(|ip| {
        let client = SocketAddr::new(ip, CLIENT_PORT);
        ClientAddr::believe(client, PeerAddr::new(target))
    });
    let client = client
        .transpose()
        .map_err(|error| Outcome::Failed(error.to_string()))?;
    let traffic = if kind == Type::STREAM {
        Traffic::Stream
    } else {
        Traffic::Datagrams
    };
    let socket = dialer.dial(traffic, client, target);
    let socket = socket.map_err(|error| match error {
        DialError::Connect { error, .. } => failed(&error),
        error => Outcome::Failed(error.to_string()),
    })?;
    let socket = socket.socket;
    if kind == Type::DGRAM {
        socket.send(&[]).map_err(|error| failed(&error))?;
    }
    Ok(socket)
}

/// Which of them have something to tell; none once the time is over.
fn wait(pending: &[(usize, Type, Socket)], left: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = pending
        .iter()
        .map(|(_, kind, socket)| {
            let wanted = if *kind == Type::STREAM {
                PollFlags::OUT
            } else {
                PollFlags::IN
            };
            PollFd::new(socket, wanted)
        })
        .collect();
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&left)) {
        Ok(0) => Ok(Vec::new()),
        Ok(_) => Ok(polled.iter().map(|it| !it.revents().is_empty()).collect()),
        // Nobody has anything to tell, and there may be time left.
        Err(rustix::io::Errno::INTR) => Ok(vec![false; pending.len()]),
        Err(error) => Err(error.into()),
    }
}

/// What a socket has to tell; None if it was nothing after all.
fn answer(kind: Type, socket: &Socket) -> Option<Outcome> {
    let result = if kind == Type::STREAM {
        socket
            .take_error()
            .and_then(|error| error.map_or(Ok(()), Err))
    } else {
        // Whatever it answers, it answers.
        io::Read::read(&mut &*socket, &mut [0; 1]).map(|_| ())
    };
    match result {
        Ok(()) => Some(Outcome::Reached),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(failed(&error)),
    }
}

fn failed(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        _ => Outcome::Failed(error.to_string()),
    }
}
