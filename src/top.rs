//! `glommproxy top`: what a running proxy does, in a terminal, refreshed in place.
//!
//! It asks the proxy's admin endpoint for its status, again and again, and shows what has changed between two answers.

mod ask;
mod screen;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use self::ask::{AskError, Status};
use crate::args::Quoted;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

const HELP: &str = "\
Usage: glommproxy top [--admin ADDR] [--once]

Shows what a running glommproxy does: its shards, connections, flows, their rates, and what is dropped and
why. The proxy must have been started with --admin.

Options:
  --admin ADDR      the address it was told there (or GLOMMPROXY_ADMIN)
  --once            look for a second, print plain text and exit, as is done where no terminal is
  -h, --help        display usage information

Error codes:
  1 the proxy does not answer, or the command line is wrong
";

/// Why there is nothing to show. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// A word that is not understood.
    #[error("top: {0} is not understood: see glommproxy top --help")]
    Unknown(Quoted),
    /// No address, or none that is one.
    #[error(
        "top: {origin} {value} is no address: want an IP address and port, such as 127.0.0.1:9101"
    )]
    BadAddress {
        /// The flag or variable.
        origin: &'static str,
        /// What it says.
        value: Quoted,
    },
    /// Nobody said where the proxy is.
    #[error(
        "top: where is the proxy? want --admin ADDR, the address it was started with as --admin"
    )]
    NoAddress,
    /// The proxy does not answer.
    #[error("top: {0}")]
    Ask(#[from] AskError),
    /// The text cannot be written.
    #[error("top: cannot write to stdout: {0}")]
    Write(#[from] io::Error),
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Help,
    Watch { admin: SocketAddr, once: bool },
}

/// Shows the proxy until it is interrupted, or once. The arguments are those behind `top`.
///
/// # Errors
///
/// If the arguments are wrong, if the first answer does not come, or if nobody reads.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), TopError> {
    let (admin, once) = match read(args, variable)? {
        Request::Help => return Ok(io::stdout().write_all(HELP.as_bytes())?),
        Request::Watch { admin, once } => (admin, once || !io::stdout().is_terminal()),
    };
    let mut before = (Status::ask(admin)?, Instant::now());
    if once {
        thread::sleep(INTERVAL);
        let now = Status::ask(admin)?;
        let text = screen::text(admin, &before.0, &now, before.1.elapsed());
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    loop {
        thread::sleep(INTERVAL);
        let text = match Status::ask(admin) {
            Ok(now) => {
                let text = screen::text(admin, &before.0, &now, before.1.elapsed());
                before = (now, Instant::now());
                text
            }
            // It may be back soon.
            Err(error) => format!("{error}\n"),
        };
        screen::show(&text)?;
    }
}

fn read(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Request, TopError> {
    let (mut admin, mut once) = (None, false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        // As for the proxy's own flags, one dash is as good as two.
        let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
        match name {
            Some("h" | "help") => return Ok(Request::Help),
            Some("once") => once = true,
            Some("admin") => admin = Some(("--admin", args.next().unwrap_or_default())),
            Some(name) if name.starts_with("admin=") => {
                admin = Some(("--admin", name["admin=".len()..].into()));
            }
            _ => return Err(TopError::Unknown(Quoted(text.into_owned()))),
        }
    }
    let named = || {
        let value = variable("GLOMMPROXY_ADMIN").filter(|value| !value.is_empty())?;
        Some(("GLOMMPROXY_ADMIN", value))
    };
    let (origin, value) = admin.or_else(named).ok_or(TopError::NoAddress)?;
    let value = value.to_string_lossy().into_owned();
    let admin = value.parse().map_err(|_| TopError::BadAddress {
        origin,
        value: Quoted(value),
    })?;
    Ok(Request::Watch { admin, once })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(line: &str, environment: Option<&str>) -> Result<Request, String> {
        let words = line.split_whitespace().map(OsString::from);
        read(words, |_| environment.map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let watch = |addr: &str, once| {
            Ok(Request::Watch {
                admin: addr.parse().expect("an address"),
                once,
            })
        };
        for (line, environment, wanted) in [
            ("--admin 127.0.0.1:1", None, watch("127.0.0.1:1", false)),
            ("-admin=[::1]:1 -once", None, watch("[::1]:1", true)),
            ("--once", Some("127.0.0.1:2"), watch("127.0.0.1:2", true)),
            (
                "--admin=127.0.0.1:1",
                Some("127.0.0.1:2"),
                watch("127.0.0.1:1", false),
            ),
            ("--admin x -h", None, Ok(Request::Help)),
        ] {
            assert_eq!(read_with(line, environment), wanted, "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, environment, wanted) in [
            ("", None, "top: where is the proxy? want --admin"),
            ("", Some(""), "top: where is the proxy? want --admin"),
            ("--admin", None, "top: --admin \"\" is no address"),
            ("--admin x", None, "top: --admin \"x\" is no address"),
            ("", Some("y"), "top: GLOMMPROXY_ADMIN \"y\" is no address"),
            ("--twice", None, "top: \"--twice\" is not understood"),
            ("once", None, "top: \"once\" is not understood"),
        ] {
            let error = read_with(line, environment).expect_err("a mistake");
            assert!(error.starts_with(wanted), "{line}: {error}");
        }
    }
}
