//! The command line and the environment: exactly what was asked for, in one spelling.
//!
//! Every command line of go-mmproxy is read as go-mmproxy reads it, and the names its siblings use (Cloudflare's
//! mmproxy, mmproxy-rs) are accepted as well. The way of a flag: `normalise` turns any spelling into one value per long
//! name, the environment fills what was not typed, [`argh`] turns that into [`Args`], and
//! [`Config`](crate::config::Config) says what it means.

mod error;
pub(crate) mod flags;
pub(crate) mod go_syntax;
mod normalise;
mod quoted;
mod subcommand;
mod variables;

pub use error::ArgsError;
pub use quoted::Quoted;
pub use subcommand::{CheckArgs, TopArgs};
pub use variables::{UnknownVariable, unknown_variables};

use argh::FromArgs;
use normalise::{Normalised, Settings};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use subcommand::Subcommand;

/// The flags as they were given, by the command line or the environment: unchecked, `None` where they were not.
///
/// The comments of the fields are the help text.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs)]
#[argh(
    description = "Accepts TCP connections and UDP datagrams that carry a PROXY protocol header\n\
                   and passes them on to the server from the client's own address.\n\
                   A drop-in replacement for go-mmproxy: its flags mean the same here.",
    usage = "[flags]",
    help_triggers("-h", "--help"),
    example = "{command_name} -l 0.0.0.0:25577 -4 127.0.0.1:25565 -6 [::1]:25565 \\\n    \
               --allowed-subnets load-balancers.txt --setup-routes",
    note = "A flag takes one dash or two; its value follows as the next argument or after\n\
            an equals sign; -flag=false switches off. Numbers may be written as in Go:\n\
            0x7b, 1_000. Of a flag given twice the last one counts, except that -l, -4\n\
            and -6 are lists: repeat them, or put commas between the addresses. Ports may\n\
            be ranges: -l 0.0.0.0:2456-2458 -4 127.0.0.1:3456-3458.\n\n\
            What is not on the command line is read from the environment: --target-v4\n\
            from GLOMMPROXY_TARGET_V4, and so on for every flag.\n\n\
            -V, --version prints the version.\n\n\
            glommproxy demo shows how it works. glommproxy check, with the flags you mean\n\
            to run with, looks whether it could work here. glommproxy top shows a running\n\
            proxy. Each must be the first word.\n\n\
            Also understood are --listen-addr, --ipv4 and --ipv6 of mmproxy-rs and\n\
            --allowed-networks and --do-not-sandbox of Cloudflare's mmproxy.",
    error_code(1, "the command line is wrong, or the proxy cannot start")
)]
pub struct Args {
    /// address and port, or range of ports, to listen on; a list (default: 0.0.0.0:8443)
    #[argh(option, short = 'l')]
    pub listen: Option<String>,

    /// where traffic of IPv4 clients goes: the server's IPv4 address or host name, and port, one for all listening
    /// addresses or one for each (default: 127.0.0.1:443)
    #[argh(option, short = '4', long = "target-v4")]
    pub target_v4: Option<String>,

