//! Flows that begin: whose, to which server, and by which socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::binding::{Downstream, Session};
use super::flow::{FlowId, FlowKey, FlowTable, FrontendId};
use super::losses::Losses;
use super::mishap::AtWork;
use super::roam::Silence;
use super::segments::ask_for_pieces;
use super::{FlowState, Udp};
use crate::addr::{ClientAddr, ListenAddr, PeerAddr};
use crate::destination::DestinationError;
use crate::header::{self, Decoded, Details, Transport};
use crate::limits::Descriptors;
use crate::logging::{self, Subject};
use crate::sys::mmsg::Destination;
use crate::transparent::{DialError, Upstream};

/// How long a player may be silent and still keep its descriptor when there are no others.
const BUSY: Duration = Duration::from_secs(10);

/// Flows that give theirs before a datagram is given up. Others may take it first: other shards, lists that are read.
const ROOMS_MAX: usize = 4;

/// The sockets of a flow.
struct Dialed {
    socket: OwnedFd,
    other_ear: Option<OwnedFd>,
    descriptors: Descriptors,
}

impl Udp {
    /// The flow of a session.
    pub(super) fn key(
        &self,
        session: Session,
        downstream: Downstream,
    ) -> Result<FlowKey, DialError> {
        let Session { party, destination } = session;
        let Downstream { peer, frontend } = downstream;
        let targets = self.listeners[frontend as usize].frontend.targets.get();
        let destinations = &self.settings.destinations;
        let target = destinations.target(&targets, party.client(), destination, peer)?;
        Ok(FlowKey { party, target })
    }

    /// The flow of a session; complains and counts if it can have none.
    pub(super) fn key_or_complain(
        &self,
        session: Session,
        downstream: Downstream,
    ) -> Option<FlowKey> {
        let error = match self.key(session, downstream) {
            Ok(key) => return Some(key),
            Err(error) => error,
        };
        self.settings.metrics.udp.dial_errors.increment();
        let mut subject = self.subject(downstream.frontend, downstream.peer);
        subject.set_client(session.party.client());
        let limit = &self.limits.dial;
        limit.debug(&subject, "datagram dropped", Some(&error));
        None
    }

    /// Drops a datagram for a flow that is there, but not for this peer, and counts it. Returns whether it did.
    pub(super) fn refuses_peer(&self, key: &FlowKey, downstream: Downstream) -> bool {
        let client = key.party.client();
        let destinations = &self.settings.destinations;
        let Err(error) = destinations.permit_again(key.target, client, downstream.peer) else {
            return false;
        };
        let mut subject = self.subject(downstream.frontend, downstream.peer);
        subject.set_client(client);
        subject.set_target(key.target);
        self.refuse_destination(&subject, &error);
        true
    }

    fn refuse_destination(&self, subject: &Subject, error: &DestinationError) {
        self.settings.metrics.udp.destinations_refused.increment();
        let limit = &self.limits.destination;
        limit.debug(subject, "datagram dropped", Some(error));
    }

