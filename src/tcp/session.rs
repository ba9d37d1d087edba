//! One connection: header, dial, relay.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::preface::{self, Preface, PrefaceError};
use super::relay::{Closed, FirstBytes, Relay, reset_on_close};
use super::{Stream, Tcp};
use crate::access_log::AccessLog;
use crate::addr::{ClientAddr, ShardFrontend, SourceError};
use crate::destination::DestinationError;
use crate::limits::Permit;
use crate::logging::Subject;
use crate::panics;
use crate::shard::admission::Refusal;
use crate::shard::deadline::within;
use crate::transparent::{DialError, Traffic, Upstream};

/// Descriptors that are asked for before a connection is given up. Others may take them first.
const ROOMS_MAX: usize = 8;

/// Why a connection was not relayed.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    Preface(#[from] PrefaceError),
    #[error("no complete PROXY header within {seconds} s: is the sender configured with send-proxy?", seconds = .0.as_secs_f32())]
    HeaderTimedOut(Duration),
    #[error("no complete PROXY header so far, and others want its place")]
    Displaced,
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Destination(#[from] DestinationError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("reset by the peer before {0} answered")]
    Left(SocketAddr),
    /// Out of memory, or of `fs.epoll.max_user_watches`.
    #[error("cannot watch a socket: {0}")]
    Watch(io::Error),
}

/// Serves an accepted connection to its end. A panic ends it, with a reset to both sides, and nothing else.
pub(super) async fn run(
    tcp: &Tcp,
    frontend: &ShardFrontend,
    downstream: OwnedFd,
    subject: &mut Subject,
) {
    let accepted_at = Instant::now();
    let served = {
        let mut serving = pin!(serve(tcp, frontend, downstream, subject));
        poll_fn(|cx| panics::poll(serving.as_mut(), cx)).await
    };
    let duration = accepted_at.elapsed();
    let told = served.and_then(|served| panics::catch(|| tell(tcp, subject, served, duration)));
    if let Err(panic) = told {
        tcp.metrics.tcp.panics.increment();
        let message = "connection dropped: this is a bug, please report it";
        tcp.limits.panicked.error(subject, message, &panic);
        if let Some(access_log) = &tcp.access_log {
            access_log.note(subject.entry([0, 0], duration, "panic".into()));
        }
    }
    tcp.metrics.tcp.closed.increment();
    tcp.metrics.tcp.durations.observe(duration);
}

/// Counts and logs what a connection came to.
fn tell(tcp: &Tcp, subject: &Subject, served: Result<Closed, SessionError>, duration: Duration) {
    if let Some(access_log) = &tcp.access_log {
        note(access_log, subject, &served, duration);
    }
    match served {
        Ok(closed) => {
            subject.closed(
                closed.bytes_upstream,
                closed.bytes_downstream,
                &closed.reason,
            );
        }
        Err(error) => {
            error.counter(tcp).increment();
            if let Some(kind) = error.header_error_kind(tcp) {
                kind.increment();
            }
            match error {
                // Balancers check health this way.
                SessionError::Preface(PrefaceError::Empty) => {
                    subject.trace("closed without a byte")
                }
                SessionError::Refused(refusal) => tcp.admission.log(refusal, subject),
                error => subject.failed("connection dropped", &error),
            }
        }
    }
}

/// Leaves a line for the access log, unless nobody has said anything.
fn note(
    access_log: &AccessLog,
    subject: &Subject,
    served: &Result<Closed, SessionError>,
    duration: Duration,
) {
    let (bytes, reason) = match served {
        Ok(closed) => (
            [closed.bytes_upstream, closed.bytes_downstream],
            closed.reason.to_string(),
        ),
        Err(SessionError::Preface(PrefaceError::Empty)) => return,
        Err(error) => ([0, 0], error.to_string()),
    };
    access_log.note(subject.entry(bytes, duration, reason.into()));
}

/// What is left of the beginning of a session once its relay begins. Dropped in this order: a client may come again when
/// its connection is closed, not before.
struct Begun<'a> {
    relay: Relay<'a>,
    _permit: Permit,
}

async fn serve(
    tcp: &Tcp,
    frontend: &ShardFrontend,
    downstream: OwnedFd,
    subject: &mut Subject,
) -> Result<Closed, SessionError> {
    subject.trace("accepted");
    // In a box of its own, which is gone when the relay begins: an idle connection holds nothing of it.
    let mut begun = Box::pin(begin(tcp, frontend, downstream, subject)).await?;
    Ok(begun.relay.run().await)
}

/// All that comes before the relay: the preface, whether it is granted, and the server.
async fn begin<'a>(
    tcp: &'a Tcp,
    frontend: &ShardFrontend,
    downstream: OwnedFd,
    subject: &mut Subject,
) -> Result<Begun<'a>, SessionError> {
    let downstream = tcp
        .readiness
        .watch(downstream)
        .map_err(SessionError::Watch)?;
    let preface = preface::read(&downstream, &tcp.pages, tcp.trust);
    let preface = within(tcp.header_timeout, tcp.lobby.wait(preface)).await;
    let Preface {
        origin,
        details,
        rest,
    } = preface
        .ok_or(SessionError::HeaderTimedOut(tcp.header_timeout))?
        .ok_or(SessionError::Displaced)??;
    let client = tcp.trust.client(origin, subject.peer())?;
    let named = origin.destination();
    subject.set_client(client);
    let permit = tcp.admission.ask(client).inspect_err(|_| {
        // As the server's own firewall would.
        reset_on_close(&downstream);
    })?;
    let dialed_at = Instant::now();
    let dialed = dial(tcp, frontend, &downstream, client, named, rest, subject).await;
    let (upstream, first) = match dialed {
        Ok(dialed) => {
            tcp.metrics.tcp.dial_times.observe(dialed_at.elapsed());
            dialed
        }
        Err(error) => {
            // The client learns at once, as if the server itself had refused.
            reset_on_close(&downstream);
            return Err(error);
        }
    };
    subject.opened("connected", details.as_deref());
    let leash = tcp.roster.as_ref().map(|roster| roster.enter(client));
    let relay = Relay::new(downstream, upstream, first, leash, tcp);
    Ok(Begun {
        relay,
        _permit: permit,
    })
}

