//! Ports and servers, put together from the words of a command line.

use super::Ported;
use crate::config::{self, Config, Startup};
use std::ffi::OsString;

fn load(line: &str) -> Result<Config, String> {
    let argv = line.split_whitespace().map(OsString::from);
    match config::load(argv, |_| None) {
        Ok(Startup::Run(config)) => Ok(*config),
        Ok(other) => panic!("{line} gives {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// Each port with its targets, as text.
#[track_caller]
fn pairs(line: &str) -> Vec<(String, String, String)> {
    let config = load(line).expect("a good command line");
    let texts = config.frontends.iter().map(|it| {
        let (v4, v6) = (it.targets.v4.to_string(), it.targets.v6.to_string());
        (it.listen.to_string(), v4, v6)
    });
    texts.collect()
}

fn texts(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let text = |row: &(&str, &str, &str)| (row.0.to_owned(), row.1.to_owned(), row.2.to_owned());
    rows.iter().map(text).collect()
}

#[test]
fn a_range_leads_to_a_range_port_by_port() {
    assert_eq!(
        pairs("-l 0.0.0.0:2456-2458 -4 127.0.0.1:3456-3458 -6 [::1]:4456-4458"),
        texts(&[
            ("0.0.0.0:2456", "127.0.0.1:3456", "[::1]:4456"),
            ("0.0.0.0:2457", "127.0.0.1:3457", "[::1]:4457"),
            ("0.0.0.0:2458", "127.0.0.1:3458", "[::1]:4458"),
        ])
    );
}

#[test]
fn a_range_may_lead_to_one_port_or_to_none() {
    assert_eq!(
        pairs("-l [::]:2456-2457 -4 127.0.0.1:3456 -6 [::1]:0"),
        texts(&[
            ("[::]:2456", "127.0.0.1:3456", "[::1]:0"),
            ("[::]:2457", "127.0.0.1:3456", "[::1]:0"),
        ])
    );
}

#[test]
fn several_addresses_have_a_target_each_or_one_together() {
    let want = texts(&[
        ("127.0.0.1:1", "127.0.0.1:3", "[::1]:443"),
        ("127.0.0.2:1", "127.0.0.1:4", "[::1]:443"),
        ("127.0.0.2:2", "127.0.0.1:5", "[::1]:443"),
    ]);
    for line in [
        "-l 127.0.0.1:1 -l 127.0.0.2:1-2 -4 127.0.0.1:3 -4 127.0.0.1:4-5",
        "-l 127.0.0.1:1,127.0.0.2:1-2 -4 127.0.0.1:3,127.0.0.1:4-5",
        "-4 127.0.0.1:3 --listen 127.0.0.1:1 --ipv4=127.0.0.1:4-5 --listen-addr=127.0.0.2:1-2",
    ] {
        assert_eq!(pairs(line), want, "{line}");
    }
    assert_eq!(
        pairs("-l 127.0.0.1:1 -l 127.0.0.2:1 -4 127.0.0.1:3"),
        texts(&[
            ("127.0.0.1:1", "127.0.0.1:3", "[::1]:443"),
            ("127.0.0.2:1", "127.0.0.1:3", "[::1]:443"),
        ])
    );
    // One range for two ranges of its length.
    assert_eq!(
        pairs("-l 127.0.0.1:1-2 -l 127.0.0.2:1-2 -4 127.0.0.1:3-4")[2..],
        texts(&[
            ("127.0.0.2:1", "127.0.0.1:3", "[::1]:443"),
            ("127.0.0.2:2", "127.0.0.1:4", "[::1]:443"),
        ])
    );
}

#[test]
fn the_environment_names_several_with_commas() {
    let environment = |name: &str| match name {
        "GLOMMPROXY_LISTEN" => Some(OsString::from("127.0.0.1:1-2,[::1]:9")),
        "GLOMMPROXY_TARGET_V4" => Some(OsString::from("127.0.0.1:3-4,127.0.0.1:5")),
        _ => None,
    };
    let Ok(Startup::Run(config)) = config::load([], environment) else {
        panic!("a good environment");
    };
    let v4: Vec<u16> = config
        .frontends
        .iter()
        .map(|it| Ported::port(&it.targets.v4))
        .collect();
    assert_eq!(v4, [3, 4, 5]);
}

#[test]
fn what_does_not_fit_is_named() {
    for (line, want) in [
        (
            "-l 0.0.0.0:2456-2458 -4 127.0.0.1:3456-3457",
            "-l \"0.0.0.0:2456-2458\" has 3 ports and -4 \"127.0.0.1:3456-3457\" has 2 ports: give ranges of the same length, \
             or one target port for all",
        ),
        (
            "-6 [::1]:5-6",
            "--listen \"0.0.0.0:8443\" has 1 port and -6 \"[::1]:5-6\" has 2 ports: give ranges of the same length, or one \
             target port for all",
        ),
        (
            "-l 127.0.0.1:1-2 -l 127.0.0.1:3 -4 127.0.0.1:3,127.0.0.1:4-5",
            "-l \"127.0.0.1:3\" has 1 port and -4 \"127.0.0.1:4-5\" has 2 ports: give ranges of the same length, or one target \
             port for all",
        ),
        (
            "-l 127.0.0.1:1 -4 127.0.0.1:3 -4 127.0.0.1:4",
            "-l names 1 to listen on, and -4 names 2: give one -4 for all of them, or one for each, in the same order",
        ),
        (
            "-l 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3 --ipv6 [::1]:3 --ipv6 [::1]:4",
            "-l names 3 to listen on, and --ipv6 names 2: give one --ipv6 for all of them, or one for each, in the same \
             order",
        ),
        (
            "-l 127.0.0.1:1-70000",
            "-l \"127.0.0.1:1-70000\" has a port range that ends beyond 65535: want a range of ports, such as 2456-2458",
        ),
        (
            "-l 127.0.0.1:0-5",
            "-l \"127.0.0.1:0-5\" has a port range that begins with port 0: want a range of ports, such as 2456-2458",
        ),
        (
            "-4 127.0.0.1:5-4",
            "-4 \"127.0.0.1:5-4\" has a port range that ends before it begins: want a range of ports, such as 2456-2458",
        ),
        (
            "-l 127.0.0.1:5-",
            "-l \"127.0.0.1:5-\" has no port number from 0 to 65535 behind the last colon: want an IP address and port, \
             such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "-l 127.0.0.1:5,",
            "-l \"\" is empty: want an IP address and port, such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "-l 127.0.0.1:1-4096 -l 127.0.0.1:5000",
            "-l names 4097 ports, and 4096 is the most: let the kernel redirect them to one, with --listen-transparent",
        ),
    ] {
        assert_eq!(load(line).expect_err(line), want);
    }
}

#[test]
fn a_port_is_listened_on_once() {
    for (line, shared) in [
        ("-l 127.0.0.1:1 -l 127.0.0.1:1", Some(1)),
        ("-l 127.0.0.1:1-5 -l 127.0.0.1:5-9", Some(5)),
        ("-l 127.0.0.1:5-9 -l 127.0.0.1:1-5", Some(5)),
        ("-l 127.0.0.1:1-9 -l 127.0.0.1:3-4", Some(3)),
        ("-l 0.0.0.0:7 -l 127.0.0.1:7", Some(7)),
        ("-l [::1]:7 -l 0.0.0.0:7", Some(7)),
        ("-l [::]:7 -l 0.0.0.0:7", Some(7)),
        ("-l [::ffff:127.0.0.1]:7 -l 127.0.0.1:7", Some(7)),
        ("-l 127.0.0.1:1-4 -l 127.0.0.1:5-9", None),
        ("-l 127.0.0.1:7 -l 127.0.0.2:7", None),
        ("-l 127.0.0.1:7 -l [::1]:7", None),
        ("-l [fe80::1%1]:7 -l [fe80::1%2]:7", None),
        ("-l 0.0.0.0:0 -l 127.0.0.1:0 -l 127.0.0.1:0", None),
        ("-l 127.0.0.1:65535 -l 127.0.0.1:1-5", None),
    ] {
        let told = load(line).map(|_| ());
        match shared {
            None => assert_eq!(told, Ok(()), "{line}"),
            Some(port) => {
                let message = told.expect_err(line);
                let words: Vec<_> = line.split(' ').collect();
                let (first, second) = (words[1], words[3]);
                let want = format!("-l \"{first}\" and \"{second}\" overlap at port {port}: ");
                assert!(message.starts_with(&want), "{message}");
            }
        }
    }
}

#[test]
fn a_name_may_have_a_range_of_ports() {
    assert_eq!(
        pairs(
            "-l [::]:2456-2457 -l [::]:9 -4 my-game.internal:3456-3457,10.0.0.7:1 -6 my-game.internal:8"
        ),
        texts(&[
            ("[::]:2456", "my-game.internal:3456", "my-game.internal:8"),
            ("[::]:2457", "my-game.internal:3457", "my-game.internal:8"),
            ("[::]:9", "10.0.0.7:1", "my-game.internal:8"),
        ])
    );
    for (range, problem) in [
        ("game:0-2", "names a host, and port 0"),
        ("game:3-2", "has a port range that ends before it begins"),
        (
            "game:65535-65536",
            "has a port range that ends beyond 65535",
        ),
    ] {
        let error = load(&format!("-l [::]:1-2 -4 {range}")).expect_err(range);
        assert!(
            error.starts_with(&format!("-4 \"{range}\" {problem}")),
            "{error}"
        );
    }
}

#[test]
fn names_are_counted_once_each() {
    let line = |names: usize| {
        let flags = |flag: &str, word: fn(usize) -> String| -> String {
            (1..=2 * names)
                .map(|n| format!(" {flag} {}", word(n)))
                .collect()
        };
        let listen = flags("-l", |n| format!("127.0.0.1:{n}"));
        listen + &flags("-4", |n| format!("game{}:{n}", n / 2))
    };
    // From game0 on.
    assert_eq!(
        load(&line(255)).map(|config| config.frontends.len()),
        Ok(510)
    );
    assert_eq!(
        load(&line(256)),
        Err("-4 names 257 hosts, and 256 are the most: give their addresses, or run several glommproxies".to_owned())
    );
}
