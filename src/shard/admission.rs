//! Whether a client gets a connection or a flow, before the server hears of it.

use std::rc::Rc;

use super::lists::Lists;
use crate::addr::ClientAddr;
use crate::limits::{ClientLimits, Exceeded, Permit};
use crate::logging::{RateLimited, Subject};
use crate::metrics::{Counter, RefusedClients};

/// Asks the deny list and the limits of clients, over one protocol.
pub(crate) struct Admission {
    lists: Rc<Lists>,
    limits: ClientLimits,
    /// What the line of a refusal says.
    message: &'static str,
    /// One for each line that may repeat with every connection or datagram.
    denied: RateLimited,
    over_count: RateLimited,
    over_rate: RateLimited,
}

/// Why a client gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the client is in the list of denied clients")]
    Denied,
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(lists: Rc<Lists>, limits: ClientLimits, message: &'static str) -> Self {
        Self {
            lists,
            limits,
            message,
            denied: RateLimited::new(),
            over_count: RateLimited::new(),
            over_rate: RateLimited::new(),
        }
    }

    /// Lets a client in, or not. Whoever has none (LOCAL) is our own balancer, which neither the list nor the limits are
    /// for.
    pub(crate) fn ask(&self, client: Option<ClientAddr>) -> Result<Permit, Refusal> {
        let Some(client) = client else {
            return Ok(Permit::unlimited());
        };
        if self.lists.deny(client) {
            return Err(Refusal::Denied);
        }
        Ok(self.limits.admit(client)?)
    }

    /// Tells of a refusal (`-v 1`).
    pub(crate) fn log(&self, refusal: Refusal, subject: &Subject) {
        let line = match refusal {
            Refusal::Denied => &self.denied,
            Refusal::Limit(Exceeded::Count(_)) => &self.over_count,
            Refusal::Limit(Exceeded::Rate(_)) => &self.over_rate,
        };
        line.debug(subject, self.message, Some(&refusal));
    }
}

// === impl Refusal ===

impl Refusal {
    /// What counts it.
    pub(crate) fn counter(self, refused: &RefusedClients) -> &Counter {
        match self {
            Self::Denied => &refused.denied,
            Self::Limit(Exceeded::Count(_)) => &refused.over_count,
            Self::Limit(Exceeded::Rate(_)) => &refused.over_rate,
        }
    }
}
