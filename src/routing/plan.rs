//! What has to be in the kernel's tables, worked out without asking the kernel.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::error::RouteWarning;
use super::need::{Host, Need, Reply};
use super::ports::PortRange;
use super::rule::{Family, LocalRoute, Protocol, Rule};
use super::table::RouteTable;
use super::way::{ServerElsewhere, Way};
use crate::addr::Targets;

/// The servers whose replies to spoofed clients must come back to this host, and how far we may go to get them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// The IPv4 servers; without one, IPv4 is left alone. UDP servers on the wildcard address can only be served at the
    /// address of the first of them on this host: it is the one that the route supplies.
    pub v4: Vec<SocketAddrV4>,
    /// The IPv6 servers; as for IPv4.
    pub v6: Vec<SocketAddrV6>,
    /// Whether TCP is proxied.
    pub tcp: bool,
    /// Whether UDP is proxied.
    pub udp: bool,
    /// Whether UDP servers bound to `0.0.0.0` or `[::]` are to work too; without effect unless `udp` is set.
    ///
    /// Such a server's reply has no source address yet when the kernel looks for a route, so the rule can only go by
    /// the server's port. Its cost: replies of such a server to clients that reach it directly, not through us, stay on
    /// loopback and are lost. Over IPv4 the rule matches only packets without a source address, so a server that
    /// chooses the source itself (`IP_PKTINFO`), or is bound to one address, keeps its direct clients. IPv6 rules
    /// cannot ask for that, and there the rule takes every UDP packet that leaves from the server's port.
    pub wildcard_udp: bool,
    /// Families whose target nobody named. They get no rule for UDP servers on the wildcard address: it would catch the
    /// UDP of whatever else has the default port, and that is 443.
    pub unnamed: Vec<Family>,
    /// The routing table that the rules point to.
    pub table: RouteTable,
    /// The mark (`SO_MARK`) of our sockets to the server, if any. Set-ups that carry it over to the replies and route
    /// by it (`ip rule add fwmark MARK lookup TABLE`) count as complete in [`check`](fn@super::check).
    pub mark: Option<u32>,
}

/// Everything for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FamilyPlan {
    pub(super) family: Family,
    pub(super) needs: Vec<Need>,
    pub(super) route: LocalRoute,
    /// What the rules and the route cannot do.
    pub(super) shortcoming: Option<RouteWarning>,
    /// Servers on other hosts, which need something there as well.
    pub(super) elsewhere: Vec<ServerElsewhere>,
}

// === impl RoutePlan ===

impl RoutePlan {
    /// The plan for the families that have a target (port 0 is none), with UDP servers on the wildcard address included
    /// and no mark.
    pub fn new(
        targets: impl IntoIterator<Item = Targets>,
        tcp: bool,
        udp: bool,
        table: RouteTable,
    ) -> Self {
        let mut plan = Self {
            v4: Vec::new(),
            v6: Vec::new(),
            tcp,
            udp,
            wildcard_udp: true,
            unnamed: Vec::new(),
            table,
            mark: None,
        };
        plan.set_servers(targets);
        plan
    }

    /// Puts other servers in the place of the plan's.
    pub fn set_servers(&mut self, targets: impl IntoIterator<Item = Targets>) {
        let (v4, v6): (Vec<_>, Vec<_>) = targets.into_iter().map(|it| (it.v4, it.v6)).unzip();
        self.v4 = v4.into_iter().filter(|target| target.port() != 0).collect();
        self.v6 = v6.into_iter().filter(|target| target.port() != 0).collect();
    }

    /// The shell commands that do the same as [`install`](fn@super::install) where the servers are on this host, for both
    /// families, routes first.
    pub fn commands(&self) -> Vec<String> {
        self.families()
            .flat_map(|family| family.commands())
            .collect()
    }

    /// The families with servers, were all of these on this host.
    fn families(&self) -> impl Iterator<Item = FamilyPlan> {
        [Family::V4, Family::V6].into_iter().filter_map(|family| {
            let hosts = self.hosts(family).into_iter();
            let ways: Vec<_> = hosts.map(|host| (host, Way::Here)).collect();
            self.family(family, &ways)
        })
    }

