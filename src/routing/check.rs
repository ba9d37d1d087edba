//! What is missing, for hosts whose owner sets up the routes.

use super::error::{RouteWarning, RoutingError};
use super::kernel::Kernel;
use super::need::Need;
use super::netlink::NetlinkError;
use super::plan::{FamilyPlan, RoutePlan};
use super::rule::Family;
use super::way::ServerElsewhere;
use super::{chosen, open, present_families, while_doing};

/// What [`check`](fn@check) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteCheck {
    /// The shell commands to type before servers bound to their target address get their replies back to us.
    pub missing: Vec<String>,
    /// The shell commands to type, after those, for UDP servers bound to the wildcard address.
    pub missing_for_wildcard_udp: Vec<String>,
    /// Families that this host does not have, or has switched off.
    pub skipped: Vec<Family>,
    /// What no command of ours would mend.
    pub warnings: Vec<RouteWarning>,
    /// Servers on other hosts, which need something there as well.
    pub elsewhere: Vec<ServerElsewhere>,
}

/// Asks the kernel where the server's replies would go, and says what is missing for them to come back. Changes nothing
/// and needs no capability.
///
/// # Errors
///
/// [`RoutingError::System`] if the kernel could not be asked or did not answer within two seconds.
pub fn check(plan: &RoutePlan) -> Result<RouteCheck, RoutingError> {
    let mut kernel = open()?;
    let present = present_families(&mut kernel, plan, &[])?;
    let mut found = RouteCheck {
        skipped: present.skipped,
        warnings: present
            .unreachable
            .into_iter()
            .map(RouteWarning::NoRoute)
            .collect(),
        elsewhere: present.elsewhere,
        ..RouteCheck::default()
    };
    for family in &present.families {
        let checked = found.add_family(&mut kernel, family, plan.mark);
        checked.map_err(while_doing("checking the routes"))?;
    }
    Ok(found)
}

// === impl RouteCheck ===

impl RouteCheck {
    fn add_family(
        &mut self,
        kernel: &mut Kernel,
        family: &FamilyPlan,
        mark: Option<u32>,
    ) -> Result<(), NetlinkError> {
        self.warnings.extend(family.shortcoming.clone());
        for need in &family.needs {
            if is_met(kernel, need, mark)? {
                continue;
            }
            if let Some(warning) = RouteWarning::without_rule(need) {
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
                continue;
            }
            let commands = missing_commands(kernel, family, need)?;
            if commands.is_empty() {
                let obstacle = kernel.obstacle(family.family, family.route.table)?;
                self.warnings.push(RouteWarning::overruled(need, obstacle));
            }
            self.add_commands(commands, need.reply.wildcard);
        }
        Ok(())
    }

    /// One command may serve several needs; it is typed once.
    fn add_commands(&mut self, commands: Vec<String>, wildcard: bool) {
        for command in commands {
            if self.missing.contains(&command) || self.missing_for_wildcard_udp.contains(&command) {
                continue;
            }
            let list = if wildcard {
                &mut self.missing_for_wildcard_udp
            } else {
                &mut self.missing
            };
            list.push(command);
        }
    }
}

/// A mark on our socket is on the replies too where the host's owner made it so, but never on those of a UDP server
/// on the wildcard address: their source address is chosen before any filter could mark them.
fn is_met(kernel: &mut Kernel, need: &Need, mark: Option<u32>) -> Result<bool, NetlinkError> {
    if kernel.returns(&need.reply, None)? {
        return Ok(true);
    }
    match mark {
        Some(_) if !need.reply.wildcard => kernel.returns(&need.reply, mark),
        _ => Ok(false),
    }
}

fn missing_commands(
    kernel: &mut Kernel,
    family: &FamilyPlan,
    need: &Need,
) -> Result<Vec<String>, NetlinkError> {
    let mut commands = Vec::new();
    let routes = kernel.default_routes(family.family, family.route.table)?;
    match chosen(&routes) {
        None => commands.push(family.route.to_string()),
        Some(found) if need.reply.wildcard && found.source != Some(family.route.source) => {
            commands.push(
                family
                    .route
                    .replace_command(found.metric_typed(family.family)),
            );
        }
        Some(_) => {}
    }
    if !kernel.has_rule(&need.rule)? {
        commands.push(need.rule.to_string());
    }
    Ok(commands)
}
