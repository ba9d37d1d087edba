//! From the words of a command line to what they mean.

mod messages;
mod properties;

use super::*;
use crate::addr::ListenAddr;
use crate::cpus;
use std::num::NonZeroUsize;
use std::path::Path;

/// Reads a command line in an environment.
fn load_with(line: &[&str], environment: &[(&str, &str)]) -> Result<Startup, StartupError> {
    let value = |name: &str| environment.iter().find(|(known, _)| *known == name);
    load(line.iter().map(OsString::from), |name| {
        value(name).map(|(_, value)| value.into())
    })
}

#[track_caller]
fn config(line: &[&str]) -> Config {
    match load_with(line, &[]) {
        Ok(Startup::Run(config)) => *config,
        other => panic!("{line:?} gives {other:?}"),
    }
}

#[track_caller]
fn message(line: &[&str]) -> String {
    load_with(line, &[]).expect_err("is wrong").to_string()
}

fn frontend(listen: &str, v4: &str, v6: &str) -> Frontend<NamedTargets> {
    Frontend {
        listen: ListenAddr(listen.parse().expect("an address")),
        targets: NamedTargets {
            v4: Target::Addr(v4.parse().expect("an address")),
            v6: Target::Addr(v6.parse().expect("an address")),
        },
    }
}

#[test]
fn nothing_typed_means_the_defaults() {
    let want = Config {
        protocols: Protocols::Tcp,
        frontends: vec![frontend("0.0.0.0:8443", "127.0.0.1:443", "[::1]:443")],
        target_v4_named: false,
        target_v6_named: false,
        allowed_subnets: None,
        listen_transparent: false,
        dynamic_destination: false,
        allowed_destinations: None,
        denied_clients: None,
        keep_denied: false,
        limits: LimitSettings::default(),
        idle_timeout: None,
        close_after: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(25),
        takeover: false,
        shards: Shards::Count {
            shards: cpus::default_shards(),
            pinned: true,
        },
        mark: None,
        header_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        max_flows: 16384,
        source_port: SourcePort::Client,
        trust: Trust::default(),
        udp_header: UdpHeader::V2,
        setup_routes: false,
        table: RouteTable::DEFAULT,
        wildcard_udp: true,
        route_check: true,
        verbosity: Verbosity::Quiet,
        log_format: None,
        access_log: None,
        access_log_format: None,
        admin: None,
        sandbox: true,
        ignored: Vec::new(),
    };
    assert_eq!(config(&[]), want);
}

#[test]
fn the_defaults_are_those_of_the_help_text() {
    let Ok(Startup::Print(help)) = load_with(&["--help"], &[]) else {
        panic!("no help text");
    };
    // The wrapping may be anywhere.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut typed = Vec::new();
    for part in help.split(" --").skip(1) {
        let Some((_, default)) = part.split_once("(default: ") else {
            continue;
        };
        let default = default.split([')', ';']).next().unwrap_or_default();
        // The others are sentences.
        if !default.contains(' ') {
            let name = part.split_whitespace().next().unwrap_or_default();
            typed.push(format!("--{name}={default}"));
        }
    }
    assert_eq!(typed.len(), 18, "{typed:?}");
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    let typed = config(&typed);
    assert!(typed.target_v4_named && typed.target_v6_named);
    let unnamed = Config {
        target_v4_named: false,
        target_v6_named: false,
        ..typed
    };
    assert_eq!(unnamed, config(&[]));
}

#[test]
fn every_flag_has_its_effect() {
    let line = "-l [::]:1 -4 127.0.0.2:2 -6 [::2]:3 -p both -allowed-subnets list -close-after 0 \
         -listen-transparent -dynamic-destination -allowed-destinations places \
         -listeners 10 -mark 0x7b -v 1 -no-pin -header-timeout 0.5 -connect-timeout 7 -max-flows \
         1_000 -udp-header SPP -source-port any -require-crc32c -allow-loopback-clients -setup-routes \
         -no-wildcard-udp -table 100 -log-format json -q -denied-clients bans \
         -keep-denied -max-connections 9 -max-connections-per-client 8 -new-connections-per-second 7 \
         -idle-timeout 600 -drain-timeout 0.5 -takeover -admin 127.0.0.1:9101 -access-log access \
         -access-log-format text -N word";
    let want = Config {
        protocols: Protocols::Both,
        frontends: vec![frontend("[::]:1", "127.0.0.2:2", "[::2]:3")],
        target_v4_named: true,
        target_v6_named: true,
        allowed_subnets: Some(Path::new("list").into()),
        listen_transparent: true,
        dynamic_destination: true,
        allowed_destinations: Some(Path::new("places").into()),
        denied_clients: Some(Path::new("bans").into()),
        keep_denied: true,
        limits: LimitSettings {
            connections: NonZeroU32::new(9),
            connections_per_client: NonZeroU32::new(8),
            new_per_second: NonZeroU32::new(7),
        },
        idle_timeout: Some(Duration::from_secs(600)),
        close_after: Duration::ZERO,
        drain_timeout: Duration::from_millis(500),
        takeover: true,
        shards: Shards::Count {
            shards: NonZeroUsize::new(10).expect("not zero"),
            pinned: false,
        },
        mark: NonZeroU32::new(123),
        header_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(7),
        max_flows: 1000,
        source_port: SourcePort::Any,
        trust: Trust {
            requires_crc32c: true,
            loopback_clients: true,
        },
        udp_header: UdpHeader::Spp,
        setup_routes: true,
        table: RouteTable::try_from(100).expect("a free table"),
        wildcard_udp: false,
        route_check: false,
        verbosity: Verbosity::Errors,
        log_format: Some(LogFormat::Json),
        access_log: Some(Destination::File("access".into())),
        access_log_format: Some(LogFormat::Text),
        admin: Some(([127, 0, 0, 1], 9101).into()),
        sandbox: false,
        ignored: vec!["word".into()],
    };
    assert_eq!(config(&line.split_whitespace().collect::<Vec<_>>()), want);
}

