//! What is said of a wrong value: which flag, which word, and what would be right.

use super::*;

/// A value that is wrong for each flag, and the end of the message.
fn bad_value(long: &str) -> Option<(&'static str, &'static str)> {
    Some(match long {
        "listen" => (
            "8443",
            "has no address before the port: want an IP address and port, such as 0.0.0.0:8443 or [::]:8443",
        ),
        "target-v4" => (
            "[::1]:443",
            "is an IPv6 address, as -6 takes: want an IPv4 address or a host name, and a port, such as 127.0.0.1:443",
        ),
        "target-v6" => (
            "[::ffff:127.0.0.1]:443",
            "is a v4-mapped address, which is IPv4 in disguise: want an IPv6 address or a host name, and a port, such as [::1]:443",
        ),
        "protocol" => ("sctp", "is no protocol: want tcp, udp or both"),
        "close-after" => (
            "-1",
            "is out of range: want seconds from 0 to 2147483647, such as 60",
        ),
        "listeners" => ("0", "is out of range: want a number from 1 to 1024"),
        "mark" => (
            "-1",
            "is out of range: want a number from 0 to 4294967295, 0 for no mark",
        ),
        "verbose" => ("loud", "is no whole number: want 0, 1 or 2"),
        "cpus" => (
            "all",
            "is no list of CPUs: want CPU numbers and ranges, such as 0,2-3",
        ),
        "header-timeout" => (
            "0",
            "is out of range: want seconds from 0.001 to 86400, such as 5 or 0.5",
        ),
        "connect-timeout" => (
            "5s",
            "is no number of seconds: want seconds from 0.001 to 86400, such as 5 or 0.5",
        ),
        "max-connections" | "max-connections-per-client" | "new-connections-per-second" => (
            "-1",
            "is out of range: want a number from 0 to 16777216, 0 for no limit",
        ),
        "idle-timeout" => (
            "0.05",
            "is out of range: want seconds from 0.1 to 2147483647, such as 600, or 0 for never",
        ),
        "drain-timeout" => (
            "86401",
            "is out of range: want seconds from 0 to 86400, such as 25 or 0.5; 0 ends everything at once",
        ),
        "max-flows" => ("0", "is out of range: want a number from 1 to 16777216"),
        "udp-header" => ("v1", "is no header of UDP: want v2, v2-first or spp"),
        "table" => (
            "254",
            "is the kernel's main table, which holds the host's own routes: \
             want a number from 1 to 4294967295 without 253 to 255, such as 123",
        ),
        "log-format" => ("xml", "is no log format: want text or json"),
        "source-port" => (
            "4000",
            "is no way to choose a port: want client, any or strict",
        ),
        "access-log-format" => ("yaml", "is no log format: want text or json"),
        "admin" => (
            "9101",
            "has no address before the port: want an IP address and port, such as 127.0.0.1:9101",
        ),
        "no-pin"
        | "require-crc32c"
        | "allow-loopback-clients"
        | "dynamic-destination"
        | "keep-denied"
        | "listen-transparent"
        | "takeover"
        | "setup-routes"
        | "no-wildcard-udp"
        | "force-real-client-port"
        | "quiet"
        | "no-sandbox" => ("maybe", "is neither true nor false"),
        _ => return None,
    })
}

#[test]
fn every_flags_bad_value_is_named_with_what_would_be_right() {
    for flag in args::flags::FLAGS {
        // Any text may be the name of a file.
        let files = [
            "allowed-subnets",
            "allowed-destinations",
            "denied-clients",
            "access-log",
        ];
        if files.contains(&flag.long) {
            continue;
        }
        let Some((value, end)) = bad_value(flag.long) else {
            panic!("this test has no bad value for --{}", flag.long);
        };
        let line = format!("-{}={value}", flag.long);
        let want = format!("-{} \"{value}\" {end}", flag.long);
        assert_eq!(message(&[&line]), want);

        let variable = flag.variable();
        let error =
            load_with(&[], &[(&variable, value)]).expect_err("is wrong in the environment, too");
        assert_eq!(error.to_string(), format!("{variable} \"{value}\" {end}"));
    }
}

#[test]
fn messages_name_the_flag_as_it_was_typed() {
    for spelled in ["-4", "--4", "--ipv4", "-target-v4"] {
        assert!(
            message(&[spelled, "x"]).starts_with(&format!("{spelled} \"x\" ")),
            "{spelled}"
        );
    }
}

#[test]
fn foreign_text_stays_on_one_line_and_short() {
    let value = format!("\u{1b}[2J\n{}", "9".repeat(100_000));
    let message = message(&["-mark", &value]);
    assert!(message.starts_with("-mark \"\\u{1b}[2J\\n999"), "{message}");
    assert!(
        message.len() < 250 && !message.contains(char::is_control),
        "{message}"
    );
}