    /// Where traffic of IPv6 clients goes.
    // Not in the comment, where rustdoc would take the address for a link.
    #[argh(
        option,
        short = '6',
        long = "target-v6",
        description = "where traffic of IPv6 clients goes: the server's IPv6 address or host name, and port, as with -4 (default: [::1]:443)"
    )]
    pub target_v6: Option<String>,

    /// what to proxy: tcp, udp or both (default: tcp)
    #[argh(option, short = 'p')]
    pub protocol: Option<String>,

    /// file with the subnets of the load balancers, one a line; others may not connect (default: everybody may)
    #[argh(option, short = 'a')]
    pub allowed_subnets: Option<String>,

    /// let the kernel redirect other addresses and ports to these (TPROXY of nftables or iptables)
    #[argh(option)]
    pub listen_transparent: Option<bool>,

    /// connect clients to the address and port that their PROXY header names as the destination
    #[argh(option)]
    pub dynamic_destination: Option<bool>,

    /// file with the subnets these destinations may be in, one a line (default: this host's own addresses)
    #[argh(option)]
    pub allowed_destinations: Option<String>,
    /// file with the subnets of clients that are turned away, one a line (default: nobody is)
    #[argh(option)]
    pub denied_clients: Option<String>,

    /// when that file changes, leave open connections of clients it names alone
    #[argh(option)]
    pub keep_denied: Option<bool>,

    /// most TCP connections open at once; further ones wait, 0 for no limit (default: 0)
    #[argh(option)]
    pub max_connections: Option<String>,

    /// most TCP connections, and UDP flows, of one client at once, 0 for no limit (default: 0)
    #[argh(option)]
    pub max_connections_per_client: Option<String>,

    /// most TCP connections, and UDP flows, one client may begin in a second, 0 for no limit (default: 0)
    #[argh(option)]
    pub new_connections_per_second: Option<String>,

    /// seconds without a byte after which a TCP connection is reset, 0 for never (default: 0)
    #[argh(option)]
    pub idle_timeout: Option<String>,

    /// seconds without a datagram after which the socket of a UDP client is closed (default: 60)
    #[argh(option, short = 'c')]
    pub close_after: Option<String>,

    /// most UDP clients served at once, one socket each (default: 16384)
    #[argh(option)]
    pub max_flows: Option<String>,

    /// header of UDP datagrams: v2 on each, v2-first on the first of a session only, spp (Simple Proxy Protocol) on each
    /// (default: v2)
    #[argh(option)]
    pub udp_header: Option<String>,

    /// seconds, such as 5 or 0.5, a TCP connection may take to send its PROXY header (default: 5)
    #[argh(option)]
    pub header_timeout: Option<String>,

    /// seconds, such as 5 or 0.5, the server may take to accept a TCP connection (default: 5)
    #[argh(option)]
    pub connect_timeout: Option<String>,

    /// seconds that open connections and UDP flows may take to end after SIGTERM or SIGINT, 0 to end them at once (default: 25)
    #[argh(option)]
    pub drain_timeout: Option<String>,

    /// take the listening sockets over from a glommproxy of the same user that has them, and let it drain
    #[argh(option)]
    pub takeover: Option<bool>,

    /// number of listeners, each a thread with sockets of its own (default: one per CPU this process may use)
    #[argh(option)]
    pub listeners: Option<String>,

    /// CPUs to run on, one listener each, such as 0,2-3 (default: chosen among those this process may use)
    #[argh(option)]
    pub cpus: Option<String>,

    /// do not pin the listeners' threads to CPUs
    #[argh(option)]
    pub no_pin: Option<bool>,

    /// firewall mark set on packets to the server, 0 for none (default: 0)
    #[argh(option, short = 'm')]
    pub mark: Option<String>,

    /// port the server sees a client at: client (its own, another one if that is taken), strict (its own or none) or any (default: client)
    #[argh(option)]
    pub source_port: Option<String>,

    /// the same as --source-port strict, as Cloudflare's mmproxy calls it
    #[argh(option, short = 'P')]
    pub force_real_client_port: Option<bool>,

    /// refuse PROXY headers without a checksum, such as all of version 1
    #[argh(option)]
    pub require_crc32c: Option<bool>,

    /// believe a load balancer on another host that its client is on this one (127.0.0.1): see the README first
    #[argh(option)]
    pub allow_loopback_clients: Option<bool>,

    /// install the routes that bring the server's answers back, and remove them at exit
    #[argh(option)]
    pub setup_routes: Option<bool>,

    /// do not install the route for UDP servers bound to all addresses
    #[argh(option)]
    pub no_wildcard_udp: Option<bool>,

    /// number of the routing table these routes are in (default: 123)
    #[argh(option, short = 't')]
    pub table: Option<String>,

    /// do not check the routes at start-up
    #[argh(option, short = 'q')]
    pub quiet: Option<bool>,

    /// log of single connections, 0: nothing, 1: errors, 2: all they do (default: 0; 2 if no number follows)
    #[argh(option, short = 'v')]
    pub verbose: Option<String>,

    /// text or json (default: text on a terminal, json elsewhere)
    #[argh(option)]
    pub log_format: Option<String>,

    /// address and port to serve metrics, health and status at, over HTTP (default: they are not served)
    #[argh(option)]
    pub admin: Option<String>,

    /// file with a line for each connection and flow that has ended, - for stdout (default: there is none)
    #[argh(option)]
    pub access_log: Option<String>,

    /// form of these lines, text or json (default: that of the log)
    #[argh(option)]
    pub access_log_format: Option<String>,

    /// keep the capabilities, files and system calls that are not needed once it runs
    #[argh(option, short = 'N')]
    pub no_sandbox: Option<bool>,
}

