//! What somebody else has removed of ours is put back: systemd-networkd, for one, removes rules and routes that it does
//! not know when it is started again.

use super::InstalledRoutes;
use crate::routing::error::RoutingError;
use crate::routing::kernel::Kernel;
use crate::routing::netlink::NetlinkError;
use crate::routing::rule::Family;
use crate::routing::{is_present, open, while_doing};

// === impl InstalledRoutes ===

impl InstalledRoutes {
    /// Adds again what was added and is no longer there, those for former addresses included; a family that this host
    /// does not have now is skipped. What is there stays as it is. Says how many were added.
    ///
    /// # Errors
    ///
    /// [`RoutingError::System`]: what the kernel answered, at the first that it refused.
    pub fn put_back(&mut self) -> Result<usize, RoutingError> {
        let mut kernel = open()?;
        let mut count = 0;
        for family in [Family::V4, Family::V6] {
            if is_present(&mut kernel, family)? {
                let added = self.put_back_family(&mut kernel, family);
                count += added.map_err(while_doing("putting rules and routes back"))?;
            }
        }
        Ok(count)
    }

    fn put_back_family(&self, kernel: &mut Kernel, family: Family) -> Result<usize, NetlinkError> {
        self.uncover(kernel, family)?;
        let mut count = 0;
        // In the order they were added, so that the rules never point to an empty table.
        for entry in self.entries.iter().filter(|it| it.family() == family) {
            count += usize::from(kernel.add(entry)?);
        }
        Ok(count)
    }

    /// Removes rules with a source if one without is missing: the kernel would take that for there already (see
    /// `FamilyPlan::rules`).
    fn uncover(&self, kernel: &mut Kernel, family: Family) -> Result<(), NetlinkError> {
        let found = kernel.tagged(family)?;
        let rules = self.entries.iter().filter(|it| it.family() == family);
        let (with_source, without): (Vec<_>, Vec<_>) = rules
            .filter(|it| it.is_rule())
            .partition(|it| it.has_source());
        let is_there = |&rule: &_| found.iter().any(|it| it.is_same_rule(rule));
        if without.iter().all(is_there) {
            return Ok(());
        }
        for rule in with_source {
            kernel.remove(rule)?;
        }
        Ok(())
    }
}
