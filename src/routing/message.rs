//! Rules, routes and questions as rtnetlink messages (rtnetlink(7), `linux/fib_rules.h`, `linux/rtnetlink.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol};

use super::need::Reply;
use super::rule::{Family, LocalRoute, Protocol, Rule};

/// Says "added by glommproxy" on rules (`FRA_PROTOCOL`) and routes (`rtm_protocol`); `ip rule` shows it as `proto 77`.
/// Not among the numbers that `/etc/iproute2/rt_protos` gives to other programs.
pub(super) const TAG: RouteProtocol = RouteProtocol::Other(77);

/// The loopback device's index in every network namespace (`LOOPBACK_IFINDEX` in the kernel).
pub(super) const LOOPBACK_INDEX: u32 = 1;

/// Clients that cannot exist, to ask the way to: of the documentation prefixes of RFC 5737, RFC 3849 and RFC 9637. A test
/// host may have one of them for its own, and what it sends to itself tells nothing.
pub(super) const CLIENTS_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(203, 0, 113, 254),
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(192, 0, 2, 1),
];
pub(super) const CLIENTS_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1),
];

/// A rule or a route carrying our tag: all that is needed to remove it, and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Rule(RuleMessage),
    Route(RouteMessage),
}

// === impl Entry ===

impl Entry {
    /// The rule as one of the instance with this priority.
    pub(super) fn rule(rule: &Rule, priority: u32) -> Self {
        let mut message = rule_message(rule);
        message.attributes.push(RuleAttribute::Priority(priority));
        message.attributes.push(RuleAttribute::Protocol(TAG));
        Self::Rule(message)
    }

    /// The route as one of the instance with this metric.
    pub(super) fn route(route: &LocalRoute, metric: u32) -> Self {
        let mut message = route_message(route.family());
        message.header.kind = RouteType::Local;
        message.header.scope = RouteScope::Host;
        message.header.protocol = TAG;
        message.attributes = vec![
            RouteAttribute::Table(route.table.number()),
            RouteAttribute::Oif(LOOPBACK_INDEX),
            RouteAttribute::PrefSource(route.source.into()),
            RouteAttribute::Priority(metric),
        ];
        Self::Route(message)
    }

    pub(super) fn family(&self) -> Family {
        let family = match self {
            Self::Rule(rule) => rule.header.family,
            Self::Route(route) => route.header.address_family,
        };
        if family == address_family(Family::V4) {
            Family::V4
        } else {
            Family::V6
        }
    }

    pub(super) fn is_rule(&self) -> bool {
        matches!(self, Self::Rule(_))
    }

    /// Whether it is a rule for one source.
    pub(super) fn has_source(&self) -> bool {
        matches!(self, Self::Rule(rule) if rule.header.src_len > 0)
    }

    /// Whether this, as the kernel has it, is a rule of ours.
    pub(super) fn is_same_rule(&self, ours: &Self) -> bool {
        let (Self::Rule(found), Self::Rule(rule)) = (self, ours) else {
            return false;
        };
        let of_owner = |it: &RuleAttribute| {
            matches!(it, RuleAttribute::Priority(_) | RuleAttribute::Protocol(_))
        };
        let mut wanted = rule.clone();
        wanted.attributes.retain(|it| !of_owner(it));
        self.priority() == ours.priority() && has_selector(found, &wanted)
    }

    /// The same for packets to this client, and no others.
    pub(super) fn for_client(mut self, client: IpAddr) -> Self {
        match &mut self {
            Self::Rule(rule) => {
                rule.header.dst_len = host_length(client);
                rule.attributes.push(RuleAttribute::Destination(client));
            }
            Self::Route(route) => {
                route.header.destination_prefix_length = host_length(client);
                let client = RouteAttribute::Destination(client.into());
                route.attributes.push(client);
            }
        }
        self
    }

    /// The priority of the rule or the metric of the route, which says whose it is.
    pub(super) fn priority(&self) -> u32 {
        match self {
            Self::Rule(rule) => rule
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RuleAttribute::Priority(priority) => Some(*priority),
                    _ => None,
                }),
            Self::Route(route) => metric(route),
        }
        .unwrap_or(0)
    }
}

pub(super) fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: address_family(rule.family),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes = vec![
        RuleAttribute::Iifname(rule.interface.clone()),
        RuleAttribute::Table(rule.table.number()),
    ];
    if let Some(source) = rule.source {
        message.header.src_len = source.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Source(source.addr()));
    }
    if let Some((protocol, ports)) = rule.service {
        let range = RulePortRange {
            start: ports.first,
            end: ports.last,
        };
        message
            .attributes
            .push(RuleAttribute::IpProtocol(ip_protocol(protocol)));
        message
            .attributes
            .push(RuleAttribute::SourcePortRange(range));
    }
    message
}

/// Whether a rule of the kernel selects what `wanted` selects and points to the same table.
pub(super) fn has_selector(found: &RuleMessage, wanted: &RuleMessage) -> bool {
    let selects = |attribute: &&RuleAttribute| {
        !matches!(
            attribute,
            RuleAttribute::Priority(_)
                | RuleAttribute::Protocol(_)
                | RuleAttribute::SuppressPrefixLen(_)
                | RuleAttribute::SuppressIfGroup(_)
                | RuleAttribute::Other(_)
        )
    };
    found.header.action == wanted.header.action
        && found.header.src_len == wanted.header.src_len
        && !found.header.flags.contains(RuleFlags::Invert)
        && found.attributes.iter().filter(selects).count() == wanted.attributes.len()
        && wanted
            .attributes
            .iter()
            .all(|attribute| found.attributes.contains(attribute))
}

/// `ip link set lo up`
pub(super) fn loopback_up() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = LOOPBACK_INDEX;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

pub(super) fn route_message(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message
}

/// The question where such a reply to that client goes that leaves from this port.
pub(super) fn reply_query(
    reply: &Reply,
    port: u16,
    client: IpAddr,
    mark: Option<u32>,
) -> RouteMessage {
    let server = reply.target;
    let mut query = route_message(Family::of(server));
    query.header.destination_prefix_length = host_length(client);
    query.attributes = vec![
        RouteAttribute::Destination(client.into()),
        RouteAttribute::IpProto(ip_protocol(reply.protocol).into()),
        RouteAttribute::Sport(port),
    ];
    if !reply.wildcard {
        query.header.source_prefix_length = host_length(server);
        query.attributes.push(RouteAttribute::Source(server.into()));
    }
    query
        .attributes
        .extend(reply.arrives_by.map(RouteAttribute::Iif));
    query.attributes.extend(mark.map(RouteAttribute::Mark));
    query
}

/// Leaves what tells this route from others. The rest of a dump (ages, counters) has no place in a request.
pub(super) fn removable(mut route: RouteMessage) -> RouteMessage {
    route.header.flags = Default::default();
    route.attributes.retain(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Table(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Priority(_)
        )
    });
    route
}

pub(super) fn metric(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        })
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn ip_protocol(protocol: Protocol) -> IpProtocol {
    match protocol {
        Protocol::Tcp => IpProtocol::Tcp,
        Protocol::Udp => IpProtocol::Udp,
    }
}

pub(super) fn host_length(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}
