//! What the command line means: checked once, never changed, cloned per shard.

mod address;
mod frontends;
mod target;
mod values;

pub use self::frontends::NamedPorts;
use self::frontends::{Ported, Span, Spans};
pub use self::target::{NamedTargets, Target, TargetName};
use crate::access_log::Destination;
use crate::addr::Frontend;
use crate::args::{self, ArgsError, CheckArgs, CommandLine, Origin, Quoted, Request};
use crate::cpus::{self, Shards};
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
    /// Print this text to stdout and exit with success.
    Print(String),
}

/// Why the program cannot start as it was told. The message is one line for stderr; the exit code is 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The command line or the environment cannot be read.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// A value is wrong, or two contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What is wrong with the values given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value cannot be used.
    #[error("{origin} {value} {problem}: want {wanted}")]
    BadValue {
        /// The flag, as it was typed, or the variable.
        origin: Origin,
        /// The value.
        value: Quoted,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
        /// What would be right.
        wanted: String,
    },
    /// Neither one target for all listening addresses nor one for each.
    #[error(
        "{listen_origin} names {listens} to listen on, and {target_origin} names {targets}: give one {target_origin} for \
         all of them, or one for each, in the same order"
    )]
    UnpairedTargets {
        /// The flag or variable of the listening addresses.
        listen_origin: Origin,
        /// How many there are.
        listens: usize,
        /// The flag or variable of the targets.
        target_origin: Origin,
        /// How many there are.
        targets: usize,
    },
    /// A range of ports has a range of another length for its targets.
    #[error("{listen} and {target}: give ranges of the same length, or one target port for all")]
    UnequalRanges {
        /// The listening address.
        listen: Box<NamedPorts>,
        /// The target.
        target: Box<NamedPorts>,
    },
    /// Two listening addresses have a port in common.
    #[error(
        "{origin} {first} and {second} overlap at port {port}: a wildcard address is all addresses, IPv4 and IPv6; \
         name each port once"
    )]
    Overlap {
        /// The flag or variable.
        origin: Origin,
        /// The word given first.
        first: Quoted,
        /// The one that overlaps it.
        second: Quoted,
        /// The lowest port they share.
        port: u16,
    },
    /// More listening ports than there may be.
    #[error(
        "{listen_origin} names {ports} ports, and 4096 is the most: let the kernel redirect them to one, with \
         --listen-transparent"
    )]
    TooManyPorts {
        /// The flag or variable.
        listen_origin: Origin,
        /// How many it names.
        ports: usize,
    },
    /// More host names than are looked up.
    #[error(
        "{target_origin} names {names} hosts, and 256 are the most: give their addresses, or run several glommproxies"
    )]
    TooManyNames {
        /// The flag or variable.
        target_origin: Origin,
        /// How many it names.
        names: usize,
    },
    /// `--allowed-destinations` without `--dynamic-destination`.
    #[error(
        "{list_origin} is for destinations that PROXY headers name, and they are not read without \
         --dynamic-destination: add that, or remove {list_origin}"
    )]
    DestinationsNotDynamic {
        /// The flag or variable of the list.
        list_origin: Origin,
    },
    /// `--access-log-format` without `--access-log`.
    #[error(
        "{format_origin} is for the access log, and there is none without --access-log: add that, or remove \
         {format_origin}"
    )]
    NoAccessLog {
        /// The flag or variable of the format.
        format_origin: Origin,
    },
    /// `--listeners` and `--cpus` ask for different numbers of shards.
    #[error(
        "{listeners_origin} asks for {listeners} listeners, but {cpus_origin} names CPUs for {cpus}: remove one of them"
    )]
    ListenersContradictCpus {
        /// The flag or variable of the number.
        listeners_origin: Origin,
        /// The number.
        listeners: usize,
        /// The flag or variable of the CPUs.
        cpus_origin: Origin,
        /// How many CPUs it names.
        cpus: usize,
    },
    /// `--force-real-client-port` and `--source-port` contradict each other.
    #[error(
        "{forced_origin} contradicts {source_port_origin}, which allows other ports than the client's: remove one of them"
    )]
    SourcePortsContradict {
        /// The switch or variable that means `strict`.
        forced_origin: Origin,
        /// The flag or variable that says something else.
        source_port_origin: Origin,
    },
    /// `--no-pin` and `--cpus` contradict each other.
    #[error(
        "{no_pin_origin} contradicts {cpus_origin}, which names the CPUs to pin to: remove one of them"
    )]
    NoPinContradictsCpus {
        /// The switch or variable that forbids pinning.
        no_pin_origin: Origin,
        /// The flag or variable of the CPUs.
        cpus_origin: Origin,
    },
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
        Request::Check(_, check) if check.live => Ok(Startup::AskReady(admin(check)?)),
        Request::Check(line, check) => Ok(Startup::Check {
            config: Box::new(Config::try_from(*line)?),
            json: check.json,
        }),
        Request::Demo => Ok(Startup::Demo),
        Request::Print(text) => Ok(Startup::Print(text)),
    }
}

