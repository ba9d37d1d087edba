//! A network of the demonstration's own.

use std::fs;
use std::io;

use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};

use super::DemoError;
use crate::host;
use crate::routing;
use crate::sys::namespace::{unshare_network, unshare_user_and_network};

/// What the host's owner can forbid user namespaces with: the sysctl, the value that forbids, and the one that allows.
const SYSCTLS: [(&str, &str, &str); 3] = [
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
];

/// Moves this process into a network namespace, in a user namespace of its own unless it is root enough, and brings
/// the loopback device up. It must have one thread only.
pub(super) fn enter() -> Result<(), DemoError> {
    let (user, group) = (geteuid(), getegid());
    if unshare_network().is_err() {
        // A program with file capabilities may not write to its own files under /proc otherwise (prctl(2)).
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        let entered = unshare_user_and_network().and_then(|()| {
            // Root in there: what it executes keeps its capabilities (user_namespaces(7)).
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
            fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
        });
        entered.map_err(|error| forbidden(&error))?;
    }
    Ok(routing::raise_loopback()?)
}

/// Tells who stands in the way.
fn forbidden(error: &io::Error) -> DemoError {
    let value = |name: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(path).unwrap_or_default()
    };
    let (reason, mend) = match SYSCTLS
        .iter()
        .find(|(name, off, _)| value(name).trim() == *off)
    {
        Some((name, off, on)) => (
            format!("{name}={off}"),
            format!("`sudo sysctl -w {name}={on}`"),
        ),
        None if host::filtered() => (
            "a seccomp filter".to_owned(),
            "a profile that allows unshare (Docker: `--security-opt seccomp=unconfined`)"
                .to_owned(),
        ),
        None => (
            "the kernel, or a security module such as AppArmor or SELinux".to_owned(),
            "its profile".to_owned(),
        ),
    };
    DemoError::Forbidden {
        reason,
        error: error.to_string(),
        mend,
    }
}
