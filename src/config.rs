//! What the command line means: checked once, never changed, cloned per shard.

mod address;
mod check;
mod error;
mod frontends;
mod target;
mod values;

use self::check::Check;
pub use self::error::{ConfigError, StartupError};
pub use self::frontends::NamedPorts;
pub use self::target::{NamedTargets, Target, TargetName};
use crate::access_log::Destination;
use crate::addr::Frontend;
use crate::args::{self, CommandLine, Origin, Quoted, Request};
use crate::cpus::Shards;
use crate::limits::LimitSettings;
use crate::routing::RouteTable;
use crate::trust::Trust;
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the proxy was told, checked. The defaults are go-mmproxy's where it has the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is proxied (`--protocol`; default TCP).
    pub protocols: Protocols,
    /// Where to listen (`--listen`; default 0.0.0.0:8443), and where the server is, by address or by name (`--target-v4`,
    /// default 127.0.0.1:443, and `--target-v6`, default \[::1\]:443): one for each port, at least one, at most 4096. No
    /// two overlap. Listening addresses are never v4-mapped, port 0 lets the kernel choose, and link-local IPv6 addresses
    /// carry the interface as scope. IPv6 targets are not v4-mapped, and port 0 says that there is none.
    pub frontends: Vec<Frontend<NamedTargets>>,
    /// Whether the IPv4 target was named, rather than left at its default.
    pub target_v4_named: bool,
    /// Whether the IPv6 target was named.
    pub target_v6_named: bool,
    /// The file of the subnets whose peers may connect (`--allowed-subnets`); `None` lets everybody in.
    pub allowed_subnets: Option<PathBuf>,
    /// Whether the kernel may redirect traffic for other addresses to the listening sockets (`--listen-transparent`).
    pub listen_transparent: bool,
    /// Whether a PROXY header's destination is the target (`--dynamic-destination`).
    pub dynamic_destination: bool,
    /// The file of the subnets these may be in (`--allowed-destinations`); `None` leaves them this host's own addresses.
    /// Only with `dynamic_destination`.
    pub allowed_destinations: Option<PathBuf>,
    /// The file of the subnets whose clients are turned away (`--denied-clients`); `None` turns nobody away.
    pub denied_clients: Option<PathBuf>,
    /// Whether a new list of these leaves open connections and flows alone (`--keep-denied`).
    pub keep_denied: bool,
    /// How many connections there may be, and how fast they may come (`--max-connections`,
    /// `--max-connections-per-client`, `--new-connections-per-second`; default any number).
    pub limits: LimitSettings,
    /// How long a TCP connection may move no byte (`--idle-timeout`; default for ever). Never zero.
    pub idle_timeout: Option<Duration>,
    /// How long a UDP flow may be idle (`--close-after`; default 60 s). Zero, which go-mmproxy accepts, is the shortest
    /// there is: idle at the next look is too long.
    pub close_after: Duration,
    /// How long open connections and flows may take to end (`--drain-timeout`; default 25 s). Zero ends them at once.
    pub drain_timeout: Duration,
    /// Whether to take the listening sockets over from another instance (`--takeover`).
    pub takeover: bool,
    /// How many shards there are, and where (`--listeners`, `--cpus`, `--no-pin`; default one per CPU, pinned).
    pub shards: Shards,
    /// The firewall mark of the sockets to the server (`--mark`); `None` sets none.
    pub mark: Option<NonZeroU32>,
    /// How long a TCP peer may take for its PROXY header (`--header-timeout`; default 5 s). Never zero.
    pub header_timeout: Duration,
    /// How long connecting to the server may take (`--connect-timeout`; default 5 s). Never zero.
    pub connect_timeout: Duration,
    /// The most UDP flows open at once (`--max-flows`; default 16384). Never zero.
    pub max_flows: usize,
    /// The port of the sockets to the server (`--source-port`, `--force-real-client-port`; default the client's).
    pub source_port: SourcePort,
    /// How much of a PROXY header is believed (`--require-crc32c`, `--allow-loopback-clients`).
    pub trust: Trust,
    /// What UDP datagrams begin with (`--udp-header`; default version 2 on each).
    pub udp_header: UdpHeader,
    /// Whether to install the policy routes and remove them at exit (`--setup-routes`).
    pub setup_routes: bool,
    /// The routing table of the policy routes (`--table`; default 123). None of the kernel's own.
    pub table: RouteTable,
    /// Whether these routes, and flows of clients on this host, also serve UDP servers bound to 0.0.0.0 or \[::\] (off
    /// with `--no-wildcard-udp`).
    pub wildcard_udp: bool,
    /// Whether to check the policy routes at start-up and warn (off with `--quiet`).
    pub route_check: bool,
    /// What is logged of single connections (`--verbose`; default nothing).
    pub verbosity: Verbosity,
    /// The form of the log (`--log-format`); `None` leaves it to whether it goes to a terminal.
    pub log_format: Option<LogFormat>,
    /// Where a line for each connection and flow that has ended goes (`--access-log`); `None` writes none.
    pub access_log: Option<Destination>,
    /// The form of these lines (`--access-log-format`); `None` is that of the log.
    pub access_log_format: Option<LogFormat>,
    /// Where metrics, health and status are served (`--admin`); `None` serves none. Port 0 lets the kernel choose.
    pub admin: Option<SocketAddr>,
    /// Whether to give up what is not needed once it runs (off with `--no-sandbox`).
    pub sandbox: bool,
    /// Words of the command line that mean nothing here, nor to go-mmproxy. Worth a warning.
    pub ignored: Vec<String>,
}

