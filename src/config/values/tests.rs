//! Values within their limits, at them and beyond.

use super::*;
use std::fmt::Debug;

/// What goes in, and what comes out or what is said.
fn check<T: Debug + PartialEq>(
    read: fn(&str) -> Result<T, Problem>,
    cases: impl IntoIterator<Item = (&'static str, Result<T, &'static str>)>,
) {
    for (text, want) in cases {
        match (read(text), want) {
            (Err(Problem { problem, .. }), Err(want)) => {
                assert!(
                    problem.contains(want),
                    "{text}: {problem:?} does not say {want:?}"
                );
            }
            (got, want) => assert_eq!(got.ok(), want.ok(), "{text}"),
        }
    }
}

#[test]
fn words_in_any_case() {
    check(
        protocols,
        [
            ("tcp", Ok(Protocols::Tcp)),
            ("UDP", Ok(Protocols::Udp)),
            ("Both", Ok(Protocols::Both)),
            ("", Err("no protocol")),
            ("sctp", Err("no protocol")),
            ("tcp ", Err("no protocol")),
        ],
    );
    check(
        log_format,
        [
            ("text", Ok(LogFormat::Text)),
            ("JSON", Ok(LogFormat::Json)),
            ("logfmt", Err("no log format")),
        ],
    );
    check(
        source_port,
        [
            ("client", Ok(SourcePort::Client)),
            ("Any", Ok(SourcePort::Any)),
            ("STRICT", Ok(SourcePort::Strict)),
            ("", Err("no way to choose")),
            ("25565", Err("no way to choose")),
        ],
    );
}

#[test]
fn verbosity_above_two_is_all() {
    check(
        verbosity,
        [
            ("0", Ok(Verbosity::Quiet)),
            ("1", Ok(Verbosity::Errors)),
            ("2", Ok(Verbosity::All)),
            ("3", Ok(Verbosity::All)),
            ("9223372036854775807", Ok(Verbosity::All)),
            ("9223372036854775808", Err("out of range")),
            ("-1", Err("out of range")),
            ("true", Err("no whole number")),
            ("", Err("no whole number")),
        ],
    );
}

#[test]
fn whole_numbers_within_their_limits() {
    check(
        mark,
        [
            ("0", Ok(None)),
            ("0x7b", Ok(NonZeroU32::new(123))),
            ("4294967295", Ok(NonZeroU32::new(u32::MAX))),
            ("4294967296", Err("out of range")),
            ("-1", Err("out of range")),
            ("1.0", Err("no whole number")),
        ],
    );
    check(
        |text| table(text).map(RouteTable::number),
        [
            ("1", Ok(1)),
            ("252", Ok(252)),
            ("256", Ok(256)),
            ("4294967295", Ok(u32::MAX)),
            ("0", Err("no table in particular")),
            ("253", Err("default table")),
            ("254", Err("main table")),
            ("0xff", Err("local table")),
            ("4294967296", Err("out of range")),
            ("main", Err("no whole number")),
        ],
    );
    check(
        close_after,
        [
            ("0", Ok(Duration::ZERO)),
            ("1_000", Ok(Duration::from_secs(1000))),
            ("2147483647", Ok(Duration::from_secs(2_147_483_647))),
            ("2147483648", Err("out of range")),
            ("-1", Err("out of range")),
            ("60s", Err("no whole number")),
        ],
    );
    check(
        listeners,
        [
            ("1", Ok(NonZeroUsize::MIN)),
            ("1024", Ok(NonZeroUsize::new(1024).expect("is not zero"))),
            ("0", Err("out of range")),
            ("1025", Err("out of range")),
            ("many", Err("no whole number")),
        ],
    );
    check(
        max_flows,
        [
            ("1", Ok(1)),
            ("16777216", Ok(16_777_216)),
            ("0", Err("out of range")),
            ("16777217", Err("out of range")),
            ("1e3", Err("no whole number")),
        ],
    );
}

#[test]
fn limits_that_0_switches_off() {
    check(
        limit,
        [
            ("0", Ok(None)),
            ("1", Ok(Some(NonZeroU32::MIN))),
            ("16777216", Ok(NonZeroU32::new(16_777_216))),
            ("16777217", Err("out of range")),
            ("-1", Err("out of range")),
            ("99999999999999999999", Err("out of range")),
            ("none", Err("no whole number")),
        ],
    );
    check(
        drain_timeout,
        [
            ("0", Ok(Duration::ZERO)),
            ("0.5", Ok(Duration::from_millis(500))),
            ("86400", Ok(Duration::from_secs(86_400))),
            ("86400.1", Err("out of range")),
            ("-1", Err("out of range")),
            ("1m", Err("no number of seconds")),
        ],
    );
    check(
        idle_timeout,
        [
            ("0", Ok(None)),
            ("0.0", Ok(None)),
            ("0.1", Ok(Some(Duration::from_millis(100)))),
            ("600", Ok(Some(Duration::from_secs(600)))),
            ("2147483647", Ok(Some(Duration::from_secs(2_147_483_647)))),
            ("0.05", Err("out of range")),
            ("2147483648", Err("out of range")),
            ("-1", Err("out of range")),
            ("99999999999999999999", Err("out of range")),
            ("10m", Err("no number of seconds")),
            ("", Err("no number of seconds")),
        ],
    );
}

#[test]
fn timeouts_in_seconds_and_parts() {
    check(
        timeout,
        [
            ("5", Ok(Duration::from_secs(5))),
            ("0.5", Ok(Duration::from_millis(500))),
            (".25", Ok(Duration::from_millis(250))),
            ("2.", Ok(Duration::from_secs(2))),
            ("08", Ok(Duration::from_secs(8))),
            ("1.0000000019", Ok(Duration::new(1, 1))),
            ("0.001", Ok(Duration::from_millis(1))),
            ("86400", Ok(Duration::from_secs(86_400))),
            ("0", Err("out of range")),
            ("0.0", Err("out of range")),
            ("0.0009", Err("out of range")),
            ("86400.1", Err("out of range")),
            ("99999999999999999999", Err("out of range")),
            ("99999999999999999999.5", Err("out of range")),
            ("-1", Err("out of range")),
            ("-0.5", Err("no number of seconds")),
            ("+0.5", Err("no number of seconds")),
            ("", Err("no number of seconds")),
            (".", Err("no number of seconds")),
            ("1.2.3", Err("no number of seconds")),
            ("5s", Err("no number of seconds")),
            ("1e1", Err("no number of seconds")),
            ("inf", Err("no number of seconds")),
            ("NaN", Err("no number of seconds")),
        ],
    );
}

#[test]
fn lists_of_cpus() {
    check(
        cpus,
        [
            ("0", Ok(vec![0])),
            ("0,2-3", Ok(vec![0, 2, 3])),
            ("3,1", Ok(vec![3, 1])),
            ("0, 2 - 3", Ok(vec![0, 2, 3])),
            ("5-5,1023", Ok(vec![5, 1023])),
            ("", Err("no list")),
            (",", Err("no list")),
            ("0,", Err("no list")),
            ("-1", Err("no list")),
            ("1-", Err("no list")),
            ("0-1-2", Err("no list")),
            ("+1", Err("no list")),
            ("0x1", Err("no list")),
            ("all", Err("no list")),
            ("3-2", Err("wrong way round")),
            ("1,1", Err("CPU 1 twice")),
            ("0-3,2", Err("CPU 2 twice")),
            ("1024", Err("highest there can be is 1023")),
            ("0-99999999999", Err("highest there can be is 1023")),
            ("99999999999999999999999999", Err("no list")),
        ],
    );
}
