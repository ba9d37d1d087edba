//! The command line of the benches.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use argh::FromArgs;

use super::Result;

/// The most rounds, and the longest a measurement may take: more is a slip of the hand.
const ROUNDS_MAX: u32 = 1000;
const SECONDS_MAX: f64 = 600.0;
/// Shorter than this, a measurement says nothing.
const SECONDS_MIN: f64 = 0.1;

/// Measures the whole path through a proxy, in a network namespace of its own: glommproxy, no proxy, and any peer.
#[derive(Debug, FromArgs)]
pub(crate) struct Args {
    /// a peer: NAME='command with {listen} and {target}', run by sh; {target6} is the IPv6 target, {allowed} becomes
    /// `--allowed-subnets FILE` where a workload has a list (a peer without it sits those out). Repeatable
    #[argh(option)]
    pub(crate) peer: Vec<Peer>,

    /// a variant of glommproxy beside the plain one, as its further arguments, such as '--no-pin'. Repeatable
    #[argh(option)]
    pub(crate) glommproxy: Vec<String>,

    /// how often everybody is measured with each workload (5)
    #[argh(option, default = "5")]
    pub(crate) rounds: u32,

    /// how long one measurement takes, without its warm-up (3)
    #[argh(option, default = "3.0")]
    pub(crate) seconds: f64,

    /// the version of the PROXY header: v1 or v2 (v2)
    #[argh(option, default = "HeaderVersion::V2")]
    pub(crate) header: HeaderVersion,

    /// only these workloads, with commas between them
    #[argh(option)]
    pub(crate) only: Option<String>,

    /// a folder to write the results to, as Markdown, JSON and SVG
    #[argh(option)]
    pub(crate) out: Option<PathBuf>,

    /// check that messages arrive, once and quickly, without a word about speed
    #[argh(switch)]
    pub(crate) quick: bool,

    /// list the workloads
    #[argh(switch)]
    pub(crate) list: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// To measure.
    Run(Args),
    /// To print this.
    Print(String),
}

/// The version of the PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderVersion {
    V1,
    V2,
}

/// Another proxy to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) command: String,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
///
/// One line that names the argument and says what would be right.
pub(crate) fn parse(bench: &str, args: impl Iterator<Item = String>) -> Result<Command> {
    // Cargo adds this one for every bench.
    let args: Vec<String> = args.filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match Args::from_args(&[bench], &args) {
        Ok(args) => args.checked().map(Command::Run),
        Err(exit) if exit.status.is_ok() => Ok(Command::Print(exit.output)),
        Err(exit) => {
            let words: Vec<&str> = exit.output.split_whitespace().collect();
            let line = words.join(" ");
            let line = line.split(" Run ").next().unwrap_or_default();
            Err(format!("{line}; see --help").into())
        }
    }
}

/// How these arguments are typed for a bench, to measure the same again.
pub(crate) fn typed(bench: &str, args: impl Iterator<Item = String>) -> String {
    let args = args.filter(|arg| arg != "--bench").map(|arg| quoted(&arg));
    let words = ["cargo", "bench", "--bench", bench, "--"].map(str::to_owned);
    words.into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

// === impl Args ===

impl Args {
    fn checked(self) -> Result<Self> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return Err(format!("--rounds {}: write 1 to {ROUNDS_MAX}", self.rounds).into());
        }
        if !(SECONDS_MIN..=SECONDS_MAX).contains(&self.seconds) {
            let seconds = self.seconds;
            return Err(
                format!("--seconds {seconds}: write {SECONDS_MIN} to {SECONDS_MAX}").into(),
            );
        }
        let mut names: Vec<&str> = self.peer.iter().map(|peer| peer.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("--peer {}: a second peer of this name", twice[0]).into());
        }
        Ok(self)
    }

    /// How long one measurement takes.
    pub(crate) fn measured(&self) -> Duration {
        if self.quick {
            return Duration::from_millis(200);
        }
        Duration::from_secs_f64(self.seconds)
    }

    /// How often everybody is measured.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

// === impl HeaderVersion ===

impl FromStr for HeaderVersion {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(format!("{text} is no header: write v1 or v2")),
        }
    }
}

// === impl Peer ===

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| format!("{text} has no name: write NAME='command'"))?;
        for part in ["{listen}", "{target}"] {
            if !command.contains(part) {
                return Err(format!("the command of {name} lacks {part}"));
            }
        }
        Ok(Self {
            name: name.trim().to_owned(),
            command: command.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Args> {
        let args = args.iter().map(|&arg| arg.to_owned());
        match parse("relay", args)? {
            Command::Run(args) => Ok(args),
            Command::Print(text) => Err(text.into()),
        }
    }

    #[test]
    fn what_cargo_adds_means_nothing() -> Result {
        let args = read(&["--bench"])?;
        assert_eq!((args.rounds, args.seconds), (5, 3.0));
        assert_eq!(args.header, HeaderVersion::V2);
        Ok(())
    }

    #[test]
    fn peers_and_variants_are_repeatable() -> Result {
        let args = read(&[
            "--peer",
            "go=env A=b go-mmproxy -l {listen} -4 {target}",
            "--peer",
            "other=./other.sh {listen} {target}",
            "--glommproxy",
            "--no-pin",
            "--bench",
        ])?;
        assert_eq!(args.peer[0].name, "go");
        assert_eq!(
            args.peer[0].command,
            "env A=b go-mmproxy -l {listen} -4 {target}"
        );
        assert_eq!(args.peer[1].name, "other");
        assert_eq!(args.glommproxy, ["--no-pin"]);
        Ok(())
    }

    #[test]
    fn bad_arguments_are_told_in_one_line() {
        for (args, wanted) in [
            (&["--nonsense"][..], "--nonsense"),
            (&["--rounds", "0"], "--rounds 0: write 1 to 1000"),
            (&["--rounds", "many"], "--rounds"),
            (&["--seconds", "0.01"], "--seconds 0.01: write 0.1 to 600"),
            (&["--seconds", "NaN"], "--seconds NaN"),
            (&["--header", "v3"], "write v1 or v2"),
            (&["--peer", "x"], "write NAME='command'"),
            (&["--peer", "=x {listen} {target}"], "write NAME='command'"),
            (&["--peer", "x=y {listen}"], "lacks {target}"),
            (
                &[
                    "--peer",
                    "x=y {listen}{target}",
                    "--peer",
                    "x=z {listen}{target}",
                ],
                "--peer x: a second",
            ),
        ] {
            let said = read(args).map_err(|e| e.to_string());
            let Err(said) = said else {
                panic!("{args:?} is taken")
            };
            assert!(said.contains(wanted), "{args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn what_was_typed_can_be_typed_again() {
        let args = ["--rounds", "3", "--peer", "x=it's {listen}", "--bench", ""];
        let args = args.map(str::to_owned).into_iter();
        assert_eq!(
            typed("relay", args),
            r"cargo bench --bench relay -- --rounds 3 --peer 'x=it'\''s {listen}' ''"
        );
    }

    #[test]
    fn help_is_printed() -> Result {
        let Command::Print(text) = parse("relay", ["--help".to_owned()].into_iter())? else {
            return Err("it runs".into());
        };
        assert!(text.contains("--peer"), "{text}");
        Ok(())
    }
}
