//! The way of the servers' replies back to this host: set up at the start, or checked.

use std::num::NonZeroU32;

use tracing::{info, warn};

use crate::config::Config;
use crate::routing::{self, Family, InstalledRoutes, RoutePlan, RoutingError, ServerElsewhere};

/// Adds the routes if asked to; otherwise says what is missing.
pub(super) fn prepare(config: &Config) -> Result<Option<InstalledRoutes>, RoutingError> {
    let mut plan = RoutePlan::new(
        config.frontends.iter().map(|frontend| frontend.targets),
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
    if config.setup_routes {
        let routes = routing::install(&plan)?;
        for warning in routes.warnings() {
            warn!("{warning}");
        }
        tell_of_servers_elsewhere(routes.elsewhere());
        info!(table = %config.table, "routes set up");
        return Ok(Some(routes));
    }
    if config.route_check {
        check(&plan);
    }
    Ok(None)
}

fn check(plan: &RoutePlan) {
    let check = match routing::check(plan) {
        Ok(check) => check,
        Err(error) => return warn!(%error, "cannot check the routes"),
    };
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
