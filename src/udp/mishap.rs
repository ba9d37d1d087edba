//! Panics while a datagram or flow is at work: the flow ends, and the others go on.
//!
//! One catch serves a whole turn; what was at work is noted on the way. What was under way is found where it was left: the
//! rest of a batch in `incoming`, admitted datagrams in `admitted`. Replies in hand are lost, as datagrams may be. The flow
//! table changes by nothing that can panic, and a socket is either in it or closed.

use super::binding::Downstream;
use super::flow::{FlowId, FrontendId};
use super::{Exit, Udp};
use crate::addr::PeerAddr;
use crate::panics::{self, Panic};

/// What a turn is busy with.
#[derive(Clone, Copy, Debug)]
pub(super) enum AtWork {
    /// The socket, the table, the clock: of no flow in particular.
    Nothing,
    /// What is in this place of the inbox, which came to this listener.
    Datagram(FrontendId, usize),
    Flow(FlowId),
    /// A flow that has been taken out, or several.
    Peer(Downstream),
}

impl Udp {
    /// Ends what was at work when the turn panicked. If nothing was, the process ends: what broke then is broken for all.
    pub(super) fn recover(&mut self, panic: Panic) {
        let at_work = std::mem::replace(&mut self.at_work, AtWork::Nothing);
        let mut ended = None;
        let subject = match at_work {
            AtWork::Nothing => panics::pass_on(panic),
            AtWork::Datagram(frontend, place) => {
                let Some(sender) = self.inbox.sender(place) else {
                    panics::pass_on(panic);
                };
                self.subject(frontend, PeerAddr::new(sender))
            }
            AtWork::Peer(Downstream { peer, frontend }) => self.subject(frontend, peer),
            AtWork::Flow(id) => {
                ended = self.flows.remove(id);
                match &ended {
                    Some(flow) => self.subject_of(flow),
                    None => panics::pass_on(panic),
                }
            }
        };
        self.settings.metrics.udp.panics.increment();
        let message = "flow ended, or datagram dropped: this is a bug, please report it";
        self.limits.panicked.error(&subject, message, &panic);
        if let Some(flow) = ended {
            self.ended(flow, "panic");
        }
        self.fetched.clear();
        // Whoever was taken off these and not served would never be told of again.
        let listeners = self.listeners.iter().zip(0..);
        let arrived = listeners.filter(
            |(listener, _)| matches!(&listener.exit, Exit::Listener(socket) if socket.is_readable()),
        );
        self.arrived.refill(arrived.map(|(_, id)| id));
        self.look_again_at_handover();
        let is_ready = |&id: &FlowId| {
            let flow = self.flows.get(id);
            flow.is_some_and(|flow| flow.state.readable().is_some())
        };
        self.ready.refill((0..self.flows.places()).filter(is_ready));
    }
}
