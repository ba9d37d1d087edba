//! One connection: header, dial, relay.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::preface::{self, Preface, PrefaceError};
use super::relay::{Closed, FirstBytes, relay, reset_on_close};
use super::{Stream, Tcp};
use crate::access_log::AccessLog;
use crate::addr::{ClientAddr, ShardFrontend, SourceError};
use crate::destination::DestinationError;
use crate::logging::Subject;
use crate::shard::admission::Refusal;
use crate::shard::deadline::within;
use crate::transparent::{DialError, Upstream};

/// Why a connection was not relayed.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    Preface(#[from] PrefaceError),
    #[error("no complete PROXY header within {seconds} s: is the sender configured with send-proxy?", seconds = .0.as_secs_f32())]
    HeaderTimedOut(Duration),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Destination(#[from] DestinationError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Dial(#[from] DialError),
    /// Out of memory, or of `fs.epoll.max_user_watches`.
    #[error("cannot watch a socket: {0}")]
    Watch(io::Error),
}

/// Serves an accepted connection to its end.
pub(super) async fn run(
    tcp: &Tcp,
    frontend: &ShardFrontend,
    downstream: OwnedFd,
    mut subject: Subject,
) {
    let accepted_at = Instant::now();
    subject.trace("accepted");
    let served = serve(tcp, frontend, downstream, &mut subject).await;
    let duration = accepted_at.elapsed();
    if let Some(access_log) = &tcp.access_log {
        note(access_log, &subject, &served, duration);
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
                SessionError::Refused(refusal) => tcp.admission.log(refusal, &subject),
                error => subject.failed("connection dropped", &error),
            }
        }
    }
    tcp.metrics.tcp.closed.increment();
    tcp.metrics.tcp.durations.observe(duration);
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

async fn serve(
    tcp: &Tcp,
    frontend: &ShardFrontend,
    downstream: OwnedFd,
    subject: &mut Subject,
) -> Result<Closed, SessionError> {
    let downstream = tcp
        .readiness
        .watch(downstream)
        .map_err(SessionError::Watch)?;
    let preface = within(
        tcp.header_timeout,
        preface::read(&downstream, &tcp.pages, tcp.trust),
    )
    .await;
    let Preface {
        origin,
        details,
        rest,
    } = preface.ok_or(SessionError::HeaderTimedOut(tcp.header_timeout))??;
    let client = tcp.trust.client(origin, subject.peer())?;
    let named = origin.destination();
    subject.set_client(client);
    let _permit = tcp.admission.ask(client).inspect_err(|_| {
        // As the server's own firewall would.
        reset_on_close(&downstream);
    })?;
    let dialed_at = Instant::now();
    let (upstream, first) = match dial(tcp, frontend, client, named, rest, subject).await {
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
    drop(details);
    let leash = tcp.roster.as_ref().map(|roster| roster.enter(client));
    Ok(relay(&downstream, &upstream, first, leash.as_ref(), tcp).await)
}

/// Connects to the server and sends the client's first bytes, as far as the kernel has room for them.
async fn dial(
    tcp: &Tcp,
    frontend: &ShardFrontend,
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
    let Upstream {
        socket,
        port_replaced,
        other_ear: _,
    } = tcp.dialer.connect(client, target)?;
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
    if within(tcp.connect_timeout, stream.writable())
        .await
        .is_none()
    {
        return Err(DialError::TimedOut {
            target,
            after: tcp.connect_timeout,
        }
        .into());
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

// === impl SessionError ===

impl SessionError {
    fn counter<'a>(&self, tcp: &'a Tcp) -> &'a crate::metrics::Counter {
        let metrics = &tcp.metrics.tcp;
        match self {
            Self::Preface(_) | Self::HeaderTimedOut(_) => &metrics.header_errors,
            Self::Source(_) => &metrics.sources_refused,
            Self::Destination(_) => &metrics.destinations_refused,
            Self::Refused(refusal) => refusal.counter(&metrics.refused),
            Self::Dial(_) | Self::Watch(_) => &metrics.dial_errors,
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
            _ => None,
        }
    }
}
