//! Subcommands: words that mean something as the first argument, and only there.
//!
//! The proxy itself has none: to it, as to go-mmproxy, a word that is no flag means nothing.

use super::flags::{Flag, distance};
use super::normalise::{self, Normalised, Settings};
use super::{ArgsError, CommandLine, Origin, Quoted, Request, VERSION_TEXT};
use std::ffi::OsString;

/// What the program can do beside proxying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subcommand {
    /// Look whether the proxy could work here.
    Check,
    /// Show how it works, in a network of its own.
    Demo,
    /// Show what a running proxy does.
    Top,
}

/// What `check` was told beside the proxy's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckArgs {
    /// Whether to print JSON (`--json`).
    pub json: bool,
    /// Whether to ask the running proxy instead (`--live`).
    pub live: bool,
    /// The admin address to ask (`--admin`), unchecked, and where it came from.
    pub admin: Option<(Origin, String)>,
}

/// What `top` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopArgs {
    /// The admin address of the proxy (`--admin`), unchecked, and where it came from.
    pub admin: (Origin, String),
    /// Whether to look once (`--once`).
    pub once: bool,
}

/// The flags that `check` has beside the proxy's own.
pub(super) const CHECK_FLAGS: &[Flag] = &[Flag::switch("json", &[]), Flag::switch("live", &[])];

const CHECK_HELP: &str = "\
Usage: glommproxy check [flags]

Looks whether glommproxy could work on this host with these flags: the same flags (and the same user,
capabilities and container) as you mean to run it with. Prints a line for each thing it needs:

  OK    it is there
  FAIL  it is not: the proxy would not start, or nothing would reach the server; how to mend it stands behind
  WARN  worth a look, but the proxy runs
  SKIP  not looked at, and why

It looks up the server's name, if it has one, connects to the server, plainly and from a client's address
(203.0.113.1 and 2001:db8::1, or others that nobody has), and sends it an empty UDP datagram. It listens
nowhere and leaves nothing behind: what --setup-routes would set up is set up for these two addresses only, for
as long as the check runs.

Options:
  --json            print one JSON object instead of lines
  --live            ask the running proxy instead whether it is ready, as a health check does: nothing is
                    printed and the exit code is 0 if it is, otherwise a line says why not
  --admin ADDR      the address to ask with --live (or GLOMMPROXY_ADMIN)
  -h, --help        display usage information

The flags of the proxy itself are listed by glommproxy --help.

Error codes:
  1 something failed, or the command line is wrong
";

const DEMO_HELP: &str = "\
Usage: glommproxy demo

Shows what glommproxy does, in a network namespace of its own: a server, glommproxy in front of it, and
balancers that send PROXY headers. Nothing of it is to be seen outside, and nothing is left behind. Needs no
root where the kernel lets ordinary users have user namespaces, and works as root elsewhere.

Options:
  -h, --help        display usage information

Error codes:
  1 the server did not see what the clients said, or the namespace cannot be had
";

/// Where `top` looks for a proxy unless it is told: where README's examples and the image have it.
const ADMIN_USUAL: &str = "127.0.0.1:9101";

const TOP_HELP: &str = "\
Usage: glommproxy top [--admin ADDR] [--once]

Shows what a running glommproxy does: its shards, connections, flows, their rates, what is dropped and why,
and the busiest clients, until q is pressed. The proxy must have been started with --admin.

Options:
  --admin ADDR      the address it was told there (or GLOMMPROXY_ADMIN; otherwise 127.0.0.1:9101)
  --once            look for a second, print plain text and exit, as is done where no terminal is
  -h, --help        display usage information

Error codes:
  1 the proxy does not answer, or the command line is wrong
";

// === impl Subcommand ===

impl Subcommand {
    /// The subcommand of this name.
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "check" => Some(Self::Check),
            "demo" => Some(Self::Demo),
            "top" => Some(Self::Top),
            _ => None,
        }
    }

    /// The name that a word is nearly, if there is one.
    fn nearest(word: &str) -> Option<&'static str> {
        let word = word.to_ascii_lowercase();
        let mut names = ["check", "demo", "top", "help", "version"].into_iter();
        names.find(|name| distance(&word, name) <= 1)
    }

    /// Refuses a first word that was nearly meant for a subcommand: without it, a proxy would run that nobody wants.
    pub(super) fn refuse_misspelt(first: &str) -> Result<(), ArgsError> {
        match Self::nearest(first) {
            Some(meant) => Err(ArgsError::NoSubcommand {
                word: Quoted(first.to_owned()),
                meant,
            }),
            None => Ok(()),
        }
    }

    /// Refuses subcommands among the words behind the flags, as above.
    pub(super) fn refuse_misplaced(words: &[String]) -> Result<(), ArgsError> {
        match words.iter().find(|word| Self::named(word).is_some()) {
            Some(word) => Err(ArgsError::SubcommandNotFirst { word: word.clone() }),
            None => Ok(()),
        }
    }

    /// Reads what follows its name.
    pub(super) fn read(
        self,
        words: impl Iterator<Item = String>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Request, ArgsError> {
        match self {
            Self::Check => check(words, variable),
            Self::Demo => demo(words),
            Self::Top => top(words, variable),
        }
    }
}

