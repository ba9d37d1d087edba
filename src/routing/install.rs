//! Rules and routes put into the kernel, and taken out again.

mod put_back;
mod warnings;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;

use self::warnings::installed_warnings;
use super::error::{RouteWarning, RoutingError};
use super::kernel::Kernel;
use super::message::Entry;
use super::need::{Host, Need};
use super::netlink::NetlinkError;
use super::plan::{FamilyPlan, RoutePlan};
use super::rule::Family;
use super::slot::Slot;
use super::way::{ServerElsewhere, Way};
use super::{Present, open, present_families, while_doing};

/// Servers' former addresses whose rules stay for connections that are open to them.
const FORMER_MAX: usize = 8;

/// Our rules and routes in the kernel. They go when this is dropped; [`InstalledRoutes::remove`] also says whether that
/// went well.
#[derive(Debug)]
#[must_use = "the rules and routes are removed when this is dropped"]
pub struct InstalledRoutes {
    /// What is in the kernel because of us, in the order it was added. Only emptied with the slot still held.
    entries: Vec<Entry>,
    /// The rules of the plan and of the former ones, latest first, whoever added them.
    plans: VecDeque<Vec<Entry>>,
    slot: Slot,
    clients: Clients,
    /// How packets got to the servers of the plan when they last did.
    ways: Vec<(Host, Way)>,
    families: Vec<Family>,
    skipped: Vec<Family>,
    warnings: Vec<RouteWarning>,
    elsewhere: Vec<ServerElsewhere>,
}

/// Whose replies are to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    All,
    /// Those that do not exist ([`absent_client`](fn@super::absent_client)): no traffic but a test's is touched.
    Absent {
        v4: IpAddr,
        v6: IpAddr,
    },
}

/// Puts the rules and routes of a plan into the kernel, after removing what killed instances left there.
///
/// A family that this host does not have is skipped. If anything fails, what was added up to then is removed.
///
/// # Errors
///
/// [`RoutingError::NotPermitted`] without CAP_NET_ADMIN in the network namespace's user namespace,
/// [`RoutingError::NoRoute`], [`RoutingError::PortInNoRule`], [`RoutingError::NoFreeSlot`], or what the kernel answered.
pub fn install(plan: &RoutePlan) -> Result<InstalledRoutes, RoutingError> {
    install_for(open()?, Clients::All, plan)
}

/// As [`install`](fn@install), but only for replies to a client that does not exist
/// ([`absent_client`](fn@super::absent_client)), and without removing what killed instances left: to find out whether it
/// could be done, and whether it would help.
///
/// # Errors
///
/// Those of [`install`](fn@install).
pub fn rehearse(plan: &RoutePlan) -> Result<InstalledRoutes, RoutingError> {
    let mut kernel = open()?;
    let mut absent = |family| {
        let client = kernel.client(family);
        client.map_err(while_doing("looking for an address that nobody has"))
    };
    let clients = Clients::Absent {
        v4: absent(Family::V4)?,
        v6: absent(Family::V6)?,
    };
    install_for(kernel, clients, plan)
}

fn install_for(
    mut kernel: Kernel,
    clients: Clients,
    plan: &RoutePlan,
) -> Result<InstalledRoutes, RoutingError> {
    let present = reachable(&mut kernel, plan, &[])?;
    let slot = Slot::claim()
        .map_err(no_slot)?
        .ok_or(RoutingError::NoFreeSlot)?;
    let mut installed = InstalledRoutes {
        entries: Vec::new(),
        plans: VecDeque::new(),
        slot,
        clients,
        ways: Vec::new(),
        families: Vec::new(),
        skipped: Vec::new(),
        warnings: Vec::new(),
        elsewhere: Vec::new(),
    };
    if clients == Clients::All {
        installed.remove_leftovers(&mut kernel, &present)?;
    }
    installed.add_plan(&mut kernel, present)?;
    Ok(installed)
}

/// The plan on this host, if there is, or is known to have been, a way to all its servers and back.
fn reachable(
    kernel: &mut Kernel,
    plan: &RoutePlan,
    known: &[(Host, Way)],
) -> Result<Present, RoutingError> {
    let present = present_families(kernel, plan, known)?;
    if let Some(target) = present.unreachable.first() {
        return Err(RoutingError::NoRoute(*target));
    }
    let needs = present.families.iter().flat_map(|family| &family.needs);
    let mut bound = needs.filter(|need| !need.reply.wildcard);
    match bound.find_map(Need::without_rule) {
        Some(server) => Err(RoutingError::PortInNoRule(server)),
        None => Ok(present),
    }
}