/// Connects to the server and sends the client's first bytes, as far as the kernel has room for them.
async fn dial(
    tcp: &Tcp,
    frontend: &ShardFrontend,
    downstream: &Stream,
    client: Option<ClientAddr>,
    named: Option<SocketAddr>,
    mut rest: Vec<u8>,
    subject: &mut Subject,
) -> Result<(Stream, FirstBytes), SessionError> {
    let peer = subject.peer();
    let target = tcp
        .destinations
        .target(&frontend.targets.get(), client, named, peer)?;
    subject.set_target(target);
    tcp.destinations
        .permit(target, client, peer.ip().is_loopback())?;
    let traffic = if rest.is_empty() {
        Traffic::Stream
    } else {
        Traffic::BegunStream
    };
    let Upstream {
        socket,
        port_replaced,
        other_ear: _,
    } = connect(tcp, traffic, client, target).await?;
    if let Some(error) = port_replaced {
        tcp.metrics.tcp.ports_replaced.increment();
        subject.failed(
            "the client's port could not be had, the kernel chose another",
            &error,
        );
    }
    let stream = tcp
        .readiness
        .watch(OwnedFd::from(socket))
        .map_err(SessionError::Watch)?;
    let failed = |error| SessionError::Dial(DialError::Connect { target, error });
    // Over loopback the handshake is usually done by now: then the first bytes can leave without a round of events.
    if !rest.is_empty() {
        match send(&stream, &rest, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest.drain(..sent);
                // A new vector where nothing is left: an idle connection holds no buffer.
                let unsent = if rest.is_empty() { Vec::new() } else { rest };
                return Ok((
                    stream,
                    FirstBytes {
                        sent: sent as u64,
                        unsent,
                    },
                ));
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    stream.filled();
    let answered = async {
        stream.writable().await;
        Ok(())
    };
    // An end alone does not count: whoever has finished may still listen.
    let left = async {
        downstream.failed().await;
        Err(SessionError::Left(target))
    };
    match within(tcp.connect_timeout, or(answered, left)).await {
        Some(Ok(())) => {}
        Some(Err(left)) => {
            // Should the server have answered just now, it learns of it.
            reset_on_close(&stream);
            return Err(left);
        }
        None => {
            return Err(DialError::TimedOut {
                target,
                after: tcp.connect_timeout,
            }
            .into());
        }
    }
    if let Some(error) = SockRef::from(&*stream).take_error().map_err(failed)? {
        return Err(failed(error));
    }
    Ok((
        stream,
        FirstBytes {
            sent: 0,
            unsent: rest,
        },
    ))
}

/// Begins to connect to the server. If descriptors have run out, connections without a header give theirs.
async fn connect(
    tcp: &Tcp,
    traffic: Traffic,
    client: Option<ClientAddr>,
    target: SocketAddr,
) -> Result<Upstream, DialError> {
    if let Some(client) = client {
        tcp.late_resets.yield_to(client.addr());
    }
    for _ in 0..ROOMS_MAX {
        match tcp.dialer.dial(traffic, client, target) {
            Err(error) if error.is_out_of_descriptors() => {
                if !tcp.lobby.make_room() {
                    return Err(error);
                }
                tcp.readiness.pause().await;
            }
            result => return result,
        }
    }
    tcp.dialer.dial(traffic, client, target)
}

// === impl SessionError ===

impl SessionError {
    fn counter<'a>(&self, tcp: &'a Tcp) -> &'a crate::metrics::Counter {
        let metrics = &tcp.metrics.tcp;
        match self {
            Self::Preface(_) | Self::HeaderTimedOut(_) | Self::Displaced => &metrics.header_errors,
            Self::Source(_) => &metrics.sources_refused,
            Self::Destination(_) => &metrics.destinations_refused,
            Self::Refused(refusal) => refusal.counter(&metrics.refused),
            Self::Dial(_) | Self::Left(_) | Self::Watch(_) => &metrics.dial_errors,
        }
    }

    /// What counts its kind, if it is of the header.
    fn header_error_kind<'a>(&self, tcp: &'a Tcp) -> Option<&'a crate::metrics::Counter> {
        let kinds = &tcp.metrics.tcp.header_error_kinds;
        match self {
            Self::Preface(PrefaceError::Empty) => Some(&kinds.empty),
            Self::Preface(PrefaceError::Truncated(_)) => Some(&kinds.closed_early),
            Self::Preface(PrefaceError::Header(error)) => Some(kinds.of(*error)),
            Self::Preface(PrefaceError::Read(_)) => Some(&kinds.unreadable),
            Self::HeaderTimedOut(_) => Some(&kinds.timed_out),
            Self::Displaced => Some(&kinds.displaced),
            _ => None,
        }
    }
}
