//! The subnet lists as a shard sees them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::PeerAddr;
use crate::subnets::SubnetSet;

/// The lists in force. The coordinator sends new ones; they are swapped between two events.
#[derive(Default)]
pub(crate) struct Lists {
    /// None allows everybody.
    allowed: RefCell<Option<Arc<SubnetSet>>>,
    /// None where no list says which destinations headers may name.
    destinations: RefCell<Option<Arc<SubnetSet>>>,
}

impl Lists {
    pub(crate) fn new(
        allowed: Option<Arc<SubnetSet>>,
        destinations: Option<Arc<SubnetSet>>,
    ) -> Self {
        Self {
            allowed: RefCell::new(allowed),
            destinations: RefCell::new(destinations),
        }
    }

    /// Whether this peer may speak for clients.
    pub(crate) fn allow(&self, peer: PeerAddr) -> bool {
        self.allowed
            .borrow()
            .as_ref()
            .is_none_or(|allowed| allowed.contains(peer.ip()))
    }

    /// Whether a header may name this destination; None without a list.
    pub(crate) fn allow_destination(&self, ip: IpAddr) -> Option<bool> {
        let destinations = self.destinations.borrow();
        Some(destinations.as_ref()?.contains(ip))
    }

    /// Puts a new list of destinations in force.
    pub(crate) fn set_destinations(&self, destinations: Arc<SubnetSet>) {
        *self.destinations.borrow_mut() = Some(destinations);
    }

    /// Puts a new allow list in force.
    pub(crate) fn set_allowed(&self, allowed: Arc<SubnetSet>) {
        *self.allowed.borrow_mut() = Some(allowed);
    }
}
