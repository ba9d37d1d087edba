//! The rules of Go's flags, the environment, the messages, the help text.

mod spellings;

use super::*;
use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// Reads a command line in an empty environment.
fn typed(line: &[&str]) -> Result<Request, ArgsError> {
    read(words(line), |_| None)
}

/// Reads a command line that is right and asks to run.
#[track_caller]
fn run_with(line: &[&str], environment: &[(&str, &str)]) -> CommandLine {
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    match read(words(line), |name| {
        environment.get(name).map(OsString::from)
    }) {
        Ok(Request::Run(line)) => *line,
        other => panic!("{line:?} gives {other:?}"),
    }
}

#[track_caller]
fn run(line: &[&str]) -> CommandLine {
    run_with(line, &[])
}

/// As [`run`], for words without spaces in them.
#[track_caller]
fn run_text(line: &str) -> CommandLine {
    run(&line.split_whitespace().collect::<Vec<_>>())
}

#[track_caller]
fn message(line: &[&str]) -> String {
    typed(line).expect_err("is wrong").to_string()
}

#[test]
fn what_is_typed_wins_over_the_environment() {
    let environment = [
        ("GLOMMPROXY_MARK", "1"),
        ("GLOMMPROXY_QUIET", "true"),
        ("GLOMMPROXY_TABLE", "7"),
    ];
    let line = run_with(&["-mark", "2", "-q=false"], &environment);
    let args = &line.args;
    assert_eq!(
        (args.mark.as_deref(), args.quiet, args.table.as_deref()),
        (Some("2"), Some(false), Some("7"))
    );
    assert_eq!(line.origin("mark").to_string(), "-mark");
    assert_eq!(line.origin("table").to_string(), "GLOMMPROXY_TABLE");
    assert_eq!(line.origin("listen").to_string(), "--listen");
    // An empty value is typed all the same.
    let line = run_with(
        &["-allowed-subnets="],
        &[("GLOMMPROXY_ALLOWED_SUBNETS", "list")],
    );
    assert_eq!(line.args.allowed_subnets.as_deref(), Some(""));
}

#[test]
fn the_environment_is_checked_too() {
    let error = read([], |name| {
        (name == "GLOMMPROXY_NO_PIN").then(|| "maybe".into())
    });
    let message = error.expect_err("neither true nor false").to_string();
    assert_eq!(
        message,
        "GLOMMPROXY_NO_PIN \"maybe\" is neither true nor false"
    );
    let error = read([], |name| {
        (name == "GLOMMPROXY_LISTEN").then(|| OsString::from_vec(vec![b'a', 0xff]))
    });
    let message = error.expect_err("not UTF-8").to_string();
    assert_eq!(
        message,
        "GLOMMPROXY_LISTEN is not UTF-8: \"a\u{fffd}\": write it in ASCII or UTF-8"
    );
}

#[test]
fn the_last_of_two_counts() {
    let line = run(&["-m", "5", "--mark=6", "--quiet", "-q=0", "-mark", "7"]);
    assert_eq!(
        (line.args.mark.as_deref(), line.args.quiet),
        (Some("7"), Some(false))
    );
    assert_eq!(line.origin("mark").to_string(), "-mark");
}

#[test]
fn all_of_a_list_count() {
    let environment = [("GLOMMPROXY_LISTEN", "x"), ("GLOMMPROXY_TARGET_V4", "y,z")];
    let line = run_with(
        &["-l", "a", "--listen-addr=b,c", "--listen", "d"],
        &environment,
    );
    assert_eq!(line.args.listen.as_deref(), Some("a,b,c,d"));
    assert_eq!(line.args.target_v4.as_deref(), Some("y,z"));
    assert_eq!(line.origin("listen").to_string(), "--listen");
}

