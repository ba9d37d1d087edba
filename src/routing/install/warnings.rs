//! What may keep replies from coming back although everything was added.

use super::{Clients, InstalledRoutes};
use crate::routing::chosen;
use crate::routing::error::RouteWarning;
use crate::routing::kernel::{DefaultRoute, Kernel};
use crate::routing::netlink::NetlinkError;
use crate::routing::plan::FamilyPlan;
use crate::routing::rule::LocalRoute;

// === impl InstalledRoutes ===

impl InstalledRoutes {
    /// In a rehearsal: somebody's route that would come before ours in earnest, while the rehearsed one is narrower and so
    /// comes first.
    pub(super) fn would_be_overtaken(
        &self,
        kernel: &mut Kernel,
        family: &FamilyPlan,
    ) -> Result<Vec<RouteWarning>, NetlinkError> {
        if self.clients == Clients::All {
            return Ok(Vec::new());
        }
        let LocalRoute { source, table } = family.route;
        let routes = kernel.default_routes(family.family, table)?;
        let before_ours = chosen(&routes).filter(|found| found.metric < self.slot.priority());
        let metric = before_ours.map_or(self.slot.priority(), |found| found.metric);
        let obstacle = kernel.obstacle_before(metric, family.family, table)?;
        if obstacle.is_some() {
            let possible = family.needs.iter().filter(|need| need.rule.is_possible());
            return Ok(possible
                .map(|need| RouteWarning::overruled(need, obstacle))
                .collect());
        }
        let found = before_ours.filter(|found| !found.tagged && found.source != Some(source));
        let matters = family.needs.iter().any(|need| need.reply.wildcard);
        let found = found.filter(|_| matters);
        Ok(found
            .map(|found| foreign_route(family, found))
            .into_iter()
            .collect())
    }
}

/// What [`install`](fn@super::install) has to tell after everything was added.
pub(super) fn installed_warnings(
    kernel: &mut Kernel,
    family: &FamilyPlan,
) -> Result<Vec<RouteWarning>, NetlinkError> {
    let LocalRoute { source, table } = family.route;
    let routes = kernel.default_routes(family.family, table)?;
    let other_instances = routes
        .iter()
        .filter(|route| route.tagged)
        .filter_map(|it| it.source);
    let mut warnings: Vec<RouteWarning> = other_instances
        .filter(|other| *other != source)
        .map(|other| RouteWarning::SharedTable { table, other })
        .chain(family.shortcoming.clone())
        .collect();
    for need in &family.needs {
        if kernel.returns(&need.reply, None)? {
            continue;
        }
        if let Some(warning) = RouteWarning::without_rule(need) {
            warnings.push(warning);
            continue;
        }
        match chosen(&routes) {
            Some(found) if need.reply.wildcard && found.source != Some(source) => {
                // A tagged one was reported above.
                if !found.tagged {
                    warnings.push(foreign_route(family, found));
                }
            }
            _ => {
                let obstacle = kernel.obstacle(family.family, table)?;
                warnings.push(RouteWarning::overruled(need, obstacle));
            }
        }
    }
    Ok(warnings)
}

fn foreign_route(family: &FamilyPlan, found: DefaultRoute) -> RouteWarning {
    RouteWarning::ForeignRoute {
        family: family.family,
        table: family.route.table,
        found: found.source,
        mend: family
            .route
            .replace_command(found.metric_typed(family.family)),
    }
}