/// Where a setting came from; messages name it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, as it was typed (`-4`, `--ipv4`).
    Flag(String),
    /// An environment variable, by its name.
    Variable(String),
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The values, unchecked. A switch is `None` if it was not given, and `Some(false)` if it was given as `=false`.
    pub args: Args,
    /// By long name, where each given value came from.
    origins: BTreeMap<&'static str, Origin>,
    /// The words that are no flags, which go-mmproxy ignores.
    pub ignored: Vec<String>,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To run the proxy.
    Run(Box<CommandLine>),
    /// To look whether the proxy could run so.
    Check(Box<CommandLine>, CheckArgs),
    /// To show how it works.
    Demo,
    /// To show what a running proxy does.
    Top(TopArgs),
    /// To print this text to stdout and exit with success.
    Print(String),
}

/// What `--version` prints.
const VERSION_TEXT: &str = concat!("glommproxy ", env!("CARGO_PKG_VERSION"), "\n");

/// Reads the arguments behind the program's name, and the environment through `variable`.
///
/// What was typed wins over the environment; of a flag typed twice the last one counts, or all of a list's; an empty
/// variable counts as unset. `--help` and `--version` count wherever they stand, unless something before them cannot be read.
///
/// # Errors
///
/// See [`ArgsError`]. Values are checked by [`Config`](crate::config::Config), except those of switches.
pub fn read(
    argv: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Request, ArgsError> {
    let mut words = normalise::words(argv)?.into_iter().peekable();
    if let Some(subcommand) = words.peek().and_then(|word| Subcommand::named(word)) {
        return subcommand.read(words.skip(1), variable);
    }
    match words.peek().map(String::as_str) {
        Some("help") => return Ok(Request::Print(help_text())),
        Some("version") => return Ok(Request::Print(VERSION_TEXT.to_owned())),
        Some(word) if !word.starts_with('-') => Subcommand::refuse_misspelt(word)?,
        _ => {}
    }
    let mut settings = match normalise::arguments(words, &[])? {
        Normalised::Run(settings) => settings,
        Normalised::Help => return Ok(Request::Print(help_text())),
        Normalised::Version => return Ok(Request::Print(VERSION_TEXT.to_owned())),
    };
    Subcommand::refuse_misplaced(&settings.ignored)?;
    normalise::environment(&mut settings, &[], variable)?;
    CommandLine::try_from(settings).map(|line| Request::Run(Box::new(line)))
}

/// The help text, made by argh from the comments of [`Args`].
fn help_text() -> String {
    // Asked for help, argh always leaves early with the text.
    let text = Args::from_args(&["glommproxy"], &["--help"])
        .err()
        .map(|exit| exit.output)
        .unwrap_or_default();
    // argh indents empty lines too.
    text.lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect()
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
        }
    }
}

// === impl CommandLine ===

impl CommandLine {
    /// How to call the flag of this long name in a message: as it was typed, else by its variable, else by the name
    /// the help text gives it.
    pub fn origin(&self, long: &'static str) -> Origin {
        self.origins
            .get(long)
            .cloned()
            .unwrap_or_else(|| Origin::Flag(format!("--{long}")))
    }
}

impl TryFrom<Settings> for CommandLine {
    type Error = ArgsError;

    fn try_from(settings: Settings) -> Result<Self, ArgsError> {
        let mut tokens = Vec::new();
        for (long, (_, value)) in &settings.given {
            tokens.push(format!("--{long}"));
            tokens.push(value.clone());
        }
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let args = Args::from_args(&["glommproxy"], &tokens)
            .map_err(|exit| ArgsError::Refused(Quoted(exit.output.trim_end().to_owned())))?;
        let origins = settings
            .given
            .into_iter()
            .map(|(long, (origin, _))| (long, origin))
            .collect();
        Ok(Self {
            args,
            origins,
            ignored: settings.ignored,
        })
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A test that cannot go on has failed.
mod tests;
