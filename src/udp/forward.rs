//! From the balancer to the server.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::binding::{Downstream, Session};
use super::flow::{FlowId, FlowKey, FrontendId};
use super::mode::Reading;
use super::roam::Silence;
use super::segments::{Known, ask_for_pieces};
use super::{Admitted, Exit, FlowState, Udp};
use crate::addr::PeerAddr;
use crate::header::{self, Decoded, Details, Transport};
use crate::logging::{self, Subject};
use crate::sys::mmsg::{BATCH_MAX, Destination, Outgoing, Refused, Span};
use crate::transparent::{DialError, Upstream};

impl Udp {
    /// Takes about one batch of datagrams off the listeners and sends each to the server from its client's address.
    pub(super) fn forward(&mut self) {
        let mut received = 0;
        while received < BATCH_MAX
            && let Some(frontend) = self.arrived.pop()
        {
            // One without a datagram has cost a system call, too.
            received += self.forward_from(frontend).max(1);
        }
    }

    /// Forwards one batch of one listener, and puts it back if there may be more. Returns how many datagrams came.
    fn forward_from(&mut self, frontend: FrontendId) -> usize {
        let Exit::Listener(socket) = &self.listeners[frontend as usize].exit else {
            return 0;
        };
        let received = match self.inbox.receive(socket, 0, BATCH_MAX) {
            Ok(received) => received,
            Err(error) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    socket.drained();
                } else {
                    // A pending error of the socket, which this call has taken off.
                    let limit = &self.limits.receive;
                    limit.warn(self.settings.listener, "cannot receive datagrams", &error);
                    self.arrived.push_back(frontend);
                }
                return 0;
            }
        };
        if received < BATCH_MAX {
            socket.drained();
        } else {
            self.arrived.push_back(frontend);
        }
        let now = Instant::now();
        for place in 0..received {
            self.admit_all(frontend, place, now);
        }
        self.send_admitted();
        self.set_expiry(now);
        received
    }

    /// Finds or makes the flow of a datagram from a peer that may send; drops and counts it if it may not pass. Returns
    /// the header and the flow it led to, if others with that header are of that flow.
    pub(super) fn admit(
        &mut self,
        datagram: Span,
        downstream: Downstream,
        reply_to: Destination,
        now: Instant,
    ) -> Option<Known> {
        let bytes = self.inbox.bytes(datagram);
        let Reading { speaker, former } = self.mode.read(bytes, downstream, now);
        let key = match &speaker {
            Ok(speaker) => self.key_or_complain(speaker.session, downstream),
            Err(refusal) => {
                self.refuse(downstream, refusal);
                None
            }
        };
        if let Some(former) = former {
            self.displace(former, downstream, key);
        }
        let (Ok(speaker), Some(key)) = (speaker, key) else {
            return None;
        };
        let flow = match self.flows.find(&key) {
            Some(flow) => {
                self.flows.touch(flow, now);
                self.heard_client(flow, speaker.is_new, now);
                flow
            }
            None if speaker.payload_at.is_none() => return None,
            None if self.refuses_new() => {
                self.settings.metrics.udp.refused_draining.increment();
                return None;
            }
            None => {
                let details = details(self.inbox.bytes(datagram));
                self.open(key, downstream.frontend, reply_to, details, now)?
            }
        };
        if let Some(flow) = self.flows.get_mut(flow) {
            self.listeners[flow.state.frontend as usize].flows -= 1;
            self.listeners[downstream.frontend as usize].flows += 1;
            flow.state.frontend = downstream.frontend;
            flow.state.reply_to = reply_to;
            flow.state.spp = speaker.spp;
        }
        let payload_at = speaker.payload_at?;
        self.push_admitted(flow, datagram.behind(payload_at));
        self.mode.has_header_on_each().then(|| Known {
            header: datagram.first(payload_at),
            flow,
        })
    }

    pub(super) fn push_admitted(&mut self, flow: FlowId, payload: Span) {
        self.admitted.push(Admitted { flow, payload });
    }

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
    fn key_or_complain(&self, session: Session, downstream: Downstream) -> Option<FlowKey> {
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

    /// Begins a flow.
    fn open(
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
            self.settings.metrics.udp.destinations_refused.increment();
            let limit = &self.limits.destination;
            limit.debug(&subject, "datagram dropped", Some(&error));
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
        let (socket, other_ear) = match self.dial(key, frontend, &subject) {
            Ok(dialed) => dialed,
            Err(error) => {
                self.settings.metrics.udp.dial_errors.increment();
                let limit = &self.limits.dial;
                limit.debug(&subject, "datagram dropped", Some(&error));
                return None;
            }
        };
        if self.flows.is_full() {
            self.evict("--max-flows is reached");
        }
        let (readiness, ready) = (&self.settings.readiness, &self.ready);
        let opened = self.flows.insert(key, now, |id| {
            let socket = readiness.watch_queued(socket, ready, id)?;
            let other_ear = other_ear
                .map(|other_ear| readiness.watch_queued(other_ear, ready, id))
                .transpose()?;
            Ok::<_, io::Error>(FlowState {
                socket,
                other_ear,
                frontend,
                reply_to,
                _permit: permit,
                spp: None,
                silence: Silence::new(),
                bytes_upstream: 0,
                bytes_downstream: 0,
                opened_at: now,
            })
        });
        match opened {
            Ok(flow) => {
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
    /// a flood of flows that nobody answers.
    fn dial(
        &mut self,
        key: FlowKey,
        frontend: FrontendId,
        subject: &Subject,
    ) -> Result<(OwnedFd, Option<OwnedFd>), DialError> {
        let (client, target) = (key.party.client(), key.target);
        let listen_addr = self.listeners[frontend as usize].frontend.listen;
        let mut dialed = self.settings.dialer.associate(client, target, listen_addr);
        if dialed.as_ref().is_err_and(DialError::is_out_of_descriptors)
            && self.evict("no file descriptors are left")
        {
            dialed = self.settings.dialer.associate(client, target, listen_addr);
        }
        let Upstream {
            socket,
            port_replaced,
            other_ear,
        } = dialed?;
        if let Some(error) = port_replaced {
            self.settings.metrics.udp.ports_replaced.increment();
            let message = "the client's port could not be had, the kernel chose another";
            self.limits.port.debug(subject, message, Some(&error));
        }
        let prepared = |socket| {
            ask_for_pieces(&socket);
            OwnedFd::from(socket)
        };
        Ok((prepared(socket), other_ear.map(prepared)))
    }

    /// Ends the flow that has to go first. Returns whether there was one.
    fn evict(&mut self, why: &'static str) -> bool {
        // Admitted datagrams name their flows by id, and the next flow may get the evicted one's: send them first.
        self.send_admitted();
        let Some(flow) = self.flows.evict() else {
            return false;
        };
        self.settings.metrics.udp.flows_evicted.increment();
        let limit = &self.limits.evicted;
        limit.debug(&self.subject_of(&flow), "flow ended early", Some(&why));
        self.ended(&flow, "evicted");
        true
    }

    /// Sends what is admitted, flow by flow, in order within each.
    pub(super) fn send_admitted(&mut self) {
        let mut admitted = std::mem::take(&mut self.admitted);
        // By place within a flow, so that an unstable sort, which allocates nothing, keeps the order.
        admitted.sort_unstable_by_key(|datagram| (datagram.flow, datagram.payload));
        for run in admitted.chunk_by(|a, b| a.flow == b.flow) {
            self.send_run(run);
        }
        admitted.clear();
        self.admitted = admitted;
    }

    /// Sends consecutive datagrams of one flow. What the kernel refuses is counted; the flow lives on.
    fn send_run(&mut self, run: &[Admitted]) {
        let Some(flow) = run.first().and_then(|first| self.flows.get_mut(first.flow)) else {
            return;
        };
        let metrics = &self.settings.metrics.udp;
        let inbox = &self.inbox;
        let mut rest = run;
        let mut refused_before = false;
        let mut failed = None;
        while !rest.is_empty() {
            let segment_max = self.segments_upstream.len_max();
            let outgoing = |i: usize| Outgoing {
                header: &[],
                payload: inbox.bytes(rest[i].payload),
                to: None,
                segment_max,
            };
            match self.outbox.send(&flow.state.socket, rest.len(), outgoing) {
                Ok(sent) => {
                    let lens = rest[..sent].iter().map(|datagram| datagram.payload.len());
                    let bytes = lens.sum::<usize>() as u64;
                    flow.state.bytes_upstream += bytes;
                    metrics.datagrams_upstream.add(sent as u64);
                    metrics.bytes_upstream.add(bytes);
                    rest = &rest[sent..];
                    refused_before = false;
                }
                Err(refused) if self.segments_upstream.learn(&refused) => {}
                // An answer to an earlier datagram: nobody listened. This one has not been sent yet.
                Err(Refused { error, .. })
                    if error.kind() == io::ErrorKind::ConnectionRefused && !refused_before =>
                {
                    metrics.upstream_errors.increment();
                    failed = Some(error);
                    refused_before = true;
                }
                Err(Refused {
                    error, datagrams, ..
                }) => {
                    metrics.upstream_errors.add(datagrams as u64);
                    failed = Some(error);
                    rest = &rest[datagrams..];
                }
            }
        }
        if let Some(error) = failed {
            let (id, limit) = (run[0].flow, self.limits.upstream.clone());
            if let Some(flow) = self.flows.get(id) {
                limit.debug(
                    &self.subject_of(flow),
                    "cannot send to the server",
                    Some(&error),
                );
            }
        }
    }
}

/// What the header tells beside the addresses, if that is logged. It is decoded again for it, once a flow and only then.
fn details(datagram: &[u8]) -> Option<Box<Details>> {
    if !logging::shows_details() {
        return None;
    }
    match header::decode(datagram, Transport::Datagram) {
        Ok(Decoded::Complete { header, .. }) => logging::details(header.tlvs),
        _ => None,
    }
}
