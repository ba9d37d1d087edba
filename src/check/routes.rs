//! The routes that bring the server's answers back: whether they are there, or could be set up.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::{Row, Verdict, is_afterthought, names, number};
use crate::config::Config;
use crate::coordinator::{Resolved, route_plan};
use crate::routing::{
    self, Family, InstalledRoutes, RouteCheck, RoutePlan, RouteWarning, RoutingError,
    ServerElsewhere,
};

/// The routes of both families while the servers are tried, those included that are rehearsed.
pub(super) struct Held {
    families: Vec<FamilyRoutes>,
    /// The signal that came meanwhile. It waits until what was rehearsed is gone.
    signal: Arc<AtomicUsize>,
}

/// From where the servers of a family can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// From this host, and from this client, which does not exist: the answers to it may come back.
    Client(IpAddr),
    /// From this host only, for this reason.
    HostOnly(&'static str),
    /// Not at all: this host has not got the family.
    Nobody,
}

struct FamilyRoutes {
    family: Family,
    row: Row,
    reach: Reach,
    elsewhere: Vec<ServerElsewhere>,
    rehearsed: Option<InstalledRoutes>,
}

// === impl Held ===

impl Held {
    /// Looks at the routes; with `--setup-routes`, rehearses them.
    pub(super) fn take(config: &Config, resolved: &Resolved) -> Self {
        let signal = Arc::new(AtomicUsize::new(0));
        if config.setup_routes {
            for number in [SIGHUP, SIGINT, SIGTERM] {
                // If it fails, a signal at the wrong moment leaves routes to a client that does not exist.
                let _ = flag::register_usize(
                    number,
                    Arc::clone(&signal),
                    number.unsigned_abs() as usize,
                );
            }
        }
        let families =
            [Family::V4, Family::V6].map(|family| FamilyRoutes::of(config, resolved, family));
        Self {
            families: families.into(),
            signal,
        }
    }

    /// A row for each family.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.families.iter().map(|it| it.row.clone())
    }

    /// From where the servers of a family can be tried.
    pub(super) fn reach(&self, family: Family) -> Reach {
        let routes = self.families.iter().find(|it| it.family == family);
        routes.map_or(Reach::Nobody, |it| it.reach)
    }

    /// The servers that are on other hosts.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = &ServerElsewhere> {
        self.families.iter().flat_map(|it| &it.elsewhere)
    }

    /// Removes what was rehearsed. Gives rows only if that fails.
    pub(super) fn release(self) -> Vec<Row> {
        let rehearsed = self.families.into_iter().filter_map(|it| it.rehearsed);
        let failed = rehearsed.filter_map(|routes| routes.remove().err());
        let rows = failed.map(|error| failed_row("routes", &error)).collect();
        if let Ok(signal @ 1..) = i32::try_from(self.signal.load(Ordering::Relaxed)) {
            // It does not return for these signals, and if it should, the check is over all the same.
            let _ = low_level::emulate_default_handler(signal);
        }
        rows
    }
}

// === impl FamilyRoutes ===

impl FamilyRoutes {
    fn of(config: &Config, resolved: &Resolved, family: Family) -> Self {
        let (subject, plan) = (subject(family), plan(config, resolved, family));
        let number = number(family);
        if plan.v4.is_empty() && plan.v6.is_empty() {
            let finding = if names::has_failed(resolved, family) {
                format!("it is not known where the server for IPv{number} clients is")
            } else {
                format!("-{number} says that there is no server for IPv{number} clients")
            };
            let row = Row::new(subject, Verdict::Skip, finding);
            return Self::without(family, row, Reach::Nobody);
        }
        let client = match routing::absent_client(family) {
            Ok(client) => client,
            Err(error) => {
                let row = failed_row(subject, &error);
                let why = "its routes cannot be looked at";
                return Self::without(family, row, Reach::HostOnly(why));
            }
        };
        let mut routes = if config.setup_routes {
            Self::rehearse(family, subject, &plan, client)
        } else {
            Self::look(family, subject, &plan, client)
        };
        if routes.row.verdict == Verdict::Fail && is_afterthought(config, family) {
            routes.row.verdict = Verdict::Warn;
        }
        routes
    }

    fn without(family: Family, row: Row, reach: Reach) -> Self {
        Self {
            family,
            row,
            reach,
            elsewhere: Vec::new(),
            rehearsed: None,
        }
    }