/// What is proxied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Both, on the same address and port.
    Both,
}

/// What the datagrams of a UDP listener begin with. It is told, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpHeader {
    /// Each with a PROXY header of version 2 (`v2`).
    V2,
    /// The first of a session with a PROXY header of version 2, the others with none (`v2-first`).
    V2First,
    /// Each with a header of Simple Proxy Protocol, and so the replies (`spp`).
    Spp,
}

/// What is logged of single connections and flows. Each level includes those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing (`-v 0`).
    Quiet,
    /// Their errors (`-v 1`).
    Errors,
    /// All they do (`-v 2`).
    All,
}

/// Which port the server sees a client at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePort {
    /// The client's own, or one of the kernel's choice if it cannot be had.
    Client,
    /// One of the kernel's choice.
    Any,
    /// The client's own; without it there is no connection.
    Strict,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a start of the program comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// Run the proxy so.
    Run(Box<Config>),
    /// Look whether the proxy could run so.
    Check {
        /// How it would run.
        config: Box<Config>,
        /// Whether to print JSON.
        json: bool,
    },
    /// Ask the proxy that runs, at its admin address, whether it is ready.
    AskReady(SocketAddr),
    /// Show how it works.
    Demo,
    /// Show what the proxy does that runs.
    Top {
        /// Its admin address.
        admin: SocketAddr,
        /// Whether to look for a second only, and print plain text.
        once: bool,
    },
    /// Print this text to stdout and exit with success.
    Print(String),
}

