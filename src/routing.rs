//! Policy routing: makes the server's replies to spoofed clients come back to this host.
//!
//! The server answers an address that is somewhere on the Internet. A *rule* picks out such replies and sends them to a
//! table of their own, where a *route* `local default dev lo` says that every address is this host (ip-rule(8),
//! ip-route(8)). [`install`](fn@install) adds both over rtnetlink and removes them again, [`check`](fn@check) tells what is missing when the
//! host's owner prefers to do it.
//!
//! # Whose rules are whose
//!
//! Each instance claims the lowest free slot *k* of 64 in its network namespace, and all its rules have priority
//! 900 + *k*, its routes metric 900 + *k*, and both the protocol number 77. Every instance adds its own copies, so
//! none takes another's away. What carries the tag and the number of a slot that nobody holds was left behind by an
//! instance that was killed; the next [`install`](fn@install) removes it.
//!
//! ```text
//! $ ip rule
//! 0:      from all lookup local
//! 900:    from 127.0.0.1/8 iif lo lookup 123 proto 77
//! 900:    from 0.0.0.0 iif lo ipproto udp sport 25565 lookup 123 proto 77
//! 32766:  from all lookup main
//! $ ip route show table 123
//! local default dev lo proto 77 scope host src 127.0.0.1 metric 900
//! ```
//!
//! # Servers on other hosts
//!
//! A server elsewhere, in another container of the host or on another machine of the network, answers by way of this host
//! if its own host routes its answers here. Here they are packets to be forwarded, until a rule on the interface they come
//! in by, on the server's address and its port, sends them to the same table. Forwarding (`ip_forward`) need not be on,
//! strict reverse path filtering (`rp_filter`) lets them pass, and `accept_local` plays no part: that is for packets
//! *from* an address of this host.
//!
//! # Limits
//!
//! - A server on another host: what it answers on that port to clients that reach it directly, through this host as their
//!   router, is taken for ours and lost. Fragments and ICMP carry no port, so UDP answers that do not fit into one packet
//!   (unless connection tracking is on, which puts them together first) and errors such as "too big" pass the rule by.
//!   Marking (`--mark`) knows none of these limits.
//! - A server on an address other than loopback answers on the same port to everyone, so clients that connect to it
//!   directly from other hosts get no reply while the rules are there. See also [`RoutePlan::wildcard_udp`].
//! - `ip rule add` without a priority chooses one before all rules but `local`, so before ours if they are there. A
//!   rule typed later that takes everything takes the replies too.
//! - Everything here blocks, for at most a few seconds: it is for start, exit and SIGHUP.

mod check;
mod error;
mod install;
mod kernel;
mod message;
mod need;
mod netlink;
mod plan;
mod ports;
mod rule;
mod slot;
mod table;
mod way;

pub use check::{RouteCheck, check};
pub use error::{RouteWarning, RoutingError};
pub use install::{InstalledRoutes, install, rehearse};
pub use plan::RoutePlan;
pub use rule::Family;
pub use table::{ReservedTable, RouteTable};
pub use way::ServerElsewhere;

use std::io;
use std::net::IpAddr;

use kernel::{DefaultRoute, Kernel};
use need::Host;
use netlink::NetlinkError;
use plan::FamilyPlan;
use way::Way;

/// The addresses of this host, as its kernel tells them. Unlike all else here it is for use at any time: nothing but the
/// kernel's lock of its routes can hold up an answer.
pub(crate) struct OwnAddresses(Kernel);

// === impl OwnAddresses ===

impl OwnAddresses {
    /// Opens a netlink socket in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Kernel::open().map(Self)
    }

    /// Whether packets to this address are delivered on this host.
    pub(crate) fn contain(&mut self, ip: IpAddr) -> io::Result<bool> {
        self.0.is_local(ip).map_err(NetlinkError::into_io)
    }
}

fn open() -> Result<Kernel, RoutingError> {
    Kernel::open().map_err(|cause| RoutingError::System {
        doing: "opening a netlink socket to the routing tables".to_owned(),
        cause,
    })
}

/// Brings the loopback device of this thread's network namespace up: in a new one it is down.
///
/// # Errors
///
/// [`RoutingError::System`], with EPERM without CAP_NET_ADMIN in the namespace's user namespace.
pub fn raise_loopback() -> Result<(), RoutingError> {
    let raised = open()?.raise_loopback();
    raised.map_err(while_doing("bringing the loopback device up"))
}

/// A client that does not exist, for whom routes are [rehearsed](rehearse): of the documentation prefixes, and no address
/// of this host.
///
/// # Errors
///
/// [`RoutingError::System`] if the kernel could not be asked.
pub fn absent_client(family: Family) -> Result<IpAddr, RoutingError> {
    let client = open()?.client(family);
    client.map_err(while_doing("looking for an address that nobody has"))
}

/// A plan on this host.
#[derive(Debug, Default)]
struct Present {
    families: Vec<FamilyPlan>,
    /// Families that this host does not have.
    skipped: Vec<Family>,
    /// How packets get to the servers' hosts.
    ways: Vec<(Host, Way)>,
    /// Servers that no route leads to, and none is known to have led to.
    unreachable: Vec<IpAddr>,
    /// Servers that no route leads to now; the way that did counts.
    lost: Vec<IpAddr>,
    /// Servers on other hosts.
    elsewhere: Vec<ServerElsewhere>,
}

/// Splits the plan into what this host has and what it has not. Known are ways that have led to hosts before.
fn present_families(
    kernel: &mut Kernel,
    plan: &RoutePlan,
    known: &[(Host, Way)],
) -> Result<Present, RoutingError> {
    let mut present = Present::default();
    for family in [Family::V4, Family::V6] {
        let hosts = plan.hosts(family);
        if hosts.is_empty() {
            continue;
        }
        if !is_present(kernel, family)? {
            present.skipped.push(family);
            continue;
        }
        let mut ways = Vec::with_capacity(hosts.len());
        for host in hosts {
            let way = kernel.way_to(host);
            if let Some(way) = way.map_err(while_doing("looking up the target"))? {
                ways.push((host, way));
                continue;
            }
            match known.iter().find(|(it, _)| *it == host) {
                Some(way) => {
                    ways.push(way.clone());
                    present.lost.push(host.ip);
                }
                None => present.unreachable.push(host.ip),
            }
        }
        if let Some(mut family) = plan.family(family, &ways) {
            present.elsewhere.append(&mut family.elsewhere);
            present.families.push(family);
        }
        present.ways.append(&mut ways);
    }
    Ok(present)
}

/// Whether this host has a family. It counts as there if its loopback address is: that goes when IPv6 is switched off by
/// sysctl, and is not there before the loopback device was up.
fn is_present(kernel: &mut Kernel, family: Family) -> Result<bool, RoutingError> {
    let found = kernel.is_local(family.loopback());
    found.map_err(while_doing("looking up the loopback address"))
}

fn while_doing(doing: &str) -> impl FnOnce(NetlinkError) -> RoutingError {
    move |e| RoutingError::System {
        doing: doing.to_owned(),
        cause: e.into_io(),
    }
}

/// The route that the kernel takes of several to the same place: the one with the lowest metric.
fn chosen(routes: &[DefaultRoute]) -> Option<DefaultRoute> {
    routes.iter().min_by_key(|route| route.metric).copied()
}
