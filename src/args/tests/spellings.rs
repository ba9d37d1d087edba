//! Every flag under all its names, and as a variable.

use super::super::flags::{FLAGS, Takes};
use super::*;

/// The value of a flag that takes one.
fn field<'a>(args: &'a Args, long: &str) -> &'a Option<String> {
    match long {
        "listen" => &args.listen,
        "target-v4" => &args.target_v4,
        "target-v6" => &args.target_v6,
        "protocol" => &args.protocol,
        "allowed-subnets" => &args.allowed_subnets,
        "allowed-destinations" => &args.allowed_destinations,
        "denied-clients" => &args.denied_clients,
        "max-connections" => &args.max_connections,
        "max-connections-per-client" => &args.max_connections_per_client,
        "new-connections-per-second" => &args.new_connections_per_second,
        "access-log" => &args.access_log,
        "access-log-format" => &args.access_log_format,
        "admin" => &args.admin,
        "idle-timeout" => &args.idle_timeout,
        "drain-timeout" => &args.drain_timeout,
        "close-after" => &args.close_after,
        "listeners" => &args.listeners,
        "mark" => &args.mark,
        "verbose" => &args.verbose,
        "cpus" => &args.cpus,
        "header-timeout" => &args.header_timeout,
        "connect-timeout" => &args.connect_timeout,
        "max-flows" => &args.max_flows,
        "udp-header" => &args.udp_header,
        "table" => &args.table,
        "log-format" => &args.log_format,
        "source-port" => &args.source_port,
        _ => panic!("--{long} is not in this list"),
    }
}

/// The state of a switch.
fn switch(args: &Args, long: &str) -> Option<bool> {
    match long {
        "no-pin" => args.no_pin,
        "listen-transparent" => args.listen_transparent,
        "dynamic-destination" => args.dynamic_destination,
        "keep-denied" => args.keep_denied,
        "takeover" => args.takeover,
        "no-wildcard-udp" => args.no_wildcard_udp,
        "setup-routes" => args.setup_routes,
        "quiet" => args.quiet,
        "no-sandbox" => args.no_sandbox,
        "force-real-client-port" => args.force_real_client_port,
        "require-crc32c" => args.require_crc32c,
        "allow-loopback-clients" => args.allow_loopback_clients,
        _ => panic!("--{long} is not in this list"),
    }
}

/// What users of go-mmproxy and its siblings type, written out, so that a name lost from the table is missed here.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("listen", &["listen", "l", "listen-addr"]),
    ("target-v4", &["target-v4", "4", "ipv4"]),
    ("target-v6", &["target-v6", "6", "ipv6"]),
    ("protocol", &["protocol", "p"]),
    (
        "allowed-subnets",
        &["allowed-subnets", "a", "allowed-networks"],
    ),
    ("denied-clients", &["denied-clients"]),
    ("keep-denied", &["keep-denied"]),
    ("max-connections", &["max-connections"]),
    (
        "max-connections-per-client",
        &["max-connections-per-client"],
    ),
    (
        "new-connections-per-second",
        &["new-connections-per-second"],
    ),
    ("idle-timeout", &["idle-timeout"]),
    ("close-after", &["close-after", "c"]),
    ("drain-timeout", &["drain-timeout"]),
    ("takeover", &["takeover"]),
    ("listeners", &["listeners"]),
    ("mark", &["mark", "m"]),
    ("verbose", &["verbose", "v"]),
    ("cpus", &["cpus"]),
    ("no-pin", &["no-pin"]),
    ("header-timeout", &["header-timeout"]),
    ("connect-timeout", &["connect-timeout"]),
    ("max-flows", &["max-flows"]),
    ("listen-transparent", &["listen-transparent"]),
    ("dynamic-destination", &["dynamic-destination"]),
    ("allowed-destinations", &["allowed-destinations"]),
    ("udp-header", &["udp-header"]),
    ("setup-routes", &["setup-routes"]),
    ("no-wildcard-udp", &["no-wildcard-udp"]),
    ("table", &["table", "t"]),
    ("log-format", &["log-format"]),
    ("access-log", &["access-log"]),
    ("access-log-format", &["access-log-format"]),
    ("admin", &["admin"]),
    ("quiet", &["quiet", "q"]),
    ("no-sandbox", &["no-sandbox", "do-not-sandbox", "N"]),
    ("source-port", &["source-port"]),
    ("force-real-client-port", &["force-real-client-port", "P"]),
    ("require-crc32c", &["require-crc32c"]),
    ("allow-loopback-clients", &["allow-loopback-clients"]),
];

#[test]
fn every_spelling_of_every_flag() {
    let longs: Vec<_> = FLAGS.iter().map(|flag| flag.long).collect();
    let listed: Vec<_> = SPELLINGS.iter().map(|(long, _)| *long).collect();
    assert_eq!(longs, listed, "a flag is missing from this test");
    for (flag, (long, names)) in FLAGS.iter().zip(SPELLINGS) {
        for spelled in names
            .iter()
            .flat_map(|name| [format!("-{name}"), format!("--{name}")])
        {
            let origin = Origin::Flag(spelled.clone());
            match flag.takes {
                Takes::Value | Takes::List | Takes::ValueOr(_) => {
                    for line in [vec![&*spelled, "5=x"], vec![&*format!("{spelled}=5=x")]] {
                        let line = run(&line);
                        assert_eq!(field(&line.args, long).as_deref(), Some("5=x"), "{spelled}");
                        assert_eq!(line.origin(long), origin);
                    }
                }
                Takes::Switch => {
                    for (line, want) in [("", true), ("=1", true), ("=false", false), ("=F", false)]
                    {
                        let line = run(&[&format!("{spelled}{line}")]);
                        assert_eq!(switch(&line.args, long), Some(want), "{spelled}");
                        assert_eq!(line.origin(long), origin);
                    }
                }
            }
        }
    }
}

#[test]
fn every_variable() {
    for flag in FLAGS {
        let name = flag.variable();
        let origin = Origin::Variable(name.clone());
        match flag.takes {
            Takes::Value | Takes::List | Takes::ValueOr(_) => {
                let line = run_with(&[], &[(&name, "x")]);
                assert_eq!(field(&line.args, flag.long).as_deref(), Some("x"), "{name}");
                assert_eq!(line.origin(flag.long), origin);
            }
            Takes::Switch => {
                for (value, want) in [("true", true), ("1", true), ("0", false)] {
                    let line = run_with(&[], &[(&name, value)]);
                    assert_eq!(switch(&line.args, flag.long), Some(want), "{name}={value}");
                }
            }
        }
        assert_eq!(
            run_with(&[], &[(&name, "")]).args,
            Args::default(),
            "an empty {name} is unset"
        );
    }
}