#[test]
fn verbose_without_a_number() {
    let cases: &[(&[&str], &str)] = &[
        // go-mmproxy.
        (&["-v", "1"], "1"),
        (&["-v=0"], "0"),
        (&["-v", "+1"], "+1"),
        (&["-v", "1", "-v", "0"], "0"),
        // Cloudflare's mmproxy: the flag behind is a flag, though -4 and -6 could be numbers.
        (&["--verbose"], "2"),
        (&["-v"], "2"),
        (&["-v", "-4", "127.0.0.1:443"], "2"),
        (&["-v", "-6", "[::1]:443"], "2"),
        (&["--verbose", "-l", "[::]:8080"], "2"),
        (&["-q", "-v", "--quiet"], "2"),
        (&["-v", "--"], "2"),
        // A word that is no flag is a value, though a wrong one.
        (&["-v", "-"], "-"),
        (&["-v", "much"], "much"),
        (&["-v="], ""),
    ];
    for (line, want) in cases {
        let line = run(line);
        assert_eq!(line.args.verbose.as_deref(), Some(*want), "{line:?}");
    }
    assert_eq!(
        run(&["-v", "-4", "127.0.0.1:443"])
            .args
            .target_v4
            .as_deref(),
        Some("127.0.0.1:443")
    );
}

#[test]
fn command_lines_of_the_siblings() {
    let line = run_text(
        "-l 0.0.0.0:25577 -4 127.0.0.1:25578 -6 [::1]:25578 -p udp -v 2 -allowed-subnets \
         ./path-prefixes.txt -mark 123 -listeners=4 --close-after 30",
    );
    let want = Args {
        listen: Some("0.0.0.0:25577".into()),
        target_v4: Some("127.0.0.1:25578".into()),
        target_v6: Some("[::1]:25578".into()),
        protocol: Some("udp".into()),
        verbose: Some("2".into()),
        allowed_subnets: Some("./path-prefixes.txt".into()),
        mark: Some("123".into()),
        listeners: Some("4".into()),
        close_after: Some("30".into()),
        ..Args::default()
    };
    assert_eq!(line.args, want, "go-mmproxy");

    let line = run_text(
        "--allowed-networks networks.txt -l 0.0.0.0:2222 -4 127.0.0.1:22 -6 [::1]:22 --mark 123 \
         --table 100 --quiet --do-not-sandbox --force-real-client-port --verbose",
    );
    let want = Args {
        allowed_subnets: Some("networks.txt".into()),
        listen: Some("0.0.0.0:2222".into()),
        target_v4: Some("127.0.0.1:22".into()),
        target_v6: Some("[::1]:22".into()),
        mark: Some("123".into()),
        table: Some("100".into()),
        quiet: Some(true),
        no_sandbox: Some(true),
        force_real_client_port: Some(true),
        verbose: Some("2".into()),
        ..Args::default()
    };
    assert_eq!(line.args, want, "Cloudflare's mmproxy");

    let line = run_text(
        "--ipv4 127.0.0.1:25565 --ipv6 [::1]:25565 -a subnets.txt -c 10 --listen-addr \
         0.0.0.0:25577 --listeners 2 -p TCP -m 7",
    );
    let want = Args {
        target_v4: Some("127.0.0.1:25565".into()),
        target_v6: Some("[::1]:25565".into()),
        allowed_subnets: Some("subnets.txt".into()),
        close_after: Some("10".into()),
        listen: Some("0.0.0.0:25577".into()),
        listeners: Some("2".into()),
        protocol: Some("TCP".into()),
        mark: Some("7".into()),
        ..Args::default()
    };
    assert_eq!(line.args, want, "mmproxy-rs");
}

