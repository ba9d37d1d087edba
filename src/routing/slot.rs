//! Whose rules are whose: one numbered slot an instance.

use std::io;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The priority of slot 0's rules and the metric of its routes. Early enough to come before rules that send everything
/// somewhere (VPNs use priorities above 5000, `main` has 32766), and a metric below IPv6's default of 1024.
const BASE: u32 = 900;

/// How many instances may share a network namespace.
const SLOTS: u32 = 64;

/// A running instance's number, held by a socket with an abstract name (unix(7)).
///
/// Abstract names belong to the network namespace, as rules and routes do, and the kernel frees them however the
/// process ends. So a name that can be bound proves that what carries its number in the tables is a dead instance's.
#[derive(Debug)]
pub(super) struct Slot {
    number: u32,
    _held: UnixDatagram,
}

// === impl Slot ===

impl Slot {
    /// Claims the lowest free slot; `None` if all are taken.
    pub(super) fn claim() -> io::Result<Option<Self>> {
        for number in 0..SLOTS {
            if let Some(slot) = Self::claim_number(number)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Claims the slot of rules with this priority, or of routes with this metric; `None` if it is another's.
    pub(super) fn claim_priority(priority: u32) -> io::Result<Option<Self>> {
        if !Self::priorities().contains(&priority) {
            return Ok(None);
        }
        Self::claim_number(priority - BASE)
    }

    /// The priorities and metrics of all slots.
    pub(super) fn priorities() -> RangeInclusive<u32> {
        BASE..=BASE + SLOTS - 1
    }

    /// The priority of this instance's rules and the metric of its routes.
    pub(super) fn priority(&self) -> u32 {
        BASE + self.number
    }

    fn claim_number(number: u32) -> io::Result<Option<Self>> {
        let name = SocketAddr::from_abstract_name(format!("glommproxy-routes-{number}"))?;
        match UnixDatagram::bind_addr(&name) {
            Ok(_held) => Ok(Some(Self { number, _held })),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(e) => Err(e),
        }
    }
}