/// The address to ask. Without a port there is nobody to ask.
fn admin(check: CheckArgs) -> Result<SocketAddr, ConfigError> {
    let (origin, text) = check
        .admin
        .unwrap_or((Origin::Flag("--admin".to_owned()), String::new()));
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

/// The values of a command line, each with the name to call it by.
struct Check<'a>(&'a CommandLine);

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

// === impl Check ===

impl Check<'_> {
    /// The value of a flag, if it was given, as `read` understands it.
    fn of<T>(
        &self,
        long: &'static str,
        given: &Option<String>,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = given else {
            return Ok(None);
        };
        self.read(long, text, read).map(Some)
    }

    /// The words of a list flag, or its default.
    fn list<A: Ported + ToString>(
        &self,
        long: &'static str,
        given: &Option<String>,
        default: A,
        read: impl Fn(&str) -> Result<A, Problem>,
    ) -> Result<Spans<A>, ConfigError> {
        let words = match given {
            None => vec![Span::one(&default.to_string(), default)],
            Some(text) => text
                .split(',')
                .map(|word| self.read(long, word, |word| Span::read(word, &read)))
                .collect::<Result<_, _>>()?,
        };
        let origin = self.0.origin(long);
        Ok(Spans { origin, words })
    }

    fn read<T>(
        &self,
        long: &'static str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<T, ConfigError> {
        read(text).map_err(|problem| problem.of(self.0.origin(long), text))
    }

    fn frontends(&self) -> Result<Vec<Frontend<NamedTargets>>, ConfigError> {
        let args = &self.0.args;
        let (v4, v6) = (self.0.origin("target-v4"), self.0.origin("target-v6"));
        frontends::frontends(
            &self.list("listen", &args.listen, DEFAULT_LISTEN, address::listen)?,
            &self.list(
                "target-v4",
                &args.target_v4,
                Target::Addr(DEFAULT_TARGET_V4),
                |text| address::target_v4(text, &v4),
            )?,
            &self.list(
                "target-v6",
                &args.target_v6,
                Target::Addr(DEFAULT_TARGET_V6),
                |text| address::target_v6(text, &v6),
            )?,
        )
    }

    /// A list that is not asked is a misunderstanding, and so is one without a name.
    fn allowed_destinations(&self) -> Result<Option<PathBuf>, ConfigError> {
        let args = &self.0.args;
        let given = &args.allowed_destinations;
        let path = self.of("allowed-destinations", given, values::path)?;
        if path.is_some() && !args.dynamic_destination.unwrap_or(false) {
            return Err(ConfigError::DestinationsNotDynamic {
                list_origin: self.0.origin("allowed-destinations"),
            });
        }
        Ok(path)
    }

    fn access_log_format(&self) -> Result<Option<LogFormat>, ConfigError> {
        let args = &self.0.args;
        let given = &args.access_log_format;
        let format = self.of("access-log-format", given, values::log_format)?;
        if format.is_some() && args.access_log.is_none() {
            return Err(ConfigError::NoAccessLog {
                format_origin: self.0.origin("access-log-format"),
            });
        }
        Ok(format)
    }

    fn source_port(&self) -> Result<SourcePort, ConfigError> {
        let args = &self.0.args;
        let source_port = self.of("source-port", &args.source_port, values::source_port)?;
        match (args.force_real_client_port, source_port) {
            (Some(true), None | Some(SourcePort::Strict)) => Ok(SourcePort::Strict),
            (Some(true), Some(_)) => Err(ConfigError::SourcePortsContradict {
                forced_origin: self.0.origin("force-real-client-port"),
                source_port_origin: self.0.origin("source-port"),
            }),
            (_, source_port) => Ok(source_port.unwrap_or(SourcePort::Client)),
        }
    }

    fn limits(&self) -> Result<LimitSettings, ConfigError> {
        let args = &self.0.args;
        let of = |long, given| Ok(self.of(long, given, values::limit)?.flatten());
        Ok(LimitSettings {
            connections: of("max-connections", &args.max_connections)?,
            connections_per_client: of(
                "max-connections-per-client",
                &args.max_connections_per_client,
            )?,
            new_per_second: of(
                "new-connections-per-second",
                &args.new_connections_per_second,
            )?,
        })
    }

    fn shards(&self) -> Result<Shards, ConfigError> {
        let args = &self.0.args;
        let listeners = self.of("listeners", &args.listeners, values::listeners)?;
        let cpus = self.of("cpus", &args.cpus, values::cpus)?;
        let pinned = !args.no_pin.unwrap_or(false);
        let Some(cpus) = cpus else {
            return Ok(Shards::Count {
                shards: listeners.unwrap_or_else(cpus::default_shards),
                pinned,
            });
        };
        if !pinned {
            return Err(ConfigError::NoPinContradictsCpus {
                no_pin_origin: self.0.origin("no-pin"),
                cpus_origin: self.0.origin("cpus"),
            });
        }
        match listeners {
            Some(listeners) if listeners.get() != cpus.len() => {
                Err(ConfigError::ListenersContradictCpus {
                    listeners_origin: self.0.origin("listeners"),
                    listeners: listeners.get(),
                    cpus_origin: self.0.origin("cpus"),
                    cpus: cpus.len(),
                })
            }
            _ => Ok(Shards::On(cpus)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests;
