//! What has to be in the kernel's tables, worked out without asking the kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::error::RouteWarning;
use super::ports::PortRange;
use super::rule::{Family, LocalRoute, Protocol, Rule};
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

/// The number of a routing table for us: any but `unspec` (0), `default` (253), `main` (254) and `local` (255), where a
/// local default route would cut the host off (`/usr/include/linux/rtnetlink.h`, `RT_TABLE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteTable(u32);

impl RouteTable {
    /// The one go-mmproxy's README uses.
    pub const DEFAULT: Self = Self(123);
}

/// The table number is one of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "routing table {0} belongs to the host; choose a table number other than 0 and 253 to 255, such as 123"
)]
pub struct ReservedTable(u32);

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

// === impl RouteTable ===

impl RouteTable {
    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RouteTable {
    type Error = ReservedTable;

    fn try_from(number: u32) -> Result<Self, ReservedTable> {
        match number {
            0 | 253..=255 => Err(ReservedTable(number)),
            _ => Ok(Self(number)),
        }
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

    /// The shell commands that add the route and the rules.
    pub(super) fn commands(&self) -> Vec<String> {
        let rules = self.rules().into_iter().map(|rule| rule.to_string());
        std::iter::once(self.route.to_string())
            .chain(rules)
            .collect()
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

#[cfg(test)]
mod tests {
    use super::super::way::Link;
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn plan(v4: &str, v6: &str) -> Result<RoutePlan, Box<dyn std::error::Error>> {
        let targets = Targets {
            v4: v4.parse()?,
            v6: v6.parse()?,
        };
        Ok(RoutePlan::new(
            [targets],
            true,
            true,
            RouteTable::try_from(123)?,
        ))
    }

    #[test]
    fn loopback_targets_get_what_the_go_mmproxy_readme_tells_to_type() -> TestResult {
        let mut plan = plan("127.0.0.1:25565", "[::1]:25566")?;
        plan.wildcard_udp = false;
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip -6 route add local ::/0 dev lo src ::1 table 123",
                "ip -6 rule add from ::1/128 iif lo table 123",
            ]
        );
        Ok(())
    }

    #[test]
    fn udp_servers_on_the_wildcard_address_get_a_rule_on_their_port() -> TestResult {
        let mut plan = plan("127.0.0.2:25565", "[::1]:25566")?;
        plan.tcp = false;
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.2 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 25565 table 123",
                "ip -6 route add local ::/0 dev lo src ::1 table 123",
                "ip -6 rule add iif lo ipproto udp sport 25566 table 123 priority 1000",
                "ip -6 rule add from ::1/128 iif lo table 123",
            ]
        );
        Ok(())
    }

    #[test]
    fn other_addresses_of_the_host_get_rules_for_the_server_port_only() -> TestResult {
        let mut plan = plan("192.0.2.7:443", "[2001:db8::7]:444")?;
        plan.v6.clear();
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 192.0.2.7 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 443 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto udp sport 443 table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 443 table 123",
            ]
        );
        plan.v4.clear();
        plan.v6 = vec!["[2001:db8::7]:444".parse()?];
        plan.udp = false;
        assert_eq!(
            plan.commands(),
            [
                "ip -6 route add local ::/0 dev lo src 2001:db8::7 table 123",
                "ip -6 rule add from 2001:db8::7/128 iif lo ipproto tcp sport 444 table 123",
            ]
        );
        Ok(())
    }

    #[test]
    fn consecutive_ports_of_a_server_share_a_rule() -> TestResult {
        let mut plan = plan("127.0.0.1:2458", "[::1]:0")?;
        for port in ["2456", "2457", "2457", "9000"] {
            plan.v4.push(format!("127.0.0.1:{port}").parse()?);
        }
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 2456-2458 table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 9000 table 123",
            ]
        );
        plan.v4 = vec!["192.0.2.7:443".parse()?, "192.0.2.7:444".parse()?];
        plan.udp = false;
        assert_eq!(
            plan.commands()[1..],
            ["ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 443-444 table 123"]
        );
        Ok(())
    }

    #[test]
    fn servers_at_several_addresses_are_each_served_but_for_wildcards() -> TestResult {
        let mut plan = plan("127.0.0.1:1", "[::1]:0")?;
        plan.v4.push("192.0.2.7:2".parse()?);
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 1 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 2 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto udp sport 2 table 123",
            ]
        );
        let shortcoming = |plan: &RoutePlan| plan.families().next().and_then(|it| it.shortcoming);
        let several = RouteWarning::SeveralTargets {
            served: "127.0.0.1".parse()?,
            others: vec!["192.0.2.7".parse()?],
        };
        assert_eq!(shortcoming(&plan), Some(several));
        plan.wildcard_udp = false;
        assert_eq!(shortcoming(&plan), None);
        Ok(())
    }

    /// Here, a server that is elsewhere is the first, and yet the route supplies the address of one that is here.
    #[test]
    fn servers_here_and_elsewhere_get_what_each_needs() -> TestResult {
        let mut plan = plan("192.0.2.7:443", "[::1]:0")?;
        for server in [
            "192.0.2.7:444",
            "192.0.2.7:446",
            "127.0.0.1:1",
            "10.0.0.1:2",
        ] {
            plan.v4.push(server.parse()?);
        }
        let link = Way::By(Link {
            interface: "eth1".to_owned(),
            index: 7,
            source: Some("192.0.2.1".parse()?),
            router: None,
        });
        let hosts = plan.hosts(Family::V4);
        let ways = [link, Way::Here, Way::Here];
        let ways: Vec<(Host, Way)> = hosts.into_iter().zip(ways).collect();
        let family = plan.family(Family::V4, &ways).ok_or("no plan")?;
        assert_eq!(
            family.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 table 123",
                "ip rule add from 192.0.2.7/32 iif eth1 ipproto tcp sport 443-444 table 123",
                "ip rule add from 192.0.2.7/32 iif eth1 ipproto udp sport 443-444 table 123",
                "ip rule add from 192.0.2.7/32 iif eth1 ipproto tcp sport 446 table 123",
                "ip rule add from 192.0.2.7/32 iif eth1 ipproto udp sport 446 table 123",
                "ip rule add from 127.0.0.1/8 iif lo table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 1 table 123",
                "ip rule add from 10.0.0.1/32 iif lo ipproto tcp sport 2 table 123",
                "ip rule add from 10.0.0.1/32 iif lo ipproto udp sport 2 table 123",
            ]
        );
        let several = RouteWarning::SeveralTargets {
            served: "127.0.0.1".parse()?,
            others: vec!["10.0.0.1".parse()?],
        };
        assert_eq!(family.shortcoming, Some(several));
        let [elsewhere] = &family.elsewhere[..] else {
            return Err("one server is elsewhere".into());
        };
        assert_eq!(
            elsewhere.commands,
            [
                "ip route add default via 192.0.2.1 src 192.0.2.7 table 123",
                "ip rule add from 192.0.2.7 ipproto tcp sport 443-444 table 123",
                "ip rule add ipproto udp sport 443-444 table 123",
                "ip rule add from 192.0.2.7 ipproto tcp sport 446 table 123",
                "ip rule add ipproto udp sport 446 table 123",
            ]
        );
        Ok(())
    }

    #[test]
    fn tables_of_the_host_are_refused() {
        for number in [0, 253, 254, 255] {
            assert_eq!(RouteTable::try_from(number), Err(ReservedTable(number)));
        }
        for number in [1, 123, 252, 256, u32::MAX] {
            assert_eq!(
                RouteTable::try_from(number).map(RouteTable::number),
                Ok(number)
            );
        }
    }
}