    /// Begins a flow.
    pub(super) fn open(
        &mut self,
        key: FlowKey,
        frontend: FrontendId,
        reply_to: Destination,
        details: Option<Box<Details>>,
        now: Instant,
    ) -> Option<FlowId> {
        let mut subject = self.subject(frontend, PeerAddr::new(reply_to.to));
        subject.set_client(key.party.client());
        subject.set_target(key.target);
        let destinations = &self.settings.destinations;
        let from_here = subject.peer().ip().is_loopback() && self.mode.has_header_on_each();
        if let Err(error) = destinations.permit(key.target, key.party.client(), from_here) {
            self.refuse_destination(&subject, &error);
            return None;
        }
        let admission = &self.settings.admission;
        let permit = match admission.ask(key.party.client()) {
            Ok(permit) => permit,
            Err(refusal) => {
                let refused = &self.settings.metrics.udp.refused;
                refusal.counter(refused).increment();
                admission.log(refusal, &subject);
                return None;
            }
        };
        let dialed = match self.dial(key, frontend, &subject) {
            Ok(dialed) => dialed,
            Err(error) => {
                self.settings.metrics.udp.dial_errors.increment();
                let limit = &self.limits.dial;
                limit.debug(&subject, "datagram dropped", Some(&error));
                return None;
            }
        };
        if self.flows.is_full() {
            self.evict("--max-flows is reached", FlowTable::evict);
        }
        let (readiness, ready) = (&self.settings.readiness, &self.ready);
        let opened = self.flows.insert(key, now, |id| {
            let socket = readiness.watch_queued(dialed.socket, ready, id)?;
            let other_ear = dialed
                .other_ear
                .map(|other_ear| readiness.watch_queued(other_ear, ready, id))
                .transpose()?;
            Ok::<_, io::Error>(FlowState {
                socket,
                other_ear,
                _descriptors: dialed.descriptors,
                frontend,
                reply_to,
                _permit: permit,
                spp: None,
                silence: Silence::new(),
                losses: Losses::default(),
                asked_at: now,
                bytes_upstream: 0,
                bytes_downstream: 0,
                opened_at: now,
            })
        });
        match opened {
            Ok(flow) => {
                self.at_work = AtWork::Flow(flow);
                self.settings.metrics.udp.flows_opened.increment();
                self.listeners[frontend as usize].flows += 1;
                subject.opened("flow opened", details.as_deref());
                Some(flow)
            }
            Err(error) => {
                self.settings.metrics.udp.dial_errors.increment();
                let message = "datagram dropped: cannot watch its socket";
                self.limits.dial.debug(&subject, message, Some(&error));
                None
            }
        }
    }

    /// Makes the socket of a flow. If descriptors have run out, another flow gives its own: newcomers are not shut out by
    /// a flood of flows that nobody answers. A player who is busy does not: it is the other shards' flows, too, that take
    /// descriptors, and one flow after the other would go for them.
    fn dial(
        &mut self,
        key: FlowKey,
        frontend: FrontendId,
        subject: &Subject,
    ) -> Result<Dialed, DialError> {
        let (client, target) = (key.party.client(), key.target);
        let listen_addr = self.listeners[frontend as usize].frontend.listen;
        let mut dialed = self.associate(client, target, listen_addr);
        for _ in 0..ROOMS_MAX {
            let is_out = dialed.as_ref().is_err_and(DialError::is_out_of_descriptors);
            let has_room = is_out
                && self.evict("no file descriptors are left", |flows| {
                    flows.evict_unless_busy(Instant::now(), BUSY)
                });
            if !has_room {
                break;
            }
            dialed = self.associate(client, target, listen_addr);
        }
        let (upstream, descriptors) = dialed?;
        let Upstream {
            socket,
            port_replaced,
            other_ear,
        } = upstream;
        if let Some(error) = port_replaced {
            self.settings.metrics.udp.ports_replaced.increment();
            let message = "the client's port could not be had, the kernel chose another";
            self.limits.port.debug(subject, message, Some(&error));
        }
        let prepared = |socket| {
            ask_for_pieces(&socket);
            OwnedFd::from(socket)
        };
        Ok(Dialed {
            socket: prepared(socket),
            other_ear: other_ear.map(prepared),
            descriptors,
        })
    }

    fn associate(
        &self,
        client: Option<ClientAddr>,
        target: SocketAddr,
        listen_addr: ListenAddr,
    ) -> Result<(Upstream, Descriptors), DialError> {
        let none_left = |error| DialError::Socket { target, error };
        let mut descriptors = Descriptors::take(1).map_err(none_left)?;
        let upstream = self
            .settings
            .dialer
            .associate(client, target, listen_addr)?;
        if upstream.other_ear.is_some() {
            descriptors.take_more(1).map_err(none_left)?;
        }
        Ok((upstream, descriptors))
    }
}

/// What the header tells beside the addresses, if that is logged. It is decoded again for it, once a flow and only then.
pub(super) fn details(datagram: &[u8]) -> Option<Box<Details>> {
    if !logging::shows_details() {
        return None;
    }
    match header::decode(datagram, Transport::Datagram).and_then(Decoded::check) {
        Ok(Decoded::Complete { header, .. }) => logging::details(header.tlvs),
        _ => None,
    }
}
