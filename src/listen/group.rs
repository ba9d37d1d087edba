//! Who steers a group of UDP sockets.
//!
//! A steering program belongs to the reuseport group, so that all who have its sockets have one: the last that was attached.
//! In a group that another instance gives away (`--takeover`) it stays that one's until this one is ready, since that one
//! goes on alone if this one fails.

use std::sync::Arc;

use socket2::{Socket, Type};

use super::BindError;
use crate::addr::ListenAddr;
use crate::config::UdpHeader;
use crate::udp::steer;

/// The UDP sockets of an address, if there are several.
#[derive(Debug)]
pub(super) struct Group {
    addr: ListenAddr,
    /// The program is that of all, whichever it is attached to.
    first: Arc<Socket>,
    members: u32,
    header: UdpHeader,
}

/// Groups that another instance reads as well, and that are steered as it has dealt them.
#[derive(Debug, Default)]
#[must_use = "or they stay steered for the shards of the other instance"]
pub(crate) struct Unsteered(Vec<Group>);

/// That all groups are steered for the shards of this process. Nobody is relieved without.
#[derive(Debug)]
pub(crate) struct Steered(());

// === impl Group ===

impl Group {
    pub(super) fn of(addr: ListenAddr, sockets: &[Arc<Socket>], header: UdpHeader) -> Option<Self> {
        let [first, _, ..] = sockets else {
            return None;
        };
        Some(Self {
            addr,
            first: Arc::clone(first),
            members: sockets.len() as u32,
            header,
        })
    }

    /// Has it steered for the shards of this process.
    pub(super) fn steer(&self) -> Result<(), BindError> {
        steer::attach(&*self.first, self.members, self.header)
            .map_err(|error| BindError::new(self.addr, Type::DGRAM, error))
    }
}

// === impl Unsteered ===

impl Unsteered {
    pub(super) fn push(&mut self, group: Group) {
        self.0.push(group);
    }

    /// Has them steered for the shards of this process: the last step before the other instance is relieved, as it cannot be
    /// undone.
    ///
    /// Until then the shards read what the other instance's program brings, as its own do, from the sockets that both have.
    /// If it has dealt the sockets otherwise, a client gets a flow on a shard that is not its own here, and another one with
    /// its first datagram after this. Its replies come through either: both have its address and know its balancer. The
    /// former ends when it is idle.
    ///
    /// # Errors
    ///
    /// As `setsockopt(2)`. Groups before the one that it names are steered by then; but what is refused is refused to the
    /// first, since all have the same program.
    pub(crate) fn steer(self) -> Result<Steered, BindError> {
        self.0.iter().try_for_each(Group::steer)?;
        Ok(Steered(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Sockets that are no group cannot be steered.
    #[test]
    fn nobody_can_be_relieved_if_steering_is_refused() {
        let alone = || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            Arc::new(Socket::from(socket))
        };
        let addr = ListenAddr(([127, 0, 0, 1], 7).into());
        assert!(Group::of(addr, &[alone()], UdpHeader::V2).is_none());
        let mut unsteered = Unsteered::default();
        unsteered.push(Group::of(addr, &[alone(), alone()], UdpHeader::V2).expect("several"));
        let error = unsteered.steer().expect_err("the kernel refuses");
        assert!(error.to_string().contains("udp 127.0.0.1:7"), "{error}");
        Unsteered::default().steer().expect("nothing to do");
    }
}
