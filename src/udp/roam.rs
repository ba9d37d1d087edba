//! Peers that change clients, and clients that change peers, where only the first datagram of a session says who speaks
//! (`--udp-header v2-first`).
//!
//! There, datagrams are spread over the shards by peer, so one client behind two peers may have a flow on two shards, with
//! two sockets of one 4-tuple. Linux allows that (all of them have SO_REUSEADDR) and gives the server's replies to the
//! socket bound last. That is what a client wants that has come to another peer: the server knows it by the same port, and
//! replies take its new way. It is wrong for one that came back to where its flow has the older socket: so a flow takes a
//! fresh one when another peer begins to speak for its client, and when its client talks on and hears nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::Udp;
use super::binding::{Downstream, Session};
use super::flow::{FlowId, FlowKey};
use super::losses::Losses;
use super::segments::ask_for_pieces;
use crate::config::SourcePort;
use crate::transparent::Upstream;

/// How long a client talks to a silent server before its flow takes a fresh socket. Doubled each time that was in vain.
const SILENCE: Duration = Duration::from_secs(2);

/// The longest such time.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a client has been talking without a reply.
pub(super) struct Silence {
    since: Option<Instant>,
    max: Duration,
}

// === impl Silence ===

impl Silence {
    pub(super) fn new() -> Self {
        Self {
            since: None,
            max: SILENCE,
        }
    }

    /// Notes a datagram of the client. Whether too many have been without a reply.
    fn asked(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_over = now.saturating_duration_since(since) >= self.max;
        if is_over {
            self.since = Some(now);
            self.max = (self.max * 2).min(SILENCE_MAX);
        }
        is_over
    }

    /// Notes a reply.
    fn answered(&mut self) {
        *self = Self::new();
    }
}

// === impl Udp ===

impl Udp {
    /// Ends the flow of a session that this peer spoke for, if replies go to that peer: whoever is behind it now is somebody
    /// else, or asks another server. Not if the peer still speaks for that flow.
    pub(super) fn displace(&mut self, former: Session, from: Downstream, now_for: Option<FlowKey>) {
        let Ok(former) = self.key(former, from) else {
            return;
        };
        if now_for == Some(former) {
            return;
        }
        let Some(id) = self.flows.find(&former) else {
            return;
        };
        let flow = self.flows.get(id);
        if !flow.is_some_and(|flow| flow.state.downstream() == from) {
            return;
        }
        // Admitted datagrams name their flows by id, and the next flow may get this one's: send them first.
        self.send_admitted();
        if let Some(flow) = self.flows.remove(id) {
            self.ended(flow, "its peer speaks for another client");
        }
    }

    /// Notes a datagram for a flow that is there. It takes a fresh socket if another shard's may get its replies.
    pub(super) fn heard_client(&mut self, id: FlowId, is_new_peer: bool, now: Instant) {
        // Ports of the kernel's choice are of no other shard.
        let own_ports = self.settings.dialer.source_port == SourcePort::Any;
        if self.mode.has_header_on_each() || self.settings.shards == 1 || own_ports {
            return;
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let is_silent = flow.state.silence.asked(now);
        if is_new_peer || is_silent {
            // That there is none to be had is no harm to one that works.
            let _ = self.renew_socket(id);
        }
    }

    /// Notes replies of a flow: the peer they go to is not idle.
    pub(super) fn heard_server(&mut self, id: FlowId, now: Instant) {
        if !self.mode.has_header_on_each()
            && let Some(flow) = self.flows.get_mut(id)
        {
            flow.state.silence.answered();
            self.mode.answer(flow.state.downstream(), now);
        }
    }

    /// Gives a flow a socket that is bound last of all with its addresses.
    fn renew_socket(&mut self, id: FlowId) -> io::Result<()> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Ok(());
        };
        let client = flow.key.party.client();
        // Replies that wait at the old one are proof enough that it gets them.
        if client.is_none() || flow.state.readable().is_some() {
            return Ok(());
        }
        let listen_addr = self.listeners[flow.state.frontend as usize].frontend.listen;
        let dialer = &self.settings.dialer;
        let renewed = dialer.associate(client, flow.key.target, listen_addr);
        let Ok(Upstream {
            socket,
            port_replaced: None,
            other_ear,
        }) = renewed
        else {
            return Ok(());
        };
        let readiness = &self.settings.readiness;
        let watch = |socket: Socket| {
            ask_for_pieces(&socket);
            readiness.watch_queued(OwnedFd::from(socket), &self.ready, id)
        };
        let other_ear = other_ear.map(watch).transpose()?;
        let socket = watch(socket)?;
        flow.state
            .count_losses(&self.settings.metrics.udp.lost_downstream);
        flow.state.losses = Losses::default();
        flow.state.socket = socket;
        flow.state.other_ear = other_ear;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_a_talking_client_hears() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::new();
        assert!(!silence.asked(at(0)));
        assert!(!silence.asked(at(1)));
        assert!(silence.asked(at(2)));
        // Twice as patient each time …
        assert!(!silence.asked(at(5)));
        assert!(silence.asked(at(6)));
        assert!(!silence.asked(at(13)));
        assert!(silence.asked(at(14)));
        // … until there is a reply. A client that says nothing waits for none.
        silence.answered();
        assert!(!silence.asked(at(100)));
        silence.answered();
        assert!(!silence.asked(at(200)));
        assert!(silence.asked(at(202)));
    }

    #[test]
    fn patience_has_an_end() {
        let mut now = Instant::now();
        let mut silence = Silence::new();
        for _ in 0..20 {
            silence.asked(now);
            now += SILENCE_MAX;
        }
        assert!(silence.asked(now));
        assert!(!silence.asked(now + SILENCE_MAX - Duration::from_nanos(1)));
        assert!(silence.asked(now + SILENCE_MAX));
    }
}