    /// The hosts of a family's servers, each once.
    pub(super) fn hosts(&self, family: Family) -> Vec<Host> {
        let mut hosts = Vec::new();
        for server in self.servers(family) {
            let host = Host::from(server);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// What the family's servers need on hosts that are reached in these ways. None without a host.
    pub(super) fn family(&self, family: Family, hosts: &[(Host, Way)]) -> Option<FamilyPlan> {
        let mut here = Vec::new();
        for (host, way) in hosts {
            if *way == Way::Here && !here.contains(&host.ip) {
                here.push(host.ip);
            }
        }
        let served = here.first().copied();
        let named = !self.unnamed.contains(&family);
        let wildcard = self.udp && self.wildcard_udp && named;
        let mut needs = Vec::new();
        let mut elsewhere = Vec::new();
        for (host, way) in hosts {
            let servers = self
                .servers(family)
                .filter(|&server| Host::from(server) == *host);
            let ranges = PortRange::covering(servers.map(|server| server.port()));
            let from = needs.len();
            for ports in &ranges {
                needs.extend(self.bound_servers(host.ip, *ports, way));
            }
            match way {
                // A server elsewhere has its own host to choose the source address.
                Way::Here if wildcard && served == Some(host.ip) => {
                    let rules = ranges
                        .iter()
                        .map(|ports| self.wildcard_server(host.ip, *ports));
                    needs.extend(rules);
                }
                Way::Here => {}
                Way::By(link) => {
                    elsewhere.push(ServerElsewhere::new(host.ip, link, &needs[from..]));
                }
            }
        }
        let source = served.unwrap_or(family.loopback());
        let others = here.get(1..).unwrap_or_default();
        (!hosts.is_empty()).then(|| FamilyPlan {
            family,
            needs,
            route: LocalRoute {
                source,
                table: self.table,
            },
            shortcoming: (wildcard && !others.is_empty()).then(|| RouteWarning::SeveralTargets {
                served: source,
                others: others.to_vec(),
            }),
            elsewhere,
        })
    }

    fn servers(&self, family: Family) -> impl Iterator<Item = SocketAddr> {
        let (v4, v6) = match family {
            Family::V4 => (&self.v4[..], &[][..]),
            Family::V6 => (&[][..], &self.v6[..]),
        };
        let v4 = v4.iter().copied().map(SocketAddr::V4);
        v4.chain(v6.iter().copied().map(SocketAddr::V6))
    }

    /// What servers need that are bound to their address.
    fn bound_servers(
        &self,
        target: IpAddr,
        ports: PortRange,
        way: &Way,
    ) -> impl Iterator<Item = Need> {
        let protocols = [(self.tcp, Protocol::Tcp), (self.udp, Protocol::Udp)];
        let protocols = protocols.into_iter().filter(|(on, _)| *on);
        protocols.map(move |(_, protocol)| {
            let (rule, arrives_by) = match way {
                Way::Here => (
                    Rule::for_bound_server(target, ports, protocol, self.table),
                    None,
                ),
                Way::By(link) => (
                    Rule::for_server_elsewhere(target, ports, protocol, link, self.table),
                    Some(link.index),
                ),
            };
            let reply = Reply {
                target,
                ports,
                protocol,
                wildcard: false,
                arrives_by,
            };
            Need { reply, rule }
        })
    }

    /// What a UDP server needs that is bound to the wildcard address.
    fn wildcard_server(&self, target: IpAddr, ports: PortRange) -> Need {
        Need {
            reply: Reply {
                target,
                ports,
                protocol: Protocol::Udp,
                wildcard: true,
                arrives_by: None,
            },
            rule: Rule::for_wildcard_udp_server(Family::of(target), ports, self.table),
        }
    }
}

// === impl FamilyPlan ===

impl FamilyPlan {
    /// The rules that the kernel takes, each once: one rule for loopback serves TCP and UDP.
    ///
    /// A rule without a source comes first: the kernel takes it for equal to one of the same priority that differs only
    /// in having a source (`fib6_rule_compare` leaves out what the new rule does not have), and would refuse to add it.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(self.needs.len());
        for need in &self.needs {
            if need.rule.is_possible() && !rules.contains(&need.rule) {
                rules.push(need.rule.clone());
            }
        }
        rules.sort_by_key(|rule| rule.source.is_some());
        rules
    }

    /// The same without what these servers need.
    pub(super) fn without(&self, servers: &[IpAddr]) -> Self {
        let mut rest = self.clone();
        rest.needs
            .retain(|need| !servers.contains(&need.reply.target));
        rest
    }

    /// The shell commands that add the route and the rules.
    pub(super) fn commands(&self) -> Vec<String> {
        let rules = self.rules().into_iter().map(|rule| rule.to_string());
        std::iter::once(self.route.to_string())
            .chain(rules)
            .collect()
    }
}
