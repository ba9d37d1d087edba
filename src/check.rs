//! `glommproxy check`: whether the proxy could work here, and what to do if not.
//!
//! It looks at what start-up looks at, by the same code, and then tries what start-up cannot know: whether the server
//! can be reached, and whether its answers to a client somewhere on the Internet come back. It starts no executor,
//! listens nowhere, and leaves nothing behind.

mod access_log;
mod commands;
mod holder;
mod itself;
mod listening;
mod lists;
mod live;
mod names;
mod probe;
mod report;
mod routes;
mod sandbox;
mod server;

pub use live::{NotReady, ask_ready};
pub use report::{Report, Row, Verdict};

use routes::Held;

use crate::config::{Config, SourcePort};
use crate::coordinator::{self, Resolved, descriptors_with_connections, descriptors_with_flows};
use crate::cpus::{self, PlacementError};
use crate::host::{self, HostError};
use crate::routing::Family;
use crate::transparent::Dialer;

/// Looks at everything. Takes a few seconds, with names that are not found a dozen, unless a list is a pipe that nobody
/// writes to.
pub fn look(config: &Config) -> Report {
    let mut rows: Vec<Row> = ignored(config).into_iter().collect();
    rows.extend(host(config));
    let resolved = match coordinator::resolve(&config.frontends) {
        Ok(resolved) => resolved,
        Err(error) => {
            let finding = format!("cannot look up names: {error}");
            // It takes nothing but descriptors.
            let needed = descriptors_with_flows(config, config.shards.count());
            let commands = vec![host::raise_descriptors(needed)];
            rows.push(Row::new("names", Verdict::Fail, finding).mended_by(commands));
            return Report { rows };
        }
    };
    let capabilities = capabilities(config, &resolved);
    let may_spoof = capabilities.verdict == Verdict::Ok;
    rows.push(capabilities);
    rows.push(sandbox::row(config, &resolved));
    rows.extend(lists::rows(config));
    rows.extend(access_log::row(config));
    rows.extend(listening::rows(config));
    rows.extend(names::rows(&resolved));
    rows.extend(itself::rows(config, &resolved));

    let held = Held::take(config, &resolved);
    rows.extend(held.rows());
    rows.extend(server::rows(config, &resolved, &held, may_spoof));
    rows.extend(held.release());
    Report { rows }
}

/// Words that are no flags.
fn ignored(config: &Config) -> Option<Row> {
    let words = &config.ignored;
    (!words.is_empty()).then(|| {
        let finding = format!("these words mean nothing, here as in go-mmproxy: {words:?}");
        Row::new("flags", Verdict::Warn, finding)
    })
}

/// What executors need, and descriptors.
fn host(config: &Config) -> Vec<Row> {
    let shards = config.shards.count();
    let commands = HostError::commands;
    let named = |release| format!("Linux {release}");
    let kernel = Row::of("kernel", host::check_kernel(), named, commands);
    let limit = |limit| match limit {
        Some(bytes) => format!("{bytes} bytes may be locked"),
        None => "no limit".to_owned(),
    };
    let memlock = Row::of("memlock", host::raise_memlock(), limit, commands);
    let given = |()| "the kernel gives it".to_owned();
    let uring = Row::of("io_uring", host::check_uring(), given, commands);
    vec![
        kernel,
        uring,
        memlock,
        descriptors(config, shards),
        placement(config),
    ]
}

fn descriptors(config: &Config, shards: usize) -> Row {
    let subject = "open-files";
    let limit = match host::check_descriptors(coordinator::needs(config, shards)) {
        Ok(limit) => limit,
        Err(error) => {
            let commands = error.commands();
            return Row::new(subject, Verdict::Fail, error).mended_by(commands);
        }
    };
    let needed = descriptors_with_flows(config, shards);
    if needed > limit {
        let finding = format!(
            "{limit} may be open and {needed} are needed with --max-flows {}: raise it (systemd: LimitNOFILE, Docker: \
             --ulimit nofile) or lower --max-flows",
            config.max_flows
        );
        let commands = vec![host::raise_descriptors(needed)];
        return Row::new(subject, Verdict::Warn, finding).mended_by(commands);
    }
    let with_connections = descriptors_with_connections(config, shards);
    if let Some(max) = config
        .limits
        .connections
        .filter(|_| with_connections > limit)
    {
        let finding = format!(
            "{limit} may be open and {with_connections} are needed with --max-connections {max}: raise it (systemd: \
             LimitNOFILE, Docker: --ulimit nofile) or lower --max-connections"
        );
        let commands = vec![host::raise_descriptors(with_connections)];
        return Row::new(subject, Verdict::Warn, finding).mended_by(commands);
    }
    let finding = format!("{limit} may be open, {needed} are enough without TCP connections");
    Row::new(subject, Verdict::Ok, finding)
}

fn placement(config: &Config) -> Row {
    let subject = "cpus";
    let available = match cpus::available() {
        Ok(available) => available,
        Err(error) => {
            let finding = format!("cannot tell which CPUs this process may use: {error}");
            let commands = vec!["taskset -cp $$".to_owned()];
            return Row::new(subject, Verdict::Fail, finding).mended_by(commands);
        }
    };
    let placed = |it: Vec<_>| format!("{} listeners on {} CPUs", it.len(), available.len());
    let commands = |error: &PlacementError| vec![format!("glommproxy check {} …", error.flags())];
    let placement = cpus::placement(&config.shards, &available);
    Row::of(subject, placement, placed, commands)
}

/// Whether this process may speak for clients, and mark.
fn capabilities(config: &Config, resolved: &Resolved) -> Row {
    let allowed = dialer(config).check_privileges(&resolved.frontends[0].targets);
    match allowed {
        Ok(()) => {
            let mark = config.mark.map_or("", |_| ", and mark packets");
            let finding = format!("it may take clients' addresses (IP_TRANSPARENT){mark}");
            Row::new("capabilities", Verdict::Ok, finding)
        }
        Err(error) => {
            let finding = format!(
                "{error}; run it as root, in a container with --cap-add NET_ADMIN, or grant them"
            );
            let commands = vec![commands::grant(config)];
            Row::new("capabilities", Verdict::Fail, finding).mended_by(commands)
        }
    }
}

/// What reaches out to the servers.
fn dialer(config: &Config) -> Dialer {
    Dialer {
        mark: config.mark,
        // The port of a client that does not exist may be taken since the check before, and that tells nothing.
        source_port: SourcePort::Client,
        // For clients on this host only, and that one is not.
        wildcard_udp: false,
        unpaced_loopback: false,
    }
}

/// Whether nobody named this family's target, while that of the other is named: then it does not matter much whether
/// there is one.
fn is_afterthought(config: &Config, family: Family) -> bool {
    match family {
        Family::V4 => !config.target_v4_named && config.target_v6_named,
        Family::V6 => !config.target_v6_named && config.target_v4_named,
    }
}

fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}