// === impl Clients ===

impl Clients {
    /// The entry for replies to these clients only.
    fn narrow(self, entry: Entry) -> Entry {
        match (self, entry.family()) {
            (Self::All, _) => entry,
            (Self::Absent { v4, .. }, Family::V4) => entry.for_client(v4),
            (Self::Absent { v6, .. }, Family::V6) => entry.for_client(v6),
        }
    }
}

// === impl InstalledRoutes ===

impl InstalledRoutes {
    /// What may keep replies from coming back all the same.
    pub fn warnings(&self) -> &[RouteWarning] {
        &self.warnings
    }

    /// Families of the plan that have their rules and routes.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Families of the plan that this host does not have, or has switched off.
    pub fn skipped(&self) -> &[Family] {
        &self.skipped
    }

    /// Servers on other hosts, which need something there as well.
    pub fn elsewhere(&self) -> &[ServerElsewhere] {
        &self.elsewhere
    }

    /// Adds what a plan with other addresses of the same servers needs. The rules for their former addresses stay as
    /// well, for what is open to them, up to eight of them. Says how many rules and routes there are now that there were
    /// not before. With the same plan, that is what has come to be missing by other changes, as of an interface's name.
    ///
    /// # Errors
    ///
    /// As [`install`](fn@install); then everything is as it was before. A server that was in the plan before may have become
    /// unreachable, though: its rules stay, and that is a warning.
    pub fn follow(&mut self, plan: &RoutePlan) -> Result<usize, RoutingError> {
        let mut kernel = open()?;
        let present = reachable(&mut kernel, plan, &self.ways)?;
        let (plans, entries) = (self.plans.len(), self.entries.len());
        let added = self.add_plan(&mut kernel, present);
        if added.is_err() && self.plans.len() > plans {
            self.plans.pop_front();
        }
        let count = self.entries.len() - entries;
        self.plans.truncate(1 + FORMER_MAX);
        let removed = self.remove_outdated(&mut kernel);
        added.and(removed).map(|()| count)
    }

    /// Removes exactly what [`install`](fn@install) and [`follow`](Self::follow) added, and [`put_back`](Self::put_back)
    /// again. What somebody else has removed meanwhile does not matter.
    ///
    /// # Errors
    ///
    /// The first failure, after everything was tried.
    pub fn remove(mut self) -> Result<(), RoutingError> {
        self.remove_entries()
    }

    fn add_plan(&mut self, kernel: &mut Kernel, present: Present) -> Result<(), RoutingError> {
        let priority = self.slot.priority();
        let rules = present.families.iter().flat_map(FamilyPlan::rules);
        let rules = rules.map(|rule| self.clients.narrow(Entry::rule(&rule, priority)));
        let rules: Vec<Entry> = rules.collect();
        if self.plans.front() != Some(&rules) {
            self.plans.push_front(rules);
        }
        for family in &present.families {
            self.add_family(kernel, family, &present)?;
        }
        self.warnings.clear();
        let lost = present.lost.iter().copied();
        self.warnings.extend(lost.map(RouteWarning::NoRoute));
        for family in &present.families {
            // What else the kernel would say of those tells nothing.
            let family = &family.without(&present.lost);
            let doing = "checking the new routes";
            let warnings = installed_warnings(kernel, family).map_err(while_doing(doing))?;
            let overtaken = self.would_be_overtaken(kernel, family);
            self.warnings.extend(warnings);
            self.warnings.extend(overtaken.map_err(while_doing(doing))?);
        }
        self.ways = present.ways;
        self.families = present.families.iter().map(|it| it.family).collect();
        self.skipped = present.skipped;
        self.elsewhere = present.elsewhere;
        Ok(())
    }

