//! The kernel's rules and routes: ours written, others' read, and the kernel asked where a packet would go.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use libc::{ENOENT, ESRCH};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

use super::message::{
    CLIENTS_V4, CLIENTS_V6, Entry, LOOPBACK_INDEX, TAG, address_family, has_selector, host_length,
    loopback_up, metric, removable, reply_query, route_message, rule_message,
};
use super::need::{Host, Reply};
use super::netlink::{Netlink, NetlinkError};
use super::rule::{Family, Rule};
use super::table::RouteTable;
use super::way::{self, Way};

/// The kernel's routing tables, through a netlink socket.
pub(super) struct Kernel {
    netlink: Netlink,
}

/// A `local default dev lo` route that is already in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DefaultRoute {
    pub(super) source: Option<IpAddr>,
    pub(super) metric: u32,
    /// Whether an instance of glommproxy added it.
    pub(super) tagged: bool,
}

/// A route that takes replies elsewhere although a rule has sent them to the right table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) prefix: IpNet,
    pub(super) metric: u32,
}

// === impl Kernel ===

impl Kernel {
    /// Opens the tables of this thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
        })
    }

    /// Whether packets to `ip` are delivered on this host, which is what makes it an address of this host.
    pub(super) fn is_local(&mut self, ip: IpAddr) -> Result<bool, NetlinkError> {
        let mut query = route_message(Family::of(ip));
        query.header.destination_prefix_length = host_length(ip);
        query.attributes = vec![RouteAttribute::Destination(ip.into())];
        let answer = self.look_up(query)?;
        Ok(answer.is_some_and(|route| route.header.kind == RouteType::Local))
    }

    /// How packets get to a server's host from here; `None` if they do not.
    pub(super) fn way_to(&mut self, host: Host) -> Result<Option<Way>, NetlinkError> {
        let Host { ip, scope } = host;
        let mut query = route_message(Family::of(ip));
        query.header.destination_prefix_length = host_length(ip);
        query.attributes = vec![RouteAttribute::Destination(ip.into())];
        if scope != 0 {
            query.attributes.push(RouteAttribute::Oif(scope));
        }
        match self.look_up(query)? {
            Some(route) => Way::parse(&route).map_err(NetlinkError::Broken),
            None => Ok(None),
        }
    }

    /// Whether such replies come back to us from all ports, and with the server's address as their source.
    ///
    /// The kernel itself is asked, as if it had the packets to send, so that every set-up that works counts, whatever
    /// its rules look like.
    pub(super) fn returns(
        &mut self,
        reply: &Reply,
        mark: Option<u32>,
    ) -> Result<bool, NetlinkError> {
        let client = self.client(Family::of(reply.target))?;
        for port in reply.ports.ports() {
            if !self.returns_from(reply, port, client, mark)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn returns_from(
        &mut self,
        reply: &Reply,
        port: u16,
        client: IpAddr,
        mark: Option<u32>,
    ) -> Result<bool, NetlinkError> {
        let Some(route) = self.look_up(reply_query(reply, port, client, mark))? else {
            return Ok(false);
        };
        let is_loopback = route.header.kind == RouteType::Local
            && route
                .attributes
                .contains(&RouteAttribute::Oif(LOOPBACK_INDEX));
        let source = RouteAttribute::PrefSource(reply.target.into());
        Ok(is_loopback && (!reply.wildcard || route.attributes.contains(&source)))
    }

    /// Whether there is a rule with just this selector to just this table, at any priority.
    pub(super) fn has_rule(&mut self, rule: &Rule) -> Result<bool, NetlinkError> {
        let wanted = rule_message(rule);
        Ok(self
            .rules(rule.family)?
            .iter()
            .any(|found| has_selector(found, &wanted)))
    }

    /// The `local default dev lo` routes in a table.
    pub(super) fn default_routes(
        &mut self,
        family: Family,
        table: RouteTable,
    ) -> Result<Vec<DefaultRoute>, NetlinkError> {
        let mut query = route_message(family);
        query.header.kind = RouteType::Local;
        query.attributes.push(RouteAttribute::Table(table.number()));
        let table = RouteAttribute::Table(table.number());
        let routes = self.routes(query)?;
        let in_table = routes
            .iter()
            .filter(|route| route.attributes.contains(&table));
        Ok(in_table.filter_map(DefaultRoute::parse).collect())
    }

    /// The route of a table that goes before `local default dev lo` there, if any does.
    pub(super) fn obstacle(
        &mut self,
        family: Family,
        table: RouteTable,
    ) -> Result<Option<Obstacle>, NetlinkError> {
        let ours = self.default_routes(family, table)?;
        match ours.iter().map(|route| route.metric).min() {
            Some(metric) => self.obstacle_before(metric, family, table),
            None => Ok(None),
        }
    }

    /// The route of a table that goes, or would go, before `local default dev lo` with this metric there.
    pub(super) fn obstacle_before(
        &mut self,
        metric: u32,
        family: Family,
        table: RouteTable,
    ) -> Result<Option<Obstacle>, NetlinkError> {
        let client = self.client(family)?;
        let attribute = RouteAttribute::Table(table.number());
        let mut query = route_message(family);
        query.attributes.push(attribute.clone());
        let routes = self.routes(query)?;
        let in_table = routes
            .iter()
            .filter(|route| route.attributes.contains(&attribute))
            // What is tagged beside those is only rehearsed.
            .filter(|route| DefaultRoute::parse(route).is_none() && route.header.protocol != TAG);
        Ok(in_table
            .filter_map(|route| Obstacle::parse(route, family))
            .filter(|route| route.prefix.contains(&client))
            .filter(|route| route.prefix.prefix_len() > 0 || route.metric <= metric)
            .max_by_key(|route| (route.prefix.prefix_len(), std::cmp::Reverse(route.metric))))
    }

    /// A client to ask the way to. It is not this host.
    pub(super) fn client(&mut self, family: Family) -> Result<IpAddr, NetlinkError> {
        let candidates = match family {
            Family::V4 => CLIENTS_V4.map(IpAddr::V4).to_vec(),
            Family::V6 => CLIENTS_V6.map(IpAddr::V6).to_vec(),
        };
        for client in &candidates {
            if !self.is_local(*client)? {
                return Ok(*client);
            }
        }
        // Everything is this host's own (AnyIP, or a route for all), and replies stay here anyway.
        Ok(candidates[0])
    }

    /// Everything of one family that carries our tag, rules first.
    pub(super) fn tagged(&mut self, family: Family) -> Result<Vec<Entry>, NetlinkError> {
        let rules = self.rules(family)?.into_iter();
        let rules = rules.filter(|rule| rule.attributes.contains(&RuleAttribute::Protocol(TAG)));
        let mut query = route_message(family);
        query.header.protocol = TAG;
        let routes = self.routes(query)?.into_iter();
        let routes = routes
            .filter(|route| route.header.protocol == TAG)
            .map(removable);
        Ok(rules
            .map(Entry::Rule)
            .chain(routes.map(Entry::Route))
            .collect())
    }

    /// Adds an entry; false if the kernel finds that an equal one, with this priority, is there already. That one is
    /// not ours then, and whether it serves its purpose is for [`Kernel::returns`] to say.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<bool, NetlinkError> {
        let message = match entry.clone() {
            Entry::Rule(rule) => RouteNetlinkMessage::NewRule(rule),
            Entry::Route(route) => RouteNetlinkMessage::NewRoute(route),
        };
        match self.netlink.request(message, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(e) if e.is_refusal(&[libc::EEXIST]) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Puts a route in the place of the one with its metric.
    pub(super) fn replace_route(&mut self, route: RouteMessage) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route);
        self.netlink
            .request(message, NLM_F_CREATE | NLM_F_REPLACE)
            .map(|_| ())
    }

    /// Removes an entry. If it is gone already, that is just as well.
    pub(super) fn remove(&mut self, entry: &Entry) -> Result<(), NetlinkError> {
        let message = match entry.clone() {
            Entry::Rule(rule) => RouteNetlinkMessage::DelRule(rule),
            Entry::Route(route) => RouteNetlinkMessage::DelRoute(route),
        };
        match self.netlink.request(message, 0) {
            Ok(_) => Ok(()),
            Err(e) if e.is_refusal(&[ENOENT, ESRCH]) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Brings the loopback device up, and with it its addresses.
    pub(super) fn raise_loopback(&mut self) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::SetLink(loopback_up());
        self.netlink.request(message, 0).map(|_| ())
    }

    /// Asks for one route; `None` if there is none, or none for a packet from that source.
    fn look_up(&mut self, query: RouteMessage) -> Result<Option<RouteMessage>, NetlinkError> {
        match self
            .netlink
            .request(RouteNetlinkMessage::GetRoute(query), 0)
        {
            Ok(answers) => Ok(answers.into_iter().find_map(into_route)),
            Err(NetlinkError::Refused(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn rules(&mut self, family: Family) -> Result<Vec<RuleMessage>, NetlinkError> {
        let mut query = RuleMessage::default();
        query.header.family = address_family(family);
        let rules = self.dump(RouteNetlinkMessage::GetRule(query))?.into_iter();
        let rules = rules.filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        });
        Ok(rules
            .filter(|rule| rule.header.family == address_family(family))
            .collect())
    }

    fn routes(&mut self, query: RouteMessage) -> Result<Vec<RouteMessage>, NetlinkError> {
        let family = query.header.address_family;
        let routes = self.dump(RouteNetlinkMessage::GetRoute(query))?.into_iter();
        let routes = routes.filter_map(into_route);
        Ok(routes
            .filter(|route| route.header.address_family == family)
            .collect())
    }

    /// A kernel without the family, or without the table, has nothing in it.
    fn dump(
        &mut self,
        query: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        match self.netlink.dump(query) {
            Err(e) if e.is_refusal(&[ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP]) => Ok(vec![]),
            result => result,
        }
    }
}

// === impl DefaultRoute ===

impl DefaultRoute {
    /// The metric as one has to type it to mean this route: none where it is what `ip route` assumes, which is 0 for
    /// IPv4 and 1024 for IPv6 (`IP6_RT_PRIO_USER` in the kernel).
    pub(super) fn metric_typed(self, family: Family) -> Option<u32> {
        let assumed = match family {
            Family::V4 => 0,
            Family::V6 => 1024,
        };
        (self.metric != assumed).then_some(self.metric)
    }

    fn parse(route: &RouteMessage) -> Option<Self> {
        let RouteHeader {
            destination_prefix_length,
            kind,
            protocol,
            ..
        } = route.header;
        let is_default = destination_prefix_length == 0 && kind == RouteType::Local;
        if !is_default
            || !route
                .attributes
                .contains(&RouteAttribute::Oif(LOOPBACK_INDEX))
        {
            return None;
        }
        let source = route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::PrefSource(address) => way::ip(address),
                _ => None,
            });
        let metric = metric(route).unwrap_or(0);
        Some(Self {
            source,
            metric,
            tagged: protocol == TAG,
        })
    }
}

// === impl Obstacle ===

impl Obstacle {
    fn parse(route: &RouteMessage, family: Family) -> Option<Self> {
        let destination = route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Destination(address) => way::ip(address),
                _ => None,
            });
        let ip = destination.unwrap_or(family.unspecified());
        Some(Self {
            prefix: IpNet::new(ip, route.header.destination_prefix_length).ok()?,
            metric: metric(route).unwrap_or(0),
        })
    }
}

fn into_route(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    }
}
