//! Where the server is, as the kernel sees it from here.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::need::{Need, Reply};
use super::rule::{Family, Protocol};
use super::table::RouteTable;

/// How packets get to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They are there already: it is an address of this host.
    Here,
    /// By this link to another host.
    By(Link),
}

/// The first step of the way to another host. Its packets are expected to come back the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) interface: String,
    pub(super) index: u32,
    /// Our address there.
    pub(super) source: Option<IpAddr>,
    /// Whether the other host is behind it, rather than at the other end of the link.
    pub(super) router: Option<IpAddr>,
}

/// A server on another host, which has to send its answers to clients to this one. Whether it does cannot be seen from
/// here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerElsewhere {
    /// The server's address.
    pub target: IpAddr,
    /// The router between that host and this one, which has to know the way of the answers, too.
    pub router: Option<IpAddr>,
    /// The shell commands that make that host do it, for the server's port only. A default route to this host does, too.
    /// None if there is a router in between, if this host has no address towards that one, or if its ports can be in no rule.
    pub commands: Vec<String>,
}

// === impl Way ===

impl Way {
    /// Reads the kernel's answer; `None` if it leads to no single host.
    pub(super) fn parse(route: &RouteMessage) -> io::Result<Option<Self>> {
        match route.header.kind {
            RouteType::Local => return Ok(Some(Self::Here)),
            RouteType::Unicast => {}
            _ => return Ok(None),
        }
        let mut index = None;
        let mut source = None;
        let mut router = None;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::Gateway(address) => router = ip(address),
                _ => {}
            }
        }
        let Some(index) = index else { return Ok(None) };
        Ok(Some(Self::By(Link {
            interface: interface_name(index)?,
            index,
            source,
            router,
        })))
    }
}

// === impl ServerElsewhere ===

impl ServerElsewhere {
    /// What is to be done for these needs of a server on its own host.
    pub(super) fn new(target: IpAddr, link: &Link, needs: &[Need]) -> Self {
        let mut commands = Vec::new();
        let mut possible = needs
            .iter()
            .filter(|need| need.rule.is_possible())
            .peekable();
        if let (Some(here), None, Some(_)) = (link.source, link.router, possible.peek()) {
            let (tool, table) = (Family::of(target).ip_tool(), RouteTable::DEFAULT);
            commands.push(format!(
                "{tool} route add default via {here} src {target} table {table}"
            ));
            commands.extend(possible.map(|need| {
                let Reply {
                    protocol, ports, ..
                } = need.reply;
                // A UDP server on the wildcard address has no source yet. And not `iif lo`: strict reverse path filtering
                // asks the way back of what comes in, and finds rules on ports only if there is one that is not for `lo`
                // alone.
                let source = match protocol {
                    Protocol::Tcp => format!("from {target} "),
                    Protocol::Udp => String::new(),
                };
                format!("{tool} rule add {source}ipproto {protocol} sport {ports} table {table}")
            }));
        }
        Self {
            target,
            router: link.router,
            commands,
        }
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn interface_name(index: u32) -> io::Result<String> {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(netdevice::index_to_name(any, index)?)
}
