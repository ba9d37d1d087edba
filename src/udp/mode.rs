//! Who a datagram is from, by what its sender puts in front of payloads (`--udp-header`). Pure.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::binding::{Bindings, Downstream, Session};
use super::flow::{FrontendId, Party};
use crate::addr::SourceError;
use crate::config::UdpHeader;
use crate::header::{self, Decoded, HeaderError, Origin, Transport, spp};
use crate::trust::Trust;

/// A header of Simple Proxy Protocol, as it came.
pub(super) type SppBytes = [u8; spp::LEN];

/// What datagrams begin with, how much of it is believed, and what is known from earlier ones.
pub(super) struct Mode {
    trust: Trust,
    kind: Kind,
}

enum Kind {
    V2,
    V2First(Bindings),
    Spp,
}

/// What a datagram says.
pub(super) struct Reading {
    /// On whose behalf it was sent, or why it is dropped.
    pub(super) speaker: Result<Speaker, Refusal>,
    /// Whom its peer spoke for before, if that is over.
    pub(super) former: Option<Session>,
}

/// On whose behalf a datagram was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Speaker {
    pub(super) session: Session,
    /// Where its payload begins; None if it is a header for others that follow.
    pub(super) payload_at: Option<usize>,
    /// What replies begin with.
    pub(super) spp: Option<SppBytes>,
    /// Whether its peer speaks for this client for the first time, as far as that is known.
    pub(super) is_new: bool,
}

/// Why a datagram is dropped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Header(HeaderError),
    #[error(transparent)]
    Source(SourceError),
    /// A header may have been lost, or have been refused, or be longer ago than `--close-after`.
    #[error("{}", Self::unbound(*.0))]
    Unbound(HeaderError),
    #[error(
        "a header that says LOCAL, or names a loopback address, from the peer of a client, who may have written it"
    )]
    HostBehindClient,
}

// === impl Mode ===

impl Mode {
    pub(super) fn new(
        header: UdpHeader,
        trust: Trust,
        flows_max: usize,
        idle_max: Duration,
    ) -> Self {
        let kind = match header {
            UdpHeader::V2 => Kind::V2,
            UdpHeader::V2First => Kind::V2First(Bindings::new(flows_max, idle_max)),
            UdpHeader::Spp => Kind::Spp,
        };
        Self { trust, kind }
    }

    /// Reads a datagram. What it says of its peer is remembered, if the others rely on that.
    pub(super) fn read(&mut self, datagram: &[u8], from: Downstream, now: Instant) -> Reading {
        let trust = self.trust;
        let speaker = match &mut self.kind {
            Kind::V2 => read_v2(datagram, from, trust).map(|(session, payload_at)| Speaker {
                session,
                payload_at: Some(payload_at),
                spp: None,
                is_new: false,
            }),
            Kind::V2First(bindings) => return read_first(bindings, datagram, from, trust, now),
            Kind::Spp => read_spp(datagram, from, trust),
        };
        Reading {
            speaker,
            former: None,
        }
    }

    /// Whether each datagram has a header. Then a header is its peer's own, and one like it says the same.
    pub(super) fn has_header_on_each(&self) -> bool {
        !matches!(self.kind, Kind::V2First(_))
    }

    /// Notes a reply through a peer.
    pub(super) fn answer(&mut self, from: Downstream, now: Instant) {
        if let Kind::V2First(bindings) = &mut self.kind {
            bindings.answer(from, now);
        }
    }

    /// Notes that a frontend is no more: its id may become another's.
    pub(super) fn forget(&mut self, frontend: FrontendId) {
        if let Kind::V2First(bindings) = &mut self.kind {
            bindings.forget(frontend);
        }
    }

    /// Ends one binding that has been idle for too long. Returns whether there was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        match &mut self.kind {
            Kind::V2First(bindings) => bindings.expire(now),
            Kind::V2 | Kind::Spp => false,
        }
    }

    /// When the next binding ends, if there is one.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        match &self.kind {
            Kind::V2First(bindings) => bindings.next_expiry(),
            Kind::V2 | Kind::Spp => None,
        }
    }
}

fn read_v2(datagram: &[u8], from: Downstream, trust: Trust) -> Result<(Session, usize), Refusal> {
    let decoded = header::decode(datagram, Transport::Datagram).map_err(Refusal::Header)?;
    let Decoded::Complete { header, consumed } = decoded else {
        return Err(Refusal::Header(HeaderError::Truncated));
    };
    let header = trust.check(header).map_err(Refusal::Header)?;
    let session = session(header.origin(), from, trust)?;
    Ok((session, consumed))
}

fn read_first(
    bindings: &mut Bindings,
    datagram: &[u8],
    from: Downstream,
    trust: Trust,
    now: Instant,
) -> Reading {
    let refusal = match read_v2(datagram, from, trust) {
        Ok((session, _)) if !bindings.may_bind(from, session) => Refusal::HostBehindClient,
        Ok((session, payload_at)) => {
            let change = bindings.bind(from, session, now);
            let speaker = Speaker {
                session,
                payload_at: (payload_at < datagram.len()).then_some(payload_at),
                spp: None,
                is_new: change.is_new,
            };
            return Reading {
                speaker: Ok(speaker),
                former: change.former,
            };
        }
        Err(Refusal::Header(absence)) if absence.is_absence() => {
            let bound = bindings.find(from, now).ok_or(Refusal::Unbound(absence));
            let speaker = bound.map(|session| Speaker {
                session,
                payload_at: Some(0),
                spp: None,
                is_new: false,
            });
            return Reading {
                speaker,
                former: None,
            };
        }
        Err(refusal) => refusal,
    };
    // The header was to name the sender of what follows, so that is not the former client.
    Reading {
        speaker: Err(refusal),
        former: bindings.unbind(from, now),
    }
}

/// What a header says of the datagrams that it is for.
fn session(origin: Origin, from: Downstream, trust: Trust) -> Result<Session, Refusal> {
    let client = trust.client(origin, from.peer).map_err(Refusal::Source)?;
    Ok(Session {
        party: client.map_or(Party::Peer(from.peer, from.frontend), Party::Client),
        destination: origin.destination(),
    })
}

fn read_spp(datagram: &[u8], from: Downstream, trust: Trust) -> Result<Speaker, Refusal> {
    let header = spp::decode(datagram).map_err(Refusal::Header)?;
    let origin = Origin::Proxied {
        source: header.source,
        destination: header.destination,
    };
    Ok(Speaker {
        session: session(origin, from, trust)?,
        payload_at: Some(spp::LEN),
        spp: Some(*header.bytes),
        is_new: false,
    })
}

// === impl Refusal ===

impl Refusal {
    fn unbound(absence: HeaderError) -> String {
        match absence {
            HeaderError::Missing => {
                "no PROXY header, and none that holds came from this peer before: it was lost, or \
                                     refused, or is longer ago than --close-after"
                    .to_owned()
            }
            other => other.to_string(),
        }
    }
}
