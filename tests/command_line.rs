//! The program itself: what it prints, where, and how it exits.

#![allow(clippy::expect_used)] // A test that cannot go on has failed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

/// The program with nothing of the tester's environment that could stand in for a flag.
fn glommproxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glommproxy"));
    command.env_clear();
    command
}

#[track_caller]
fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Checks that a command is refused: exit code 1, nothing on stdout, one line on stderr. Gives the line.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = output(command);
    let stderr = String::from_utf8(stderr).expect("messages are UTF-8");
    assert_eq!(status.code(), Some(1), "{command:?}: {stderr}");
    assert!(stdout.is_empty(), "{command:?} prints to stdout");
    assert!(
        stderr.ends_with('\n') && stderr.lines().count() == 1,
        "{command:?}: {stderr:?}"
    );
    stderr.trim_end().to_owned()
}

/// Checks that a command only prints. Gives what it prints.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = output(glommproxy().args(args));
    assert_eq!(status.code(), Some(0), "{args:?}");
    assert!(stderr.is_empty(), "{args:?} prints to stderr");
    String::from_utf8(stdout).expect("the text is UTF-8")
}

/// The long names in the help text's list.
fn listed_flags() -> BTreeSet<String> {
    let help = printed(&["--help"]);
    let options = help
        .split("\n\nExamples:")
        .next()
        .expect("split gives one part at least");
    let entries = options.lines().filter(|line| line.starts_with("  -"));
    let names =
        entries.flat_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    names.map(str::to_owned).collect()
}

