//! Rules and routes put into the kernel, and taken out again.

use std::fmt;
use std::io;

use super::error::{RouteWarning, RoutingError};
use super::kernel::{DefaultRoute, Kernel};
use super::message::Entry;
use super::netlink::NetlinkError;
use super::plan::{FamilyPlan, RoutePlan};
use super::rule::{Family, LocalRoute};
use super::slot::Slot;
use super::{chosen, open, present_families, while_doing};

/// Our rules and routes in the kernel. They go when this is dropped; [`InstalledRoutes::remove`] also says whether that
/// went well.
#[derive(Debug)]
#[must_use = "the rules and routes are removed when this is dropped"]
pub struct InstalledRoutes {
    /// What is in the kernel because of us, in the order it was added. Only emptied with the slot still held.
    entries: Vec<Entry>,
    slot: Slot,
    skipped: Vec<Family>,
    warnings: Vec<RouteWarning>,
}

/// Puts the rules and routes of a plan into the kernel, after removing what killed instances left there.
///
/// A family that this host does not have is skipped. If anything fails, what was added up to then is removed.
///
/// # Errors
///
/// [`RoutingError::NotPermitted`] without CAP_NET_ADMIN in the network namespace's user namespace,
/// [`RoutingError::TargetNotLocal`], [`RoutingError::NoFreeSlot`], or what the kernel answered.
pub fn install(plan: &RoutePlan) -> Result<InstalledRoutes, RoutingError> {
    let mut kernel = open()?;
    let (families, skipped) = present_families(&mut kernel, plan)?;
    for family in &families {
        for &target in &family.targets {
            if !kernel
                .is_local(target)
                .map_err(while_doing("looking up the target"))?
            {
                return Err(RoutingError::TargetNotLocal(target));
            }
        }
    }

    let slot = Slot::claim()
        .map_err(no_slot)?
        .ok_or(RoutingError::NoFreeSlot)?;
    let mut installed = InstalledRoutes {
        entries: Vec::new(),
        slot,
        skipped,
        warnings: Vec::new(),
    };
    installed.remove_leftovers(&mut kernel, plan)?;
    for family in &families {
        installed.add_family(&mut kernel, family, plan)?;
    }
    for family in &families {
        let warnings = installed_warnings(&mut kernel, family);
        installed
            .warnings
            .extend(warnings.map_err(while_doing("checking the new routes"))?);
    }
    Ok(installed)
}

// === impl InstalledRoutes ===

impl InstalledRoutes {
    /// What may keep replies from coming back all the same.
    pub fn warnings(&self) -> &[RouteWarning] {
        &self.warnings
    }

    /// Families of the plan that this host does not have, or has switched off.
    pub fn skipped(&self) -> &[Family] {
        &self.skipped
    }

    /// Removes exactly what [`install`](fn@install) added. What somebody else has removed meanwhile does not matter.
    ///
    /// # Errors
    ///
    /// The first failure, after everything was tried.
    pub fn remove(mut self) -> Result<(), RoutingError> {
        self.remove_entries()
    }

    fn add_family(
        &mut self,
        kernel: &mut Kernel,
        family: &FamilyPlan,
        plan: &RoutePlan,
    ) -> Result<(), RoutingError> {
        // The route comes first, so that the rules never point to an empty table.
        let priority = self.slot.priority();
        self.add(
            kernel,
            Entry::route(&family.route, priority),
            &family.route,
            plan,
        )?;
        for rule in family.rules() {
            self.add(kernel, Entry::rule(&rule, priority), &rule, plan)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        kernel: &mut Kernel,
        entry: Entry,
        command: &dyn fmt::Display,
        plan: &RoutePlan,
    ) -> Result<(), RoutingError> {
        match kernel.add(&entry) {
            Ok(true) => self.entries.push(entry),
            Ok(false) => {}
            Err(e) => return Err(refused(e, &format!("the kernel refused `{command}`"), plan)),
        }
        Ok(())
    }

    /// Removes what carries our tag and our slot's number, or the number of a slot that nobody holds.
    fn remove_leftovers(&self, kernel: &mut Kernel, plan: &RoutePlan) -> Result<(), RoutingError> {
        let doing = "removing what an earlier instance left";
        for family in [Family::V4, Family::V6] {
            for entry in kernel.tagged(family).map_err(while_doing(doing))? {
                // Held during the removal, so that nobody can start to use the number meanwhile.
                let abandoned = Slot::claim_priority(entry.priority()).map_err(no_slot)?;
                if abandoned.is_some() || entry.priority() == self.slot.priority() {
                    kernel.remove(&entry).map_err(|e| refused(e, doing, plan))?;
                }
            }
        }
        Ok(())
    }

    fn remove_entries(&mut self) -> Result<(), RoutingError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut kernel = open()?;
        let mut outcome = Ok(());
        while let Some(entry) = self.entries.pop() {
            let removed = kernel.remove(&entry).map_err(|e| match e {
                e if e.is_refusal(&[libc::EPERM]) => RoutingError::RemovalNotPermitted,
                e => while_doing("removing our rules and routes")(e),
            });
            outcome = outcome.and(removed);
        }
        outcome
    }
}

impl Drop for InstalledRoutes {
    fn drop(&mut self) {
        if let Err(e) = self.remove_entries() {
            tracing::warn!("{e}");
        }
    }
}

/// What [`install`](fn@install) has to tell after everything was added.
fn installed_warnings(
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
        match chosen(&routes) {
            Some(found) if need.reply.wildcard && found.source != Some(source) => {
                // A tagged one was reported above.
                if !found.tagged {
                    warnings.push(foreign_route(family, found));
                }
            }
            _ => warnings.push(RouteWarning::overruled(need)),
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

fn no_slot(cause: io::Error) -> RoutingError {
    RoutingError::System {
        doing: "claiming a number for our rules and routes".to_owned(),
        cause,
    }
}

fn refused(e: NetlinkError, doing: &str, plan: &RoutePlan) -> RoutingError {
    if e.is_refusal(&[libc::EPERM]) {
        return RoutingError::NotPermitted {
            commands: plan.commands(),
        };
    }
    while_doing(doing)(e)
}