    fn add_family(
        &mut self,
        kernel: &mut Kernel,
        family: &FamilyPlan,
        present: &Present,
    ) -> Result<(), RoutingError> {
        // The route comes first, so that the rules never point to an empty table.
        let priority = self.slot.priority();
        let route = self.clients.narrow(Entry::route(&family.route, priority));
        if !self.replace_route(kernel, &route)? {
            self.add(kernel, route, &family.route, present)?;
        }
        for rule in family.rules() {
            let entry = self.clients.narrow(Entry::rule(&rule, priority));
            self.add(kernel, entry, &rule, present)?;
        }
        Ok(())
    }

    /// Gives the route of a former plan the new source address. Whether there was one to do that with.
    fn replace_route(&mut self, kernel: &mut Kernel, new: &Entry) -> Result<bool, RoutingError> {
        let Entry::Route(route) = new else {
            return Ok(false);
        };
        let same_family = |entry: &&mut Entry| matches!(entry, Entry::Route(old) if old.header.address_family == route.header.address_family);
        let Some(old) = self.entries.iter_mut().find(same_family) else {
            return Ok(false);
        };
        if old != new {
            kernel
                .replace_route(route.clone())
                .map_err(while_doing("replacing a route"))?;
            old.clone_from(new);
        }
        Ok(true)
    }

    fn add(
        &mut self,
        kernel: &mut Kernel,
        entry: Entry,
        command: &dyn fmt::Display,
        present: &Present,
    ) -> Result<(), RoutingError> {
        if self.entries.contains(&entry) {
            return Ok(());
        }
        match kernel.add(&entry) {
            Ok(true) => self.entries.push(entry),
            Ok(false) => {}
            Err(e) => {
                let doing = format!("the kernel refused `{command}`");
                return Err(refused(e, &doing, present));
            }
        }
        Ok(())
    }

    /// Removes what carries our tag and our slot's number, or the number of a slot that nobody holds.
    fn remove_leftovers(&self, kernel: &mut Kernel, present: &Present) -> Result<(), RoutingError> {
        let doing = "removing what an earlier instance left";
        for family in [Family::V4, Family::V6] {
            for entry in kernel.tagged(family).map_err(while_doing(doing))? {
                // Held during the removal, so that nobody can start to use the number meanwhile.
                let abandoned = Slot::claim_priority(entry.priority()).map_err(no_slot)?;
                if abandoned.is_some() || entry.priority() == self.slot.priority() {
                    kernel
                        .remove(&entry)
                        .map_err(|e| refused(e, doing, present))?;
                }
            }
        }
        Ok(())
    }

    /// Removes our rules that no plan has any more.
    fn remove_outdated(&mut self, kernel: &mut Kernel) -> Result<(), RoutingError> {
        let plans = &self.plans;
        let is_outdated = |entry: &mut Entry| {
            matches!(entry, Entry::Rule(_)) && !plans.iter().any(|plan| plan.contains(entry))
        };
        let outdated: Vec<Entry> = self.entries.extract_if(.., is_outdated).collect();
        remove_all(kernel, outdated)
    }

    fn remove_entries(&mut self) -> Result<(), RoutingError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut kernel = open()?;
        remove_all(&mut kernel, std::mem::take(&mut self.entries))
    }
}

impl Drop for InstalledRoutes {
    fn drop(&mut self) {
        if let Err(e) = self.remove_entries() {
            tracing::warn!("{e}");
        }
    }
}

/// Removes entries of ours, the last first.
fn remove_all(kernel: &mut Kernel, entries: Vec<Entry>) -> Result<(), RoutingError> {
    let mut outcome = Ok(());
    for entry in entries.iter().rev() {
        let removed = kernel.remove(entry).map_err(|e| match e {
            e if e.is_refusal(&[libc::EPERM]) => RoutingError::RemovalNotPermitted,
            e => while_doing("removing our rules and routes")(e),
        });
        outcome = outcome.and(removed);
    }
    outcome
}

fn no_slot(cause: io::Error) -> RoutingError {
    RoutingError::System {
        doing: "claiming a number for our rules and routes".to_owned(),
        cause,
    }
}

fn refused(e: NetlinkError, doing: &str, present: &Present) -> RoutingError {
    if e.is_refusal(&[libc::EPERM]) {
        let commands = present.families.iter().flat_map(FamilyPlan::commands);
        return RoutingError::NotPermitted {
            commands: commands.collect(),
        };
    }
    while_doing(doing)(e)
}