/// A wrong command line for each flag, and how the message begins.
const BAD: &[(&str, &[&str], &str)] = &[
    (
        "--listen",
        &["-l", "example.com:80"],
        r#"-l "example.com:80" has a host name"#,
    ),
    (
        "--target-v4",
        &["-4", "127.0.0.1"],
        r#"-4 "127.0.0.1" has no port"#,
    ),
    (
        "--target-v6",
        &["--ipv6", "::1:443"],
        r#"--ipv6 "::1:443" has an IPv6 address without brackets"#,
    ),
    ("--protocol", &["-p=icmp"], r#"-p "icmp" is no protocol"#),
    (
        "--allowed-subnets",
        &["--allowed-networks"],
        "--allowed-networks needs a value",
    ),
    (
        "--listen-transparent",
        &["--listen-transparent=ja"],
        r#"--listen-transparent "ja" is neither"#,
    ),
    (
        "--dynamic-destination",
        &["-dynamic-destination=yes"],
        r#"-dynamic-destination "yes" is neither"#,
    ),
    (
        "--allowed-destinations",
        &["--allowed-destinations=x"],
        "--allowed-destinations is for destinations",
    ),
    (
        "--denied-clients",
        &["--denied-clients="],
        r#"--denied-clients "" names no file"#,
    ),
    (
        "--takeover",
        &["--takeover=x"],
        r#"--takeover "x" is neither"#,
    ),
    (
        "--keep-denied",
        &["--keep-denied=x"],
        r#"--keep-denied "x" is neither"#,
    ),
    (
        "--max-connections",
        &["--max-connections", "many"],
        r#"--max-connections "many" is no whole number"#,
    ),
    (
        "--max-connections-per-client",
        &["--max-connections-per-client", "16777217"],
        r#"--max-connections-per-client "16777217" is out of range"#,
    ),
    (
        "--new-connections-per-second",
        &["--new-connections-per-second", "0.5"],
        r#"--new-connections-per-second "0.5" is no whole number"#,
    ),
    (
        "--drain-timeout",
        &["--drain-timeout", "1m"],
        r#"--drain-timeout "1m" is no number of seconds"#,
    ),
    (
        "--idle-timeout",
        &["--idle-timeout", "10m"],
        r#"--idle-timeout "10m" is no number of seconds"#,
    ),
    (
        "--close-after",
        &["-close-after", "1m"],
        r#"-close-after "1m" is no whole number"#,
    ),
    (
        "--listeners",
        &["-listeners", "1025"],
        r#"-listeners "1025" is out of range"#,
    ),
    (
        "--mark",
        &["-mark=4294967296"],
        r#"-mark "4294967296" is out of range"#,
    ),
    ("--verbose", &["-v", "-1"], r#"unknown flag "-1""#),
    (
        "--cpus",
        &["--cpus", "0,0"],
        r#"--cpus "0,0" names CPU 0 twice"#,
    ),
    ("--no-pin", &["--no-pin=2"], r#"--no-pin "2" is neither"#),
    (
        "--no-wildcard-udp",
        &["--no-wildcard-udp=no"],
        r#"--no-wildcard-udp "no" is neither"#,
    ),
    (
        "--header-timeout",
        &["--header-timeout", "0"],
        r#"--header-timeout "0" is out of range"#,
    ),
    (
        "--connect-timeout",
        &["--connect-timeout", "inf"],
        r#"--connect-timeout "inf" is no number"#,
    ),
    (
        "--max-flows",
        &["--max-flows", "0"],
        r#"--max-flows "0" is out of range"#,
    ),
    (
        "--source-port",
        &["--source-port", "25565"],
        r#"--source-port "25565" is no way to choose a port"#,
    ),
    (
        "--force-real-client-port",
        &["-P", "--source-port", "any"],
        "-P contradicts --source-port",
    ),
    (
        "--require-crc32c",
        &["--require-crc32c=yes"],
        r#"--require-crc32c "yes" is neither"#,
    ),
    (
        "--allow-loopback-clients",
        &["--allow-loopback-clients=127.0.0.1"],
        r#"--allow-loopback-clients "127.0.0.1" is neither"#,
    ),
    (
        "--udp-header",
        &["--udp-header", "v1"],
        r#"--udp-header "v1" is no header of UDP"#,
    ),
    (
        "--setup-routes",
        &["--setup-routes=on"],
        r#"--setup-routes "on" is neither"#,
    ),
    (
        "--table",
        &["-t", "255"],
        r#"-t "255" is the kernel's local table"#,
    ),
    (
        "--log-format",
        &["--log-format", "xml"],
        r#"--log-format "xml" is no log format"#,
    ),
    (
        "--access-log",
        &["--access-log="],
        r#"--access-log "" is empty"#,
    ),
    (
        "--access-log-format",
        &["--access-log-format", "json"],
        "--access-log-format is for the access log",
    ),
    (
        "--admin",
        &["--admin", "localhost"],
        r#"--admin "localhost" has no port"#,
    ),
    ("--quiet", &["-q=", "x"], r#"-q "" is neither"#),
    ("--no-sandbox", &["-N=N"], r#"-N "N" is neither"#),
    (
        "--help",
        &["--hepl"],
        r#"unknown flag "--hepl": --help lists the flags"#,
    ),
];

#[test]
fn every_listed_flags_bad_input_is_refused_in_one_line() {
    let tried: BTreeSet<String> = BAD.iter().map(|(flag, ..)| (*flag).to_owned()).collect();
    assert_eq!(
        tried,
        listed_flags(),
        "a flag has no bad input in this test"
    );
    for (_, args, start) in BAD {
        let line = refused(glommproxy().args(*args));
        assert!(line.starts_with(&format!("glommproxy: {start}")), "{line}");
    }
}

#[test]
fn flags_behind_a_word_are_refused() {
    let line = refused(glommproxy().args(["-q", "true", "--allowed-subnets", "list"]));
    assert!(line.contains(r#""true" ends the flags"#), "{line}");
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let line = refused(
        glommproxy()
            .arg("-l")
            .arg(OsStr::from_bytes(b"0.0.0.0:\xff\n")),
    );
    assert!(line.contains("argument 2 is not UTF-8"), "{line}");
}

#[test]
fn the_environment_stands_in_for_flags() {
    let line = refused(glommproxy().env("GLOMMPROXY_TABLE", "0"));
    assert!(
        line.starts_with("glommproxy: GLOMMPROXY_TABLE \"0\" means"),
        "{line}"
    );
    // What is typed wins, so the first thing wrong is the typed one.
    let line = refused(
        glommproxy()
            .env("GLOMMPROXY_TABLE", "0")
            .args(["--table", "main"]),
    );
    assert!(
        line.starts_with("glommproxy: --table \"main\" is no"),
        "{line}"
    );
}

#[test]
fn help_goes_to_stdout() {
    for flag in ["-h", "-help", "--help"] {
        let help = printed(&[flag]);
        assert!(help.starts_with("Usage: glommproxy [flags]\n"), "{help}");
    }
}

#[test]
fn version_goes_to_stdout() {
    for flag in ["-V", "-version", "--version"] {
        assert_eq!(
            printed(&[flag]),
            concat!("glommproxy ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }
}

#[test]
fn subcommands_explain_themselves() {
    for (args, start) in [
        (["check", "--help"], "Usage: glommproxy check [flags]\n"),
        (["check", "-h"], "Usage: glommproxy check [flags]\n"),
        (["demo", "--help"], "Usage: glommproxy demo\n"),
    ] {
        let help = printed(&args);
        assert!(help.starts_with(start), "{help}");
    }
    let help = printed(&["--help"]);
    for subcommand in ["glommproxy check", "glommproxy demo"] {
        assert!(help.contains(subcommand), "{help}");
    }
}

/// To go-mmproxy, and so to us, a word means nothing; but one of ours in a place where it does nothing is a mistake.
#[test]
fn a_subcommand_is_the_first_word_or_none() {
    let line = refused(glommproxy().args(["-p", "icmp", "word"]));
    assert!(line.starts_with("glommproxy: -p \"icmp\""), "{line}");
    let line = refused(glommproxy().args(["-p", "icmp", "check"]));
    let wanted = "glommproxy: check must be the first word";
    assert!(line.starts_with(wanted), "{line}");
    let line = refused(glommproxy().args(["chekc", "-p", "icmp"]));
    assert!(line.contains("\"chekc\" ends the flags"), "{line}");
    let line = refused(glommproxy().args(["chek", "-p", "icmp"]));
    let wanted = "glommproxy: there is no command \"chek\": did you mean check?";
    assert_eq!(line, wanted);
    let line = refused(glommproxy().args(["check", "-p", "icmp"]));
    assert!(line.starts_with("glommproxy: -p \"icmp\""), "{line}");
    let line = refused(glommproxy().args(["-q", "check", "--json"]));
    assert!(line.contains("\"check\" ends the flags"), "{line}");
    let line = refused(glommproxy().arg("--json"));
    assert!(line.contains("unknown flag \"--json\""), "{line}");
}
