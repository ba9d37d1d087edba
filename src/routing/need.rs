//! What has to find its way back: replies of servers, and the rules that make them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::ports::PortRange;
use super::rule::{Protocol, Rule};

/// A server's host, by its address. A link-local one means nothing without the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) ip: IpAddr,
    /// The index of the interface, or 0.
    pub(super) scope: u32,
}

/// A packet that has to find its way back to us, and the rule that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) reply: Reply,
    pub(super) rule: Rule,
}

/// A reply of a server to a client somewhere on the Internet, as the kernel sees it when it looks for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) target: IpAddr,
    /// The ports of the servers there, which all need the same.
    pub(super) ports: PortRange,
    pub(super) protocol: Protocol,
    /// Whether the server is bound to the wildcard address, so that the route has to supply the source address.
    pub(super) wildcard: bool,
    /// The index of the interface it comes in by, if the server is on another host.
    pub(super) arrives_by: Option<u32>,
}

// === impl Host ===

impl From<SocketAddr> for Host {
    fn from(addr: SocketAddr) -> Self {
        let scope = match addr {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(addr) => addr.scope_id(),
        };
        Self {
            ip: addr.ip(),
            scope,
        }
    }
}

// === impl Need ===

impl Need {
    /// A server that cannot be served, as its port can be in no rule.
    pub(super) fn without_rule(&self) -> Option<SocketAddr> {
        let Reply { target, ports, .. } = self.reply;
        (!self.rule.is_possible()).then(|| SocketAddr::new(target, ports.first))
    }
}

// === impl Reply ===

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            ports,
            protocol,
            wildcard,
            arrives_by: _,
        } = self;
        let first = SocketAddr::new(*target, ports.first);
        write!(f, "{protocol} replies of {first}")?;
        if ports.last > ports.first {
            write!(f, "-{}", ports.last)?;
        }
        if *wildcard {
            f.write_str(", were it bound to the wildcard address,")?;
        }
        Ok(())
    }
}
