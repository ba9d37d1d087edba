//! Whom a peer speaks for, where only the first datagram of a session says so (`--udp-header v2-first`). Pure.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::flow::{FlowTable, FrontendId, Party};
use crate::addr::PeerAddr;

/// Where datagrams come from: a peer, and the frontend that it sends to. From one socket a balancer may send to several, for
/// other clients there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Downstream {
    /// The peer.
    pub peer: PeerAddr,
    /// The frontend.
    pub frontend: FrontendId,
}

/// What a header says of the datagrams that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// On whose behalf they are sent.
    pub party: Party,
    /// The destination it names, if it names a client.
    pub destination: Option<SocketAddr>,
}

/// The peers' addresses, by frontend, and whom each is bound to.
///
/// A binding ends when nothing has passed through its peer, either way, for as long as a flow may be idle; so it never
/// outlives its flow's idle time. There are at most as many as flows, and they make room for others in the same order.
#[derive(Debug)]
pub struct Bindings(FlowTable<Bound, Downstream>);

/// Whom a peer speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    To(Session),
    /// Nobody knows: its latest header was refused. What follows is no more the former client's.
    Nobody,
}

/// What a header has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether the peer speaks for somebody it did not speak for before.
    pub is_new: bool,
    /// Whom it spoke for until then, if it did for somebody else.
    pub former: Option<Session>,
}

// === impl Bindings ===

impl Bindings {
    /// No bindings yet, and never more than `bindings_max` (at least one). Each ends after `idle_max`.
    pub fn new(bindings_max: usize, idle_max: Duration) -> Self {
        Self(FlowTable::new(bindings_max, idle_max))
    }

    /// Notes that a peer speaks for somebody from now on.
    pub fn bind(&mut self, from: Downstream, to: Session, now: Instant) -> Change {
        self.set(from, Bound::To(to), now)
    }

    /// Notes that nobody knows whom a peer speaks for. Tells whom it spoke for until then.
    pub fn unbind(&mut self, from: Downstream, now: Instant) -> Option<Session> {
        // A peer without a binding needs none.
        self.0.find(&from)?;
        self.set(from, Bound::Nobody, now).former
    }

    /// Whom a peer speaks for. It has just done so.
    pub fn find(&mut self, from: Downstream, now: Instant) -> Option<Session> {
        let id = self.0.find(&from)?;
        self.0.touch(id, now);
        match self.0.get(id)?.state {
            Bound::To(session) => Some(session),
            Bound::Nobody => None,
        }
    }

    /// Notes a reply through a peer.
    pub fn answer(&mut self, from: Downstream, now: Instant) {
        if let Some(id) = self.0.find(&from) {
            self.0.answer(id, now);
        }
    }

    /// Whether to believe a header that says whom a peer speaks for. Not if it is to be this host (LOCAL, or a loopback
    /// address) and has been a client: any datagram but the first is the client's from its first byte on, and a client
    /// that writes such a header must not reach the server from an address that servers trust.
    pub fn may_bind(&self, from: Downstream, to: Session) -> bool {
        if !is_this_host(to) {
            return true;
        }
        let binding = self.0.find(&from);
        let binding = binding.and_then(|id| self.0.get(id));
        binding.is_none_or(|binding| binding.state.session().is_some_and(is_this_host))
    }

    /// Ends the bindings of a frontend that is no more.
    pub fn forget(&mut self, frontend: FrontendId) {
        for id in 0..self.0.places() {
            if self
                .0
                .get(id)
                .is_some_and(|binding| binding.key.frontend == frontend)
            {
                self.0.remove(id);
            }
        }
    }

    /// Ends one binding that has been idle for too long. Returns whether there was one.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.0.expire(now).is_some()
    }

    /// When the next binding ends unless something passes; None without bindings.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.0.next_expiry()
    }

    fn set(&mut self, from: Downstream, bound: Bound, now: Instant) -> Change {
        let mut former = None;
        if let Some(id) = self.0.find(&from) {
            if self.0.get(id).is_some_and(|binding| binding.state == bound) {
                self.0.touch(id, now);
                return Change {
                    is_new: false,
                    former: None,
                };
            }
            // Made anew: that the server answered the former client is nothing to the next.
            former = self
                .0
                .remove(id)
                .and_then(|binding| binding.state.session());
        }
        if self.0.is_full() {
            self.0.evict();
        }
        let Ok(_) = self.0.insert(from, now, |_| Ok::<_, Infallible>(bound));
        Change {
            is_new: true,
            former,
        }
    }
}

fn is_this_host(session: Session) -> bool {
    let client = session.party.client();
    client.is_none_or(|client| client.addr().ip().is_loopback())
}

// === impl Bound ===

impl Bound {
    fn session(self) -> Option<Session> {
        match self {
            Self::To(session) => Some(session),
            Self::Nobody => None,
        }
    }
}
