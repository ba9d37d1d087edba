//! From the balancer to the server.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::begin::details;
use super::binding::Downstream;
use super::flow::{FlowId, FrontendId};
use super::losses::Newcomers;
use super::mishap::AtWork;
use super::mode::Reading;
use super::segments::Known;
use super::{Admitted, Exit, Udp};
use crate::sys::mmsg::{BATCH_MAX, Destination, Outgoing, Span};

impl Udp {
    /// Takes about one batch of datagrams off the listeners and sends each to the server from its client's address.
    pub(super) fn forward(&mut self) {
        if self.is_interrupted() {
            self.forward_rest(Instant::now());
        }
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
                    self.look_at_queue(frontend, false, Instant::now());
                    self.separate(frontend);
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
        (self.incoming, self.incoming_to) = (0..received, frontend);
        let now = Instant::now();
        self.look_at_queue(frontend, received == BATCH_MAX, now);
        self.newcomers = Newcomers::ALL;
        if self.listeners[frontend as usize].queue.is_crowded() {
            self.newcomers.restrict();
        }
        self.forward_rest(now);
        self.separate(frontend);
        received
    }

    /// Whether a batch was left in the midst.
    pub(super) fn is_interrupted(&self) -> bool {
        !self.incoming.is_empty() || self.sent < self.admitted.len()
    }

    /// Forwards what is left of a batch.
    fn forward_rest(&mut self, now: Instant) {
        while let Some(place) = self.incoming.next() {
            self.at_work = AtWork::Datagram(self.incoming_to, place);
            self.admit_all(self.incoming_to, place, now);
        }
        self.send_admitted();
        self.set_expiry(now);
        self.at_work = AtWork::Nothing;
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
        self.at_work = AtWork::Peer(downstream);
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
            Some(_) if self.refuses_peer(&key, downstream) => return None,
            Some(flow) => {
                self.at_work = AtWork::Flow(flow);
                self.flows.touch(flow, now);
                self.heard_client(flow, speaker.is_new, now);
                flow
            }
            None if speaker.payload_at.is_none() => return None,
            None if self.refuses_new() => {
                self.settings.metrics.udp.refused_draining.increment();
                return None;
            }
            // What made-up clients cost would be taken from those who are being served.
            None if !self.newcomers.let_in() => {
                self.settings.metrics.udp.refused_overload.increment();
                let error = io::Error::other("they come faster than they can be served");
                let message = "datagrams of new clients dropped";
                self.limits
                    .overload
                    .warn(self.settings.listener, message, &error);
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

    /// Sends what is admitted, flow by flow, in order within each.
    pub(super) fn send_admitted(&mut self) {
        let before = self.at_work;
        // By place within a flow, so that an unstable sort, which allocates nothing, keeps the order.
        self.admitted[self.sent..]
            .sort_unstable_by_key(|datagram| (datagram.flow, datagram.payload));
        while let Some(&Admitted { flow, .. }) = self.admitted.get(self.sent) {
            let rest = &self.admitted[self.sent..];
            let run = rest.iter().take_while(|it| it.flow == flow).count();
            self.some_merged |= run > 1;
            let run = self.sent..self.sent + run;
            // What panics is not tried again.
            self.sent = run.end;
            self.at_work = AtWork::Flow(flow);
            self.send_run(run);
        }
        self.admitted.clear();
        self.sent = 0;
        self.at_work = before;
    }

    /// Sends consecutive datagrams of one flow. What the kernel refuses is counted; the flow lives on.
    fn send_run(&mut self, run: Range<usize>) {
        let run = &self.admitted[run];
        let Some(id) = run.first().map(|first| first.flow) else {
            return;
        };
        let Some(flow) = self.flows.get_mut(id) else {
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
                    self.segments_upstream.sent();
                }
                Err(refused) => {
                    let lost = self.segments_upstream.refused(&refused);
                    let error = refused.error;
                    let is_refusal = error.kind() == io::ErrorKind::ConnectionRefused;
                    if lost == 0 {
                        continue;
                    } else if is_refusal && !refused_before {
                        // An answer to an earlier datagram: nobody listened. This one has not been sent yet.
                        metrics.upstream_errors.increment();
                        refused_before = true;
                    } else {
                        metrics.upstream_errors.add(lost as u64);
                        rest = rest.get(lost..).unwrap_or_default();
                    }
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            let limit = &self.limits.upstream;
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
