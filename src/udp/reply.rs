//! From the server back to the balancer.

use std::io;
use std::time::Instant;

use super::Udp;
use super::binding::Downstream;
use super::flow::{FlowId, FrontendId};
use super::mishap::AtWork;
use super::mode::SppBytes;
use crate::addr::PeerAddr;
use crate::sys::mmsg::{BATCH_MAX, Outgoing};

/// Replies of one flow before the other flows get a turn.
const REPLIES_MAX: usize = 32;

impl Udp {
    /// Fetches replies from the flows that have some and sends them in batches, whatever flow they are of.
    pub(super) fn reply(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut serving = std::mem::take(&mut self.serving);
        self.ready.take_all(&mut serving);
        if self.listeners.len() > 1 {
            // A batch leaves through one listener. An unstable sort allocates nothing.
            let frontend = |&id: &FlowId| self.flows.get(id).map(|flow| flow.state.frontend);
            serving.make_contiguous().sort_unstable_by_key(frontend);
        }
        let (mut through, mut filled) = (0, 0);
        for &id in &serving {
            // The flow may have ended since it became ready, and its id be another's.
            let Some(flow) = self.flows.get(id) else {
                continue;
            };
            let frontend = flow.state.frontend;
            if frontend != through || filled == BATCH_MAX {
                self.send_replies(through);
                (through, filled) = (frontend, 0);
            }
            self.at_work = AtWork::Flow(id);
            filled = self.fetch(id, filled, now);
        }
        self.send_replies(through);
        self.at_work = AtWork::Nothing;
        serving.clear();
        self.serving = serving;
    }

    /// Fetches replies of one flow into the places from `filled` on. Returns how many places are filled then.
    fn fetch(&mut self, id: FlowId, filled: usize, now: Instant) -> usize {
        let is_relieved = self.is_relieved();
        let Some(flow) = self.flows.get_mut(id) else {
            return filled;
        };
        let Some(socket) = flow.state.readable() else {
            return filled;
        };
        let room = (BATCH_MAX - filled).min(REPLIES_MAX);
        match self.replies.receive(socket, filled, room) {
            Ok(received) => {
                let is_to_be_asked = flow.state.is_to_be_asked(now);
                if is_relieved {
                    flow.state.yield_replies();
                }
                if received < room {
                    socket.drained();
                }
                if flow.state.readable().is_some() {
                    self.ready.push_back(id);
                }
                let filled_now = filled + received;
                let fetched_before = self.fetched.len();
                self.destinations.truncate(filled);
                self.destinations.resize(filled_now, flow.state.reply_to);
                for place in filled..filled_now {
                    for datagram in self.replies.datagrams(place) {
                        flow.state.bytes_downstream += datagram.len() as u64;
                        self.fetched.push(datagram);
                    }
                }
                self.some_merged |= self.fetched.len() - fetched_before > 1;
                if let Some(header) = flow.state.spp {
                    self.reply_headers.truncate(filled);
                    self.reply_headers.resize(filled_now, header);
                }
                self.flows.answer(id, now);
                self.heard_server(id, now);
                if received == room || is_to_be_asked {
                    self.look_at_flow(id, now);
                }
                if (filled..filled_now).any(|place| self.replies.is_cut(place)) {
                    self.note_cut();
                }
                filled_now
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.drained();
                if flow.state.readable().is_some() {
                    self.ready.push_back(id);
                }
                filled
            }
            Err(error) => {
                // Mostly "connection refused": the server is down. The flow waits for it to come back. Taking the error
                // off the socket was this call's work; there may be datagrams behind it.
                self.ready.push_back(id);
                self.settings.metrics.udp.upstream_errors.increment();
                let limit = self.limits.upstream.clone();
                if let Some(flow) = self.flows.get(id) {
                    limit.debug(
                        &self.subject_of(flow),
                        "cannot receive from the server",
                        Some(&error),
                    );
                }
                filled
            }
        }
    }

    /// Sends the fetched replies, all of flows of one frontend, each to its flow's latest peer address. What the kernel
    /// refuses is counted and dropped: a send buffer of some megabytes is full only if the network is, and then datagrams
    /// are lost anyway; waiting would hold up everybody else's.
    fn send_replies(&mut self, frontend: FrontendId) {
        let socket = self.listeners[frontend as usize].exit.socket();
        let mut fetched = std::mem::take(&mut self.fetched);
        let metrics = &self.settings.metrics.udp;
        let mut rest = fetched.as_slice();
        while let Some(first) = rest.first() {
            let peer = PeerAddr::new(self.destinations[first.place()].to);
            self.at_work = AtWork::Peer(Downstream { peer, frontend });
            let (replies, destinations) = (&self.replies, &self.destinations);
            let headers = &self.reply_headers;
            let segment_max = self.segments_downstream.len_max();
            let outgoing = |i: usize| {
                let place = rest[i].place();
                Outgoing {
                    header: headers.get(place).map_or(&[], SppBytes::as_slice),
                    payload: replies.bytes(rest[i]),
                    to: Some(destinations[place]),
                    segment_max,
                }
            };
            match self.outbox.send(socket, rest.len(), outgoing) {
                Ok(sent) => {
                    let lens = rest[..sent].iter().map(|reply| reply.len());
                    metrics.datagrams_downstream.add(sent as u64);
                    metrics.bytes_downstream.add(lens.sum::<usize>() as u64);
                    rest = &rest[sent..];
                    self.segments_downstream.sent();
                }
                Err(refused) => {
                    let lost = self.segments_downstream.refused(&refused);
                    if lost == 0 {
                        continue;
                    }
                    metrics.downstream_errors.add(lost as u64);
                    let subject = self.subject(frontend, peer);
                    self.limits.downstream.debug(
                        &subject,
                        "cannot send a reply",
                        Some(&refused.error),
                    );
                    rest = rest.get(lost..).unwrap_or_default();
                }
            }
        }
        fetched.clear();
        self.fetched = fetched;
    }
}
