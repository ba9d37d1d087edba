//! What can be wrong, in words for the operator.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::kernel::Obstacle;
use super::need::Need;
use super::rule::Family;
use super::table::RouteTable;

/// Something about this host's routing that keeps replies from coming back, though it is no reason not to start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteWarning {
    /// Nothing leads to the server (not from [`install`](super::install()), which fails).
    #[error("there is no route from this host to the server at {0}")]
    NoRoute(IpAddr),
    /// The table has somebody's route with another source address, or none.
    #[error(
        "table {table} already has a {family} route `local default dev lo` with {}, so UDP servers bound to the \
         wildcard address would answer from the wrong address; mend it with `{mend}`",
        source_text(*.found)
    )]
    ForeignRoute {
        /// The family.
        family: Family,
        /// The table.
        table: RouteTable,
        /// The route's preferred source address.
        found: Option<IpAddr>,
        /// The shell command that gives it the right one.
        mend: String,
    },
    /// Another instance with another target address uses the same table.
    #[error(
        "table {table} is also used by another glommproxy, whose target is {other}, so UDP servers bound to the \
         wildcard address of one of the two would answer from the wrong address; give each its own table number"
    )]
    SharedTable {
        /// The table.
        table: RouteTable,
        /// The other instance's target.
        other: IpAddr,
    },
    /// The table's one route supplies one source address.
    #[error(
        "UDP servers bound to the wildcard address answer from {served}, the address of the first target, so they do not \
         work at {}: bind those to their addresses, or run a glommproxy for each address, with a --table of its own",
        list(.others)
    )]
    SeveralTargets {
        /// The address that is supplied.
        served: IpAddr,
        /// The other targets' addresses.
        others: Vec<IpAddr>,
    },
    /// A UDP server whose port can be in no rule.
    #[error(
        "a UDP server bound to the wildcard address does not work at {0}: the kernel takes no rule for port 65535; bind it \
         to {ip}, or let it have another port", ip = .0.ip()
    )]
    WildcardPort(SocketAddr),
    /// Another server whose port can be in no rule (only from [`check`](super::check()); [`install`](super::install()) fails).
    #[error("{}", port_in_no_rule(.0))]
    PortInNoRule(SocketAddr),
    /// The table has a route that goes before ours.
    #[error(
        "{replies} do not come back to this host: table {table} has a {family} route to {destination} (metric {metric}), \
         which goes before `local default dev lo`; remove it (`{ip} route show table {table}`), or use another table \
         number",
        ip = .family.ip_tool()
    )]
    RouteBefore {
        /// Which replies, in words.
        replies: String,
        /// The family.
        family: Family,
        /// The table.
        table: RouteTable,
        /// Where that route leads.
        destination: IpNet,
        /// Its metric.
        metric: u32,
    },
    /// Rules and routes are there, and yet the kernel takes another way.
    #[error(
        "{replies} do not come back to this host although rule and route are there; look in `{ip} rule` for a rule \
         of higher priority that takes them elsewhere"
    )]
    Overruled {
        /// Which replies, in words.
        replies: String,
        /// The iproute2 command of the family.
        ip: &'static str,
    },
}

/// Why the routes could not be set up, removed or checked.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The kernel answered EPERM.
    #[error(
        "setting up routes needs CAP_NET_ADMIN; grant it, or leave the set-up to root: {}",
        .commands.join(" && ")
    )]
    NotPermitted {
        /// The shell commands that do the same.
        commands: Vec<String>,
    },
    /// The kernel answered EPERM when our rules and routes were to go.
    #[error(
        "removing our rules and routes needs CAP_NET_ADMIN, which is gone; they stay until the next start with it"
    )]
    RemovalNotPermitted,
    /// Nothing leads to the server.
    #[error(
        "there is no route from this host to the server at {0}, so its replies cannot be routed back: look at \
         `ip route get {0}`"
    )]
    NoRoute(IpAddr),
    /// The rule for a server would have to be for a port that can be in none.
    #[error("{}", port_in_no_rule(.0))]
    PortInNoRule(SocketAddr),
    /// All slots are taken.
    #[error(
        "64 instances have set up routes in this network namespace, which is as many as there can be"
    )]
    NoFreeSlot,
    /// Anything else the system said.
    #[error("{doing}: {cause}")]
    System {
        /// What was tried.
        doing: String,
        /// The system's error.
        cause: io::Error,
    },
}

// === impl RoutingError ===

impl RoutingError {
    /// The shell commands that mend it, or show what is wrong.
    pub(crate) fn commands(&self) -> Vec<String> {
        match self {
            Self::NotPermitted { commands } => commands.clone(),
            Self::NoRoute(server) => vec![format!("ip route get {server}")],
            // Only another port helps.
            Self::PortInNoRule(_) => Vec::new(),
            Self::RemovalNotPermitted | Self::NoFreeSlot | Self::System { .. } => {
                vec!["ip rule".to_owned(), "ip -6 rule".to_owned()]
            }
        }
    }
}

// === impl RouteWarning ===

impl RouteWarning {
    /// A need that no rule can serve.
    pub(super) fn without_rule(need: &Need) -> Option<Self> {
        let server = need.without_rule()?;
        Some(if need.reply.wildcard {
            Self::WildcardPort(server)
        } else {
            Self::PortInNoRule(server)
        })
    }

    /// Rule and route are there: what else it may be.
    pub(super) fn overruled(need: &Need, obstacle: Option<Obstacle>) -> Self {
        let replies = need.reply.to_string();
        match obstacle {
            Some(Obstacle { prefix, metric }) => Self::RouteBefore {
                replies,
                family: need.rule.family,
                table: need.rule.table,
                destination: prefix,
                metric,
            },
            None => Self::Overruled {
                replies,
                ip: need.rule.family.ip_tool(),
            },
        }
    }
}

fn port_in_no_rule(server: &SocketAddr) -> String {
    format!(
        "replies of {server} cannot be routed back: the kernel takes no rule for port 65535; let that server have another \
         port, or a loopback address of this host"
    )
}

fn list(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(", ")
}

fn source_text(source: Option<IpAddr>) -> String {
    match source {
        Some(ip) => format!("source {ip}"),
        None => "no preferred source".to_owned(),
    }
}