#[test]
fn words_that_are_no_flags_end_the_flags() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--"], &[]),
        (&["-q", "--", "a", "b"], &["a", "b"]),
        (&["-q", "true"], &["true"]),
        (&["-q", "-", "b"], &["-", "b"]),
        (&["-q", ""], &[""]),
        (&["-q", "a", "--", "b"], &["a", "--", "b"]),
    ];
    for (line, want) in cases {
        let line = run(line);
        assert_eq!(line.ignored, *want);
    }
    assert_eq!(
        message(&["start", "now", "--allowed-subnets", "list"]),
        "\"start\" ends the flags, so go-mmproxy would ignore the flag \"--allowed-subnets\" behind it: \
         remove \"start\" or move it last"
    );
    assert!(message(&["-q", "true", "-l=x"]).starts_with("\"true\" ends the flags"));
    assert!(message(&["--", "-l=x"]).starts_with("\"--\" ends the flags"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["---listen", "x"],
            "bad flag syntax: \"---listen\": write -flag value or -flag=value",
        ),
        (
            &["-=x"],
            "bad flag syntax: \"-=x\": write -flag value or -flag=value",
        ),
        (
            &["--=x"],
            "bad flag syntax: \"--=x\": write -flag value or -flag=value",
        ),
        (
            &["--allowed-subnet", "x"],
            "unknown flag \"--allowed-subnet\": did you mean --allowed-subnets?",
        ),
        (
            &["-listner=4"],
            "unknown flag \"-listner\": did you mean -listen?",
        ),
        (&["--L", "x"], "unknown flag \"--L\": did you mean -l?"),
        (&["-x"], "unknown flag \"-x\": --help lists the flags"),
        (
            &["-a\nb"],
            "unknown flag \"-a\\nb\": --help lists the flags",
        ),
        (
            &["-4"],
            "-4 needs a value, but nothing follows it: write -4=VALUE",
        ),
        (
            &["-q", "--mark"],
            "--mark needs a value, but nothing follows it: write --mark=VALUE",
        ),
        (
            &["--allowed-subnets", "--mark", "5"],
            "--allowed-subnets needs a value, but the flag \"--mark\" follows it: write --allowed-subnets=VALUE",
        ),
        (
            &["-l", "-4=x"],
            "-l needs a value, but the flag \"-4=x\" follows it: write -l=VALUE",
        ),
        (
            &["--quiet=maybe"],
            "--quiet \"maybe\" is neither true nor false",
        ),
    ];
    for (line, want) in cases {
        assert_eq!(message(line), *want, "{line:?}");
    }
    let bytes = vec![
        OsString::from("-q"),
        OsString::from_vec(b"--listen=\xff\n".to_vec()),
    ];
    let error = read(bytes, |_| None).expect_err("not UTF-8").to_string();
    assert_eq!(
        error,
        "argument 2 is not UTF-8: \"--listen=\u{fffd}\\n\": write it in ASCII or UTF-8"
    );
}

#[test]
fn values_that_begin_with_a_dash_are_values() {
    let line = run(&[
        "-mark",
        "-5",
        "-allowed-subnets",
        "-list",
        "-l=-4",
        "-p",
        "--",
    ]);
    let args = &line.args;
    assert_eq!(
        (args.mark.as_deref(), args.allowed_subnets.as_deref()),
        (Some("-5"), Some("-list"))
    );
    assert_eq!(
        (args.listen.as_deref(), args.protocol.as_deref()),
        (Some("-4"), Some("--"))
    );
}

#[test]
fn help_and_version_are_printed() {
    for line in [["-h"], ["--h"], ["-help"], ["--help"], ["--help=x"]] {
        assert_eq!(typed(&line), Ok(Request::Print(help_text())), "{line:?}");
    }
    for line in [["-V"], ["--V"], ["-version"], ["--version"]] {
        assert_eq!(
            typed(&line),
            Ok(Request::Print("glommproxy 0.1.0\n".into())),
            "{line:?}"
        );
    }
    assert_eq!(
        typed(&["-l", "x", "-h", "--nonsense"]),
        Ok(Request::Print(help_text()))
    );
    assert!(
        message(&["--nonsense", "-h"]).contains("nonsense"),
        "Go reads from the left, too"
    );
    // In front, a word that go-mmproxy would ignore.
    assert_eq!(typed(&["help"]), typed(&["--help"]));
    assert_eq!(typed(&["version"]), typed(&["--version"]));
    assert_eq!(run(&["-q", "help"]).ignored, ["help"]);
}

#[test]
fn the_help_text_has_every_flag_with_its_letter() {
    let help = help_text();
    for flag in super::flags::FLAGS {
        let letter = flag.others.iter().find(|name| name.len() == 1);
        let line = match letter {
            Some(letter) => format!("\n  -{letter}, --{}", flag.long),
            None => format!("\n  --{}", flag.long),
        };
        let shown = help
            .split(&line)
            .nth(1)
            .is_some_and(|rest| rest.starts_with([' ', '\n']));
        assert!(shown, "{line:?} is not in\n{help}");
    }
    for flag in super::flags::FLAGS {
        let hidden = flag.others.iter().filter(|name| name.len() > 1);
        for name in hidden.chain(std::iter::once(&flag.long)) {
            assert!(
                help.contains(&format!("--{name}")),
                "--{name} is not in\n{help}"
            );
        }
    }
    for line in help.lines() {
        assert!(
            line.chars().count() <= 80 && line.trim_end() == line,
            "{line:?}"
        );
    }
}
