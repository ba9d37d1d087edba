//! Capabilities that the program's file has (setcap(8)), for a user who is not root.
//!
//! A file whose capabilities are *effective* cannot even be started where one of them is out of reach, as in a container
//! without `--cap-add`. One whose capabilities are only *permitted* can; it has to take them itself.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// What this program has a use for.
const USEFUL: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Takes what is permitted. Threads inherit it, so this comes before the first one.
///
/// What cannot be had is not an error here: the first thing that needs it fails, and says what is missing.
pub fn take_permitted() {
    let Ok(mut sets) = capabilities(None) else {
        return;
    };
    let missing = (sets.permitted & USEFUL) - sets.effective;
    if missing.is_empty() {
        return;
    }
    sets.effective |= missing;
    if set_capabilities(None, sets).is_ok() {
        // The kernel hides /proc/self of a process with such a file from its own user (PR_SET_DUMPABLE(2const)), and with
        // it the open files that the metrics count. Nothing here is secret from the user who started it.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
}
