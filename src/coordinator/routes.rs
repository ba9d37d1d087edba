//! The way of the servers' replies back to this host: set up at the start, or checked.

use std::num::NonZeroU32;

use tracing::{info, warn};

use crate::addr::{Frontend, Targets};
use crate::config::Config;
use crate::routing::{self, Family, InstalledRoutes, RoutePlan, RoutingError, ServerElsewhere};

/// What this process does about routes.
pub(super) struct Routes {
    installed: Option<InstalledRoutes>,
    /// The plan for the servers' addresses in use.
    plan: RoutePlan,
    is_checked: bool,
}

// === impl Routes ===

impl Routes {
    /// Adds the routes if asked to; otherwise says what is missing.
    pub(super) fn prepare(config: &Config, frontends: &[Frontend]) -> Result<Self, RoutingError> {
        let mut routes = Self {
            installed: None,
            plan: route_plan(config, frontends),
            is_checked: config.route_check,
        };
        if config.setup_routes {
            let installed = routing::install(&routes.plan)?;
            tell_of(&installed, &routes.plan);
            if !installed.families().is_empty() {
                let families = list(installed.families());
                info!(table = %config.table, families, "routes set up");
            }
            routes.installed = Some(installed);
        } else if routes.is_checked {
            check(&routes.plan);
        }
        Ok(routes)
    }

    /// Does the same for servers that have moved.
    pub(super) fn follow(&mut self, frontends: &[Frontend]) -> Result<(), RoutingError> {
        let mut plan = self.plan.clone();
        plan.set_servers(targets(frontends));
        if let Some(installed) = &mut self.installed {
            installed.follow(&plan)?;
            tell_of(installed, &plan);
        } else if self.is_checked {
            check(&plan);
        }
        self.plan = plan;
        Ok(())
    }

    /// Adds again what somebody has removed of what was added, and what has come to be missing otherwise.
    pub(super) fn mend(&mut self) {
        let Some(installed) = &mut self.installed else {
            return;
        };
        let mut count = 0;
        let put_back = installed.put_back();
        for added in [put_back, installed.follow(&self.plan)] {
            match added {
                Ok(added) => count += added,
                Err(error) => warn!(%error, "cannot put the routes back"),
            }
        }
        warn_of(installed, &self.plan);
        if count > 0 {
            info!(count, "missing rules and routes put back");
            tell_of_servers_elsewhere(installed.elsewhere());
        }
    }

    /// Takes out what was added.
    pub(super) fn remove(self) -> Result<(), RoutingError> {
        self.installed.map_or(Ok(()), InstalledRoutes::remove)
    }
}

/// What has to be there for the servers' replies to come back.
pub(crate) fn route_plan(config: &Config, frontends: &[Frontend]) -> RoutePlan {
    let mut plan = RoutePlan::new(
        targets(frontends),
        config.protocols.tcp(),
        config.protocols.udp(),
        config.table,
    );
    plan.wildcard_udp = config.wildcard_udp;
    let named = [
        (Family::V4, config.target_v4_named),
        (Family::V6, config.target_v6_named),
    ];
    let unnamed = named.into_iter().filter(|(_, named)| !named);
    plan.unnamed = unnamed.map(|(family, _)| family).collect();
    plan.mark = config.mark.map(NonZeroU32::get);
    plan
}

fn targets(frontends: &[Frontend]) -> impl Iterator<Item = Targets> {
    frontends.iter().map(|frontend| frontend.targets)
}

fn list(families: &[Family]) -> String {
    let families: Vec<String> = families.iter().map(Family::to_string).collect();
    families.join(", ")
}

fn tell_of(routes: &InstalledRoutes, plan: &RoutePlan) {
    warn_of(routes, plan);
    tell_of_servers_elsewhere(routes.elsewhere());
}

fn warn_of(routes: &InstalledRoutes, plan: &RoutePlan) {
    tell_of_skipped(routes.skipped(), plan);
    for warning in routes.warnings() {
        warn!("{warning}");
    }
}

fn check(plan: &RoutePlan) {
    let check = match routing::check(plan) {
        Ok(check) => check,
        Err(error) => return warn!(%error, "cannot check the routes"),
    };
    tell_of_skipped(&check.skipped, plan);
    for warning in &check.warnings {
        warn!("{warning}");
    }
    tell_of_servers_elsewhere(&check.elsewhere);
    if !check.missing.is_empty() {
        let commands = check.missing.join("; ");
        warn!(
            commands,
            "the server's replies would not come back: add --setup-routes, or run these commands"
        );
    }
    if !check.missing_for_wildcard_udp.is_empty() {
        let commands = check.missing_for_wildcard_udp.join("; ");
        info!(
            commands,
            "a UDP server bound to 0.0.0.0 or [::] needs --setup-routes, or these commands as well"
        );
    }
}

/// Says which families are missing, but for those that nobody asked for: many a host has no IPv6, and the default of `-6`.
fn tell_of_skipped(skipped: &[Family], plan: &RoutePlan) {
    let named = skipped.iter().filter(|it| !plan.unnamed.contains(it));
    for family in named {
        let commands = family.loopback_commands().join("; ");
        warn!(
            commands,
            "loopback has no {family} address, so the server's replies to {family} clients do not come back: run these \
             commands, and start again"
        );
    }
}

/// Says what cannot be seen or done from here.
fn tell_of_servers_elsewhere(servers: &[ServerElsewhere]) {
    for server in servers {
        let target = server.target;
        if let Some(router) = server.router {
            info!(
                server = %target, %router,
                "the server is on another host, behind a router: both must route its answers to clients to this host"
            );
            continue;
        }
        let commands = server.commands.join("; ");
        info!(
            server = %target, commands,
            "the server is on another host, which must route its answers to clients to this one: by its default route, or \
             by these commands there"
        );
    }
}