    /// Loopback has not got the family. That matters to whoever named a server.
    fn absent(family: Family, subject: &str, plan: &RoutePlan) -> Self {
        let row = if plan.unnamed.contains(&family) {
            let finding = format!("this host has no {family}, or has it switched off");
            Row::new(subject, Verdict::Skip, finding)
        } else {
            let finding = format!(
                "loopback has no {family} address, so the server's replies would not come back: run"
            );
            Row::new(subject, Verdict::Fail, finding).mended_by(family.loopback_commands())
        };
        Self::without(family, row, Reach::Nobody)
    }

    fn rehearse(family: Family, subject: &str, plan: &RoutePlan, client: IpAddr) -> Self {
        let rehearsed = match routing::rehearse(plan) {
            Ok(rehearsed) if !rehearsed.skipped().is_empty() => {
                return Self::absent(family, subject, plan);
            }
            Ok(rehearsed) => rehearsed,
            Err(error) => {
                let row = failed_row(subject, &error);
                return Self::without(family, row, Reach::HostOnly("its routes cannot be set up"));
            }
        };
        let elsewhere = rehearsed.elsewhere().to_vec();
        let warnings = rehearsed.warnings();
        let (verdict, mut finding) = if warnings.is_empty() {
            (
                Verdict::Ok,
                vec!["--setup-routes can set them up".to_owned()],
            )
        } else {
            (Verdict::Warn, texts(warnings))
        };
        finding.extend(on_other_hosts(&elsewhere));
        Self {
            family,
            row: Row::new(subject, verdict, finding.join("; ")),
            reach: Reach::Client(client),
            elsewhere,
            rehearsed: Some(rehearsed),
        }
    }

    fn look(family: Family, subject: &str, plan: &RoutePlan, client: IpAddr) -> Self {
        let check = match routing::check(plan) {
            Ok(check) if !check.skipped.is_empty() => return Self::absent(family, subject, plan),
            Ok(check) => check,
            Err(error) => {
                let row = failed_row(subject, &error);
                return Self::without(
                    family,
                    row,
                    Reach::HostOnly("its routes cannot be looked at"),
                );
            }
        };
        let reach = if check.missing.is_empty() {
            Reach::Client(client)
        } else {
            Reach::HostOnly("without its routes the server's answers would leave this host")
        };
        Self {
            elsewhere: check.elsewhere.clone(),
            ..Self::without(family, looked(subject, check), reach)
        }
    }
}

/// What there is to say of routes that somebody else sets up.
fn looked(subject: &str, check: RouteCheck) -> Row {
    let mut finding = texts(&check.warnings);
    finding.extend(on_other_hosts(&check.elsewhere));
    if !check.missing.is_empty() {
        finding.push(
            "the server's replies would not come back: add --setup-routes, or run".to_owned(),
        );
        let commands = [check.missing, check.missing_for_wildcard_udp].concat();
        return Row::new(subject, Verdict::Fail, finding.join("; ")).mended_by(commands);
    }
    if !check.warnings.is_empty() {
        return Row::new(subject, Verdict::Warn, finding.join("; "));
    }
    if !check.missing_for_wildcard_udp.is_empty() {
        finding.push(
            "enough, but not for a UDP server bound to 0.0.0.0 or [::]: for that add --setup-routes, or run"
                .to_owned(),
        );
        let commands = check.missing_for_wildcard_udp;
        return Row::new(subject, Verdict::Warn, finding.join("; ")).mended_by(commands);
    }
    let here = match check.elsewhere.as_slice() {
        [] => "the server's replies come back",
        _ => "the server's replies come back if they come to this host",
    };
    finding.insert(0, here.to_owned());
    Row::new(subject, Verdict::Ok, finding.join("; "))
}

fn failed_row(subject: &str, error: &RoutingError) -> Row {
    Row::new(subject, Verdict::Fail, error).mended_by(error.commands())
}

fn texts(warnings: &[RouteWarning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

/// What is not to be seen from here. Whether a client there gets an answer shows it.
fn on_other_hosts(servers: &[ServerElsewhere]) -> Option<String> {
    let targets: Vec<String> = servers.iter().map(|it| it.target.to_string()).collect();
    let targets = targets.join(", ");
    let is_some = !servers.is_empty();
    is_some.then(|| format!("on another host, which must route its answers here: {targets}"))
}

fn plan(config: &Config, resolved: &Resolved, family: Family) -> RoutePlan {
    let mut plan = route_plan(config, &resolved.frontends);
    match family {
        Family::V4 => plan.v6.clear(),
        Family::V6 => plan.v4.clear(),
    }
    plan
}

fn subject(family: Family) -> &'static str {
    match family {
        Family::V4 => "routes-v4",
        Family::V6 => "routes-v6",
    }
}