fn check(
    words: impl Iterator<Item = String>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Request, ArgsError> {
    let mut settings = match normalise::arguments(words, CHECK_FLAGS)? {
        Normalised::Run(settings) => settings,
        Normalised::Help => return Ok(Request::Print(CHECK_HELP.to_owned())),
        Normalised::Version => return Ok(Request::Print(VERSION_TEXT.to_owned())),
    };
    normalise::environment(&mut settings, CHECK_FLAGS, variable)?;
    let check = CheckArgs::take(&mut settings)?;
    let line = CommandLine::try_from(settings)?;
    Ok(Request::Check(Box::new(line), check))
}

fn demo(mut words: impl Iterator<Item = String>) -> Result<Request, ArgsError> {
    match words.next() {
        None => Ok(Request::Demo),
        Some(word) if ["-h", "-help", "--help"].contains(&word.as_str()) => {
            Ok(Request::Print(DEMO_HELP.to_owned()))
        }
        Some(word) => Err(ArgsError::DemoArgument {
            argument: Quoted(word),
        }),
    }
}

/// `top` has none of the proxy's flags but one.
fn top(
    mut words: impl Iterator<Item = String>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Request, ArgsError> {
    let (mut admin, mut once) = (None, false);
    while let Some(word) = words.next() {
        // As for the proxy's own flags, one dash is as good as two.
        match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
            Some("h" | "help") => return Ok(Request::Print(TOP_HELP.to_owned())),
            Some("once") => once = true,
            Some("admin") => admin = Some((word.clone(), words.next().unwrap_or_default())),
            Some(flag) if flag.starts_with("admin=") => {
                admin = word
                    .split_once('=')
                    .map(|(flag, value)| (flag.to_owned(), value.to_owned()));
            }
            _ => {
                let argument = Quoted(word);
                return Err(ArgsError::TopArgument { argument });
            }
        }
    }
    let named = || {
        const NAME: &str = "GLOMMPROXY_ADMIN";
        let value = variable(NAME).filter(|value| !value.is_empty())?;
        let value = value.to_string_lossy().into_owned();
        Some((Origin::Variable(NAME.to_owned()), value))
    };
    let admin = admin.map(|(flag, value)| (Origin::Flag(flag), value));
    let usual = || (Origin::Flag("--admin".to_owned()), ADMIN_USUAL.to_owned());
    let admin = admin.or_else(named).unwrap_or_else(usual);
    Ok(Request::Top(TopArgs { admin, once }))
}

// === impl CheckArgs ===

impl CheckArgs {
    /// Takes the values of `check`'s own flags out of the settings, and leaves the proxy's.
    fn take(settings: &mut Settings) -> Result<Self, ArgsError> {
        // The proxy's own flag, too.
        let admin = settings.given.get("admin").cloned();
        let mut take = |long| settings.given.remove(long);
        let (json, live) = (take("json"), take("live"));
        let on = |given: &Option<(Origin, String)>| {
            given.as_ref().is_some_and(|(_, value)| value == "true")
        };
        let check = Self {
            json: on(&json),
            live: on(&live),
            admin,
        };
        match (json, live) {
            (Some((json, _)), Some((live, _))) if check.json && check.live => {
                Err(ArgsError::JsonOfLive { json, live })
            }
            (_, Some((origin, _))) if check.live && check.admin.is_none() => {
                Err(ArgsError::AdminMissing { origin })
            }
            _ => Ok(check),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Request, ArgsError> {
        super::super::read(line.split_whitespace().map(OsString::from), variable)
    }

    fn read_check(line: &str) -> (CommandLine, CheckArgs) {
        match read(line, |_| None) {
            Ok(Request::Check(line, check)) => (*line, check),
            other => panic!("{line} gives {other:?}"),
        }
    }

    #[test]
    fn a_subcommand_is_one_as_the_first_word_only() {
        for line in ["-q check", "word check", "-- demo", "-l 0.0.0.0:1 top"] {
            let request = read(line, |_| None);
            let refused = matches!(request, Err(ArgsError::SubcommandNotFirst { .. }));
            assert!(refused, "{line}: {request:?}");
        }
        for (line, wanted) in [
            ("chek", "check"),
            ("checks -l", "check"),
            ("Demo", "demo"),
            ("versions", "version"),
        ] {
            let request = read(line, |_| None);
            let refused =
                matches!(request, Err(ArgsError::NoSubcommand { meant, .. }) if meant == wanted);
            assert!(refused, "{line}: {request:?}");
        }
        for line in ["", "serve", "-q word", "-q checks"] {
            let request = read(line, |_| None);
            assert!(matches!(request, Ok(Request::Run(_))), "{line}");
        }
        assert_eq!(read("demo", |_| None), Ok(Request::Demo));
    }

    #[test]
    fn check_takes_the_flags_of_the_proxy_and_its_own_in_any_order() {
        let (line, check) = read_check("check -l 0.0.0.0:1 --json -m=5 word");
        assert_eq!(line.args.listen.as_deref(), Some("0.0.0.0:1"));
        assert_eq!(line.args.mark.as_deref(), Some("5"));
        assert_eq!(line.ignored, ["word"]);
        assert!(check.json && !check.live);
        let (_, check) = read_check("check --admin 127.0.0.1:9 --live");
        let admin = (Origin::Flag("--admin".to_owned()), "127.0.0.1:9".to_owned());
        assert_eq!(check.admin, Some(admin));
        assert!(check.live);
    }

    #[test]
    fn top_is_told_where_the_proxy_is_by_flag_or_else_by_the_environment() {
        let top = |origin: Origin, addr: &str, once| {
            let admin = (origin, addr.to_owned());
            Ok(Request::Top(TopArgs { admin, once }))
        };
        let flag = |name: &str| Origin::Flag(name.to_owned());
        let named = Origin::Variable("GLOMMPROXY_ADMIN".to_owned());
        for (line, environment, wanted) in [
            (
                "top --admin 127.0.0.1:1",
                None,
                top(flag("--admin"), "127.0.0.1:1", false),
            ),
            (
                "top -admin=[::1]:1 -once",
                None,
                top(flag("-admin"), "[::1]:1", true),
            ),
            (
                "top --once",
                Some("127.0.0.1:2"),
                top(named, "127.0.0.1:2", true),
            ),
            (
                "top --admin x",
                Some("127.0.0.1:2"),
                top(flag("--admin"), "x", false),
            ),
            ("top", Some(""), top(flag("--admin"), ADMIN_USUAL, false)),
            ("top", None, top(flag("--admin"), ADMIN_USUAL, false)),
            (
                "top --admin x -h",
                None,
                Ok(Request::Print(TOP_HELP.to_owned())),
            ),
        ] {
            let variable = |name: &str| {
                assert_eq!(name, "GLOMMPROXY_ADMIN");
                environment.map(OsString::from)
            };
            assert_eq!(read(line, variable), wanted, "{line}");
        }
    }

    #[test]
    fn the_environment_names_the_admin_address() {
        let variable = |name: &str| (name == "GLOMMPROXY_ADMIN").then(|| "[::1]:9".into());
        let Ok(Request::Check(_, check)) = read("check -live", variable) else {
            panic!("it is right");
        };
        let admin = Origin::Variable("GLOMMPROXY_ADMIN".to_owned());
        assert_eq!(check.admin, Some((admin, "[::1]:9".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, wanted) in [
            ("check --live", "--live asks the admin address"),
            ("check --json --live --admin x", "--json contradicts --live"),
            (
                "check --admin --json",
                "--admin needs a value, but the flag",
            ),
            ("check --jsn", "unknown flag \"--jsn\""),
            ("check word -q", "\"word\" ends the flags"),
            (
                "top --twice",
                "top: \"--twice\" is not understood: see glommproxy top",
            ),
            ("top once", "top: \"once\" is not understood"),
            ("demo -l x", "demo takes no arguments: remove \"-l\""),
            ("-q --json", "unknown flag \"--json\""),
        ] {
            let error = read(line, |_| None).expect_err(line).to_string();
            assert!(error.starts_with(wanted), "{line}: {error}");
        }
    }
}
