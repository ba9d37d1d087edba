//! One rule and one route, and the commands that add them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ports::PortRange;
use super::table::RouteTable;
use super::way::Link;

/// All IPv4 loopback addresses, written as go-mmproxy's README writes it.
const LOOPBACK_V4: IpNet = IpNet::new_assert(IpAddr::V4(Ipv4Addr::LOCALHOST), 8);

/// The interface by which rules mean "made on this host" (ip-rule(8)): forwarded packets never match.
pub(super) const THIS_HOST: &str = "lo";

/// The priority in the command for a rule without a source: like what `ip rule add` chooses, before the table `main`.
const SOURCELESS_PRIORITY: u32 = 1000;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// `ip rule add [from SOURCE] iif INTERFACE [ipproto P sport N-M] table T`.
///
/// The interface [`THIS_HOST`] also spares forwarded packets the look into their ports that rules on ports otherwise
/// cost (`fib_rule_requires_fldissect` in the kernel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) family: Family,
    pub(super) interface: String,
    pub(super) source: Option<IpNet>,
    pub(super) service: Option<(Protocol, PortRange)>,
    pub(super) table: RouteTable,
}

/// `ip route add local default dev lo src SOURCE table T`: everything is ours, and whoever has no address yet takes the
/// server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalRoute {
    pub(super) source: IpAddr,
    pub(super) table: RouteTable,
}

// === impl Family ===

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address that every host with this family has.
    pub(super) fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// The shell commands that give loopback its address.
    pub(crate) fn loopback_commands(self) -> Vec<String> {
        let mut commands = vec!["ip link set lo up".to_owned()];
        if self == Self::V6 {
            commands.push("sysctl -w net.ipv6.conf.lo.disable_ipv6=0".to_owned());
        }
        commands
    }

    pub(super) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// How iproute2's tool is called for this family.
    pub(super) fn ip_tool(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }

    pub(super) fn default_prefix(self) -> &'static str {
        match self {
            Self::V4 => "0.0.0.0/0",
            Self::V6 => "::/0",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

// === impl Protocol ===

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

// === impl Rule ===

impl Rule {
    /// Packets from loopback addresses go nowhere else anyway, so all of them may match. Any other address of this host
    /// has traffic of its own, so there only the server's port does.
    pub(super) fn for_bound_server(
        ip: IpAddr,
        ports: PortRange,
        protocol: Protocol,
        table: RouteTable,
    ) -> Self {
        let family = Family::of(ip);
        if ip.is_loopback() {
            let source = match family {
                Family::V4 => LOOPBACK_V4,
                Family::V6 => IpNet::from(ip),
            };
            return Self {
                family,
                interface: THIS_HOST.to_owned(),
                source: Some(source),
                service: None,
                table,
            };
        }
        Self {
            family,
            interface: THIS_HOST.to_owned(),
            source: Some(IpNet::from(ip)),
            service: Some((protocol, ports)),
            table,
        }
    }

    /// Whether the kernel takes it.
    pub(super) fn is_possible(&self) -> bool {
        self.service.is_none_or(|(_, ports)| ports.fits_a_rule())
    }

    /// Of what comes in from the server's host, only what the server itself sends may match. This host may be the router
    /// of that one, whose other traffic goes on.
    pub(super) fn for_server_elsewhere(
        ip: IpAddr,
        ports: PortRange,
        protocol: Protocol,
        link: &Link,
        table: RouteTable,
    ) -> Self {
        Self {
            family: Family::of(ip),
            interface: link.interface.clone(),
            source: Some(IpNet::from(ip)),
            service: Some((protocol, ports)),
            table,
        }
    }

    /// `from 0.0.0.0/32` matches exactly the IPv4 packets that have no source address yet. An IPv6 rule with a source
    /// never matches such packets (`fib6_rule_match`: `RT6_LOOKUP_F_HAS_SADDR`), so it has to do without.
    pub(super) fn for_wildcard_udp_server(
        family: Family,
        ports: PortRange,
        table: RouteTable,
    ) -> Self {
        let source = match family {
            Family::V4 => Some(IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
            Family::V6 => None,
        };
        Self {
            family,
            interface: THIS_HOST.to_owned(),
            source,
            service: Some((Protocol::Udp, ports)),
            table,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule add", self.family.ip_tool())?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        write!(f, " iif {}", self.interface)?;
        if let Some((protocol, ports)) = self.service {
            write!(f, " ipproto {protocol} sport {ports}")?;
        }
        write!(f, " table {}", self.table)?;
        // Without a priority of its own it would be refused as equal to any rule for the same port and one source; see
        // `FamilyPlan::rules`.
        if self.source.is_none() {
            write!(f, " priority {SOURCELESS_PRIORITY}")
        } else {
            Ok(())
        }
    }
}

// === impl LocalRoute ===

impl LocalRoute {
    pub(super) fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// The command that gives this route's source to a route that is already there with this metric, or with the one
    /// that `ip route` assumes.
    pub(super) fn replace_command(&self, metric: Option<u32>) -> String {
        let command = self.command("replace");
        match metric {
            Some(metric) => format!("{command} metric {metric}"),
            None => command,
        }
    }

    fn command(&self, verb: &str) -> String {
        let Self { source, table } = self;
        let (ip, prefix) = (self.family().ip_tool(), self.family().default_prefix());
        format!("{ip} route {verb} local {prefix} dev lo src {source} table {table}")
    }
}

impl fmt::Display for LocalRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command("add"))
    }
}
