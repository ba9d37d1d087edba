//! What has to be in the kernel's tables, worked out without asking the kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::rule::{Family, LocalRoute, Protocol, Rule};
use crate::addr::Targets;

/// The servers whose replies to spoofed clients must come back to this host, and how far we may go to get them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// The IPv4 server, or `None` to leave IPv4 alone.
    pub v4: Option<SocketAddrV4>,
    /// The IPv6 server, or `None` to leave IPv6 alone.
    pub v6: Option<SocketAddrV6>,
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
    pub(super) target: IpAddr,
    pub(super) needs: Vec<Need>,
    pub(super) route: LocalRoute,
}

/// A packet that has to find its way back to us, and the rule that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) reply: Reply,
    pub(super) rule: Rule,
}

/// A reply of the server to a client somewhere on the Internet, as the kernel sees it when it looks for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) target: SocketAddr,
    pub(super) protocol: Protocol,
    /// Whether the server is bound to the wildcard address, so that the route has to supply the source address.
    pub(super) wildcard: bool,
}

// === impl RoutePlan ===

impl RoutePlan {
    /// The plan for the families that have a target (port 0 is none), with UDP servers on the wildcard address included
    /// and no mark.
    pub fn new(targets: &Targets, tcp: bool, udp: bool, table: RouteTable) -> Self {
        Self {
            v4: Some(targets.v4).filter(|target| target.port() != 0),
            v6: Some(targets.v6).filter(|target| target.port() != 0),
            tcp,
            udp,
            wildcard_udp: true,
            unnamed: Vec::new(),
            table,
            mark: None,
        }
    }

    /// The shell commands that do the same as [`install`](fn@super::install), for both families, routes first.
    pub fn commands(&self) -> Vec<String> {
        self.families()
            .iter()
            .flat_map(FamilyPlan::commands)
            .collect()
    }

    pub(super) fn families(&self) -> Vec<FamilyPlan> {
        let targets = [self.v4.map(SocketAddr::V4), self.v6.map(SocketAddr::V6)];
        targets
            .into_iter()
            .flatten()
            .map(|target| self.family(target))
            .collect()
    }

    fn family(&self, target: SocketAddr) -> FamilyPlan {
        let protocols = [(self.tcp, Protocol::Tcp), (self.udp, Protocol::Udp)];
        let enabled = protocols
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, protocol)| protocol);
        let mut needs: Vec<Need> = enabled
            .map(|protocol| Need {
                reply: Reply {
                    target,
                    protocol,
                    wildcard: false,
                },
                rule: Rule::for_bound_server(target, protocol, self.table),
            })
            .collect();
        let named = !self.unnamed.contains(&Family::of(target.ip()));
        if self.udp && self.wildcard_udp && named {
            needs.push(Need {
                reply: Reply {
                    target,
                    protocol: Protocol::Udp,
                    wildcard: true,
                },
                rule: Rule::for_wildcard_udp_server(target, self.table),
            });
        }
        FamilyPlan {
            family: Family::of(target.ip()),
            target: target.ip(),
            needs,
            route: LocalRoute {
                source: target.ip(),
                table: self.table,
            },
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
    /// The rules, each once: one rule for loopback serves TCP and UDP.
    ///
    /// A rule without a source comes first: the kernel takes it for equal to one of the same priority that differs only
    /// in having a source (`fib6_rule_compare` leaves out what the new rule does not have), and would refuse to add it.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(self.needs.len());
        for need in &self.needs {
            if !rules.contains(&need.rule) {
                rules.push(need.rule);
            }
        }
        rules.sort_by_key(|rule| rule.source.is_some());
        rules
    }

    fn commands(&self) -> Vec<String> {
        let rules = self.rules().into_iter().map(|rule| rule.to_string());
        std::iter::once(self.route.to_string())
            .chain(rules)
            .collect()
    }
}

// === impl Reply ===

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            protocol,
            wildcard,
        } = self;
        write!(f, "{protocol} replies of {target}")?;
        if *wildcard {
            f.write_str(", were it bound to the wildcard address,")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn plan(v4: &str, v6: &str) -> Result<RoutePlan, Box<dyn std::error::Error>> {
        let targets = Targets {
            v4: v4.parse()?,
            v6: v6.parse()?,
        };
        Ok(RoutePlan::new(
            &targets,
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
        plan.v6 = None;
        assert_eq!(
            plan.commands(),
            [
                "ip route add local 0.0.0.0/0 dev lo src 192.0.2.7 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto tcp sport 443 table 123",
                "ip rule add from 192.0.2.7/32 iif lo ipproto udp sport 443 table 123",
                "ip rule add from 0.0.0.0/32 iif lo ipproto udp sport 443 table 123",
            ]
        );
        plan.v4 = None;
        plan.v6 = Some("[2001:db8::7]:444".parse()?);
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
