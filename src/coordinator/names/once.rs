//! Names looked up once, by a thread that may wait and has no executor.

use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{LOOKUP_MAX, Lookup, NameError, Names};
use crate::addr::Frontend;
use crate::config::{NamedTargets, TargetName};
use crate::routing::Family;
use crate::sandbox::Keep;
use crate::shard::readiness::Readiness;

/// What came of the servers' names.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The frontends, with the servers where they are. Port 0 stands for one whose name came to no address.
    pub(crate) frontends: Vec<Frontend>,
    /// Each host once a family.
    pub(crate) names: Vec<LookedUp>,
}

/// A name that was looked up.
#[derive(Debug)]
pub(crate) struct LookedUp {
    pub(crate) family: Family,
    /// The first target on this host.
    pub(crate) name: TargetName,
    pub(crate) addr: Result<IpAddr, NameError>,
}

/// Looks all names up as a start does, all at once, and waits for them.
///
/// # Errors
///
/// As `epoll_create1(2)`. What is wrong with a name is in [`Resolved::names`].
pub(crate) fn resolve(frontends: &[Frontend<NamedTargets>]) -> io::Result<Resolved> {
    let mut names = Names::new(frontends, &Readiness::new()?, Keep::ALL);
    names.look_up();
    let deadline = Instant::now() + LOOKUP_MAX;
    let mut found = Vec::with_capacity(names.names.len());
    for name in &mut names.names {
        if let Some(Ok(lookup)) = &name.lookup {
            lookup.wait_until(deadline);
        }
        let taken = name.take_in();
        // A name that is taken in for the first time has a new address.
        let addr = taken.and_then(|()| {
            let addr = name.new.ok_or_else(|| name.failed("has no address"))?;
            Ok(addr.ip())
        });
        found.push(LookedUp {
            family: name.family,
            name: name.name.clone(),
            addr,
        });
    }
    Ok(Resolved {
        frontends: names.accept(),
        names: found,
    })
}

// === impl Lookup ===

impl Lookup {
    /// Waits for the answer. If that fails, there is none yet.
    fn wait_until(&self, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Zero would be for ever.
            let left = left.max(Duration::from_millis(1));
            let waiting = self.over.set_read_timeout(Some(left));
            match waiting.and_then(|()| Read::read(&mut &*self.over, &mut [0])) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}