/// Reads and checks the arguments behind the program's name, and the environment through `variable`.
///
/// # Errors
///
/// The first thing wrong with them, in one line that names the flag or variable, the value and what would be right.
pub fn load(
    argv: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Startup, StartupError> {
    match args::read(argv, variable)? {
        Request::Run(line) => Ok(Startup::Run(Box::new(Config::try_from(*line)?))),
        Request::Check(_, check) if check.live => Ok(Startup::AskReady(admin(check.admin)?)),
        Request::Check(line, check) => Ok(Startup::Check {
            config: Box::new(Config::try_from(*line)?),
            json: check.json,
        }),
        Request::Demo => Ok(Startup::Demo),
        Request::Top(top) => Ok(Startup::Top {
            admin: admin(Some(top.admin))?,
            once: top.once,
        }),
        Request::Print(text) => Ok(Startup::Print(text)),
    }
}

/// The address to ask. Without a port there is nobody to ask.
fn admin(given: Option<(Origin, String)>) -> Result<SocketAddr, ConfigError> {
    let (origin, text) = given.unwrap_or((Origin::Flag("--admin".to_owned()), String::new()));
    let read = address::listen(&text).and_then(|addr| match addr.port() {
        0 => Err(Problem::new("has port 0", "the port it listens on")),
        _ => Ok(addr),
    });
    read.map_err(|problem| problem.of(origin, &text))
}

// === impl Config ===

impl TryFrom<CommandLine> for Config {
    type Error = ConfigError;

    fn try_from(line: CommandLine) -> Result<Self, ConfigError> {
        let args = &line.args;
        let value = Check(&line);
        Ok(Self {
            protocols: value
                .of("protocol", &args.protocol, values::protocols)?
                .unwrap_or(Protocols::Tcp),
            frontends: value.frontends()?,
            // To go-mmproxy an empty name is no name.
            allowed_subnets: args
                .allowed_subnets
                .as_ref()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            listen_transparent: args.listen_transparent.unwrap_or(false),
            dynamic_destination: args.dynamic_destination.unwrap_or(false),
            allowed_destinations: value.allowed_destinations()?,
            denied_clients: value.of("denied-clients", &args.denied_clients, values::file)?,
            keep_denied: args.keep_denied.unwrap_or(false),
            limits: value.limits()?,
            idle_timeout: value
                .of("idle-timeout", &args.idle_timeout, values::idle_timeout)?
                .flatten(),
            close_after: value
                .of("close-after", &args.close_after, values::close_after)?
                .unwrap_or(Duration::from_secs(60)),
            drain_timeout: value
                .of("drain-timeout", &args.drain_timeout, values::drain_timeout)?
                .unwrap_or(Duration::from_secs(25)),
            takeover: args.takeover.unwrap_or(false),
            shards: value.shards()?,
            mark: value.of("mark", &args.mark, values::mark)?.flatten(),
            header_timeout: value
                .of("header-timeout", &args.header_timeout, values::timeout)?
                .unwrap_or(Duration::from_secs(5)),
            connect_timeout: value
                .of("connect-timeout", &args.connect_timeout, values::timeout)?
                .unwrap_or(Duration::from_secs(5)),
            max_flows: value
                .of("max-flows", &args.max_flows, values::max_flows)?
                .unwrap_or(16384),
            source_port: value.source_port()?,
            trust: Trust {
                requires_crc32c: args.require_crc32c.unwrap_or(false),
                loopback_clients: args.allow_loopback_clients.unwrap_or(false),
            },
            udp_header: value
                .of("udp-header", &args.udp_header, values::udp_header)?
                .unwrap_or(UdpHeader::V2),
            setup_routes: args.setup_routes.unwrap_or(false),
            table: value
                .of("table", &args.table, values::table)?
                .unwrap_or(RouteTable::DEFAULT),
            target_v4_named: args.target_v4.is_some(),
            target_v6_named: args.target_v6.is_some(),
            wildcard_udp: !args.no_wildcard_udp.unwrap_or(false),
            route_check: !args.quiet.unwrap_or(false),
            verbosity: value
                .of("verbose", &args.verbose, values::verbosity)?
                .unwrap_or(Verbosity::Quiet),
            log_format: value.of("log-format", &args.log_format, values::log_format)?,
            access_log: value.of("access-log", &args.access_log, values::access_log)?,
            access_log_format: value.access_log_format()?,
            admin: value.of("admin", &args.admin, address::admin)?,
            sandbox: !args.no_sandbox.unwrap_or(false),
            ignored: line.ignored,
        })
    }
}

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
const DEFAULT_TARGET_V4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 443);
const DEFAULT_TARGET_V6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 0, 0);

// === impl Protocols ===

impl Protocols {
    /// Whether TCP connections are proxied.
    pub fn tcp(self) -> bool {
        self != Self::Udp
    }

    /// Whether UDP datagrams are proxied.
    pub fn udp(self) -> bool {
        self != Self::Tcp
    }

    /// As `--protocol` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Both => "both",
        }
    }
}

/// What is wrong with a value, before it is known whose it is.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// The end of a sentence that begins with the value.
    problem: String,
    /// What would be right.
    wanted: String,
}

// === impl Problem ===

impl Problem {
    fn new(problem: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            wanted: wanted.into(),
        }
    }

    /// Once it is known whose value it is.
    fn of(self, origin: Origin, value: &str) -> ConfigError {
        ConfigError::BadValue {
            origin,
            value: Quoted(value.to_owned()),
            problem: self.problem,
            wanted: self.wanted,
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests;
