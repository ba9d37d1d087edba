//! From the server back to the balancer.

use std::io;
use std::time::Instant;

use super::Udp;
use super::flow::{FlowId, FrontendId};
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
            // A batch leaves through one listener.
            let frontend = |&id: &FlowId| self.flows.get(id).map(|flow| flow.state.frontend);
            serving.make_contiguous().sort_by_key(frontend);
        }
        let (mut through, mut filled) = (0, 0);
        for &id in &serving {
            // The flow may have ended since it became ready, and its id be another's.
            let Some(flow) = self.flows.get(id) else {
                continue;
            };
            let frontend = flow.state.frontend;
            if frontend != through || filled == BATCH_MAX {
                self.send_replies(through, filled);
                (through, filled) = (frontend, 0);
            }
            filled = self.fetch(id, filled, now);
        }
        self.send_replies(through, filled);
        serving.clear();
        self.serving = serving;
    }

    /// Fetches replies of one flow into the places from `filled` on. Returns how many places are filled then.
    fn fetch(&mut self, id: FlowId, filled: usize, now: Instant) -> usize {
        let Some(flow) = self.flows.get_mut(id) else {
            return filled;
        };
        let Some(socket) = flow.state.readable() else {
            return filled;
        };
        let room = (BATCH_MAX - filled).min(REPLIES_MAX);
        match self.replies.receive(socket, filled, room) {
            Ok(received) => {
                if received < room {
                    socket.drained();
                }
                if flow.state.readable().is_some() {
                    self.ready.push_back(id);
                }
                let filled_now = filled + received;
                let bytes = (filled..filled_now)
                    .map(|place| self.replies.payload(place).len() as u64)
                    .sum::<u64>();
                flow.state.bytes_downstream += bytes;
                self.destinations.truncate(filled);
                self.destinations.resize(filled_now, flow.state.reply_to);
                if let Some(header) = flow.state.spp {
                    self.reply_headers.truncate(filled);
                    self.reply_headers.resize(filled_now, header);
                }
                self.flows.answer(id, now);
                self.heard_server(id, now);
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

    /// Sends the replies in the first `count` places, all of flows of one frontend, each to its flow's latest peer address.
    /// What the kernel refuses is counted and dropped: a send buffer of some megabytes is full only if the network is, and
    /// then datagrams are lost anyway; waiting would hold up everybody else's.
    fn send_replies(&mut self, frontend: FrontendId, count: usize) {
        let socket = self.listeners[frontend as usize].exit.socket();
        let mut sent = 0;
        while sent < count {
            let (replies, destinations) = (&self.replies, &self.destinations);
            let headers = &self.reply_headers;
            let outgoing = |i: usize| Outgoing {
                header: headers.get(sent + i).map_or(&[], SppBytes::as_slice),
                payload: replies.payload(sent + i),
                to: Some(destinations[sent + i]),
            };
            match self.outbox.send(socket, count - sent, outgoing) {
                Ok(taken) => {
                    let lens =
                        (sent..sent + taken).map(|place| replies.payload(place).len() as u64);
                    self.settings
                        .metrics
                        .udp
                        .datagrams_downstream
                        .add(taken as u64);
                    self.settings.metrics.udp.bytes_downstream.add(lens.sum());
                    sent += taken;
                }
                Err(error) => {
                    self.settings.metrics.udp.downstream_errors.increment();
                    let subject = self.subject(frontend, PeerAddr::new(self.destinations[sent].to));
                    self.limits
                        .downstream
                        .debug(&subject, "cannot send a reply", Some(&error));
                    sent += 1;
                }
            }
        }
    }
}