#[test]
fn protocols_say_what_they_hold() {
    let held = |protocols: Protocols| (protocols.tcp(), protocols.udp());
    assert_eq!(held(Protocols::Tcp), (true, false));
    assert_eq!(held(Protocols::Udp), (false, true));
    assert_eq!(held(Protocols::Both), (true, true));
}

#[test]
fn an_empty_list_name_is_no_list_as_in_go_mmproxy() {
    assert_eq!(config(&["-allowed-subnets", ""]).allowed_subnets, None);
}

/// Nobody who names a list of bans means that there is none.
#[test]
fn an_empty_name_of_the_deny_list_is_refused() {
    assert_eq!(
        message(&["--denied-clients="]),
        "--denied-clients \"\" names no file: want the path of one"
    );
}

#[test]
fn the_access_log_is_a_file_or_stdout() {
    let of = |line: &[&str]| config(line).access_log;
    assert_eq!(of(&["--access-log", "-"]), Some(Destination::Stdout));
    let file = Destination::File("./-".into());
    assert_eq!(of(&["--access-log", "./-"]), Some(file));
    assert_eq!(
        message(&["--access-log="]),
        "--access-log \"\" is empty: want the name of a file, or - for stdout"
    );
    assert_eq!(
        message(&["--access-log-format", "text"]),
        "--access-log-format is for the access log, and there is none without --access-log: add that, or remove \
         --access-log-format"
    );
}

#[test]
fn limits_of_0_are_none() {
    let zero = "--max-connections 0 --max-connections-per-client 0 --new-connections-per-second 0 \
         --idle-timeout 0";
    assert_eq!(
        config(&zero.split_whitespace().collect::<Vec<_>>()),
        config(&[])
    );
}

#[test]
fn named_cpus_are_the_shards() {
    assert_eq!(
        config(&["--cpus", "0,2-3"]).shards,
        Shards::On(vec![0, 2, 3])
    );
    assert_eq!(
        config(&["--cpus", "0,2-3", "--listeners", "3"])
            .shards
            .count(),
        3
    );
    assert_eq!(
        message(&["-cpus", "0,2-3", "-listeners", "4"]),
        "-listeners asks for 4 listeners, but -cpus names CPUs for 3: remove one of them"
    );
    let error =
        load_with(&["--listeners=1"], &[("GLOMMPROXY_CPUS", "0-1")]).expect_err("contradicts");
    assert_eq!(
        error.to_string(),
        "--listeners asks for 1 listeners, but GLOMMPROXY_CPUS names CPUs for 2: remove one of them"
    );
    assert_eq!(
        message(&["--cpus=0", "--no-pin"]),
        "--no-pin contradicts --cpus, which names the CPUs to pin to: remove one of them"
    );
    assert_eq!(
        config(&["--cpus=0", "--no-pin=false"]).shards,
        Shards::On(vec![0])
    );
}

#[test]
fn a_list_of_destinations_needs_destinations() {
    let line = [
        "--allowed-destinations=places",
        "-dynamic-destination=false",
    ];
    assert_eq!(
        message(&line),
        "--allowed-destinations is for destinations that PROXY headers name, and they are not read without \
         --dynamic-destination: add that, or remove --allowed-destinations"
    );
    // No name is not no list: that would be another set of destinations.
    assert_eq!(
        message(&["-allowed-destinations=", "-dynamic-destination"]),
        "-allowed-destinations \"\" is empty: want the name of a file"
    );
}

#[test]
fn the_real_client_port_is_forced_by_either_name() {
    let source_port = |line: &[&str]| config(line).source_port;
    for line in [
        &["--source-port", "strict"][..],
        &["-P"],
        &["--force-real-client-port"],
        &["-P", "--source-port=strict"],
    ] {
        assert_eq!(source_port(line), SourcePort::Strict, "{line:?}");
    }
    for line in [
        &[][..],
        &["-P=false"],
        &["--source-port", "client"],
        &["--source-port=client", "--force-real-client-port=0"],
    ] {
        assert_eq!(source_port(line), SourcePort::Client, "{line:?}");
    }
    assert_eq!(source_port(&["--source-port=any"]), SourcePort::Any);
    for other in ["any", "client"] {
        assert_eq!(
            message(&["-P", "--source-port", other]),
            "-P contradicts --source-port, which allows other ports than the client's: remove one of them"
        );
    }
    let error = load_with(&["-P"], &[("GLOMMPROXY_SOURCE_PORT", "any")]).expect_err("contradicts");
    assert!(
        error
            .to_string()
            .starts_with("-P contradicts GLOMMPROXY_SOURCE_PORT")
    );
}
