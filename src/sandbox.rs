//! Least privilege: what each thread keeps once the proxy runs, should a bug ever let somebody else run code in it.
//!
//! Three parts, each for itself, as kernels and containers have some and lack others:
//!
//! - **Capabilities** (`privileges`): each thread keeps those that its work needs by the options in force. They are a
//!   thread's own and new threads inherit them, so each thread drops the rest as it begins.
//! - **Files** (`files`): Landlock, before there is a second thread, since it is inherited, too. What start-up reads is
//!   subject to it already: a rule that is missing shows at once, and not at the first reload.
//! - **System calls** (`calls`): a seccomp filter for all threads at once, when all of them, and their rings, are there.
//!
//! io_uring goes around the last one: what is submitted to a ring that exists is no system call. It is subject to the
//! other two. No new ring can be made, and glommio 0.9 has no way to limit what its rings take
//! (`IORING_REGISTER_RESTRICTIONS` is for rings that are made disabled).

mod calls;
mod files;
mod privileges;
#[cfg(test)]
mod tests;

use std::thread;

use rustix::thread::{CapabilitySet, set_no_new_privs};
use tracing::{debug, warn};

use self::files::Files;
pub(crate) use self::privileges::Keep;
use self::privileges::Privileges;
use crate::config::Config;

/// What keeps this process in its place, or nothing (`--no-sandbox`).
#[derive(Debug)]
pub struct Sandbox(Option<InForce>);

#[derive(Debug)]
struct InForce {
    privileges: Privileges,
    files: Files,
    /// Whether code may still be mapped: modules of the name service (nsswitch.conf(5)).
    maps_code: bool,
    /// What went wrong that should not.
    problems: Vec<String>,
}

/// What is in force, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// What each kind of thread keeps; others keep none.
    pub(crate) capabilities: [(&'static str, CapabilitySet); 3],
    /// The version of Landlock's interface, if the kernel has it.
    pub(crate) landlock_abi: Option<i32>,
    pub(crate) is_filtered: bool,
}

// === impl Sandbox ===

impl Sandbox {
    /// None at all.
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins to confine this process, unless `--no-sandbox` says not to. To be called before it has other threads.
    ///
    /// Nothing that cannot be had is an error: the process runs all the same, and says so.
    pub fn enter(config: &Config) -> Self {
        Self(config.sandbox.then(|| InForce::enter(config)))
    }

    /// Runs this on a thread without capabilities, so that threads it starts have none. The log, which is needed before
    /// anything else, cannot drop them itself.
    pub fn aside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let keep = self.keep(|_| CapabilitySet::empty());
        let done = thread::scope(|scope| {
            let aside = scope.spawn(move || {
                keep.apply();
                work()
            });
            aside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What a thread keeps that only answers or computes.
    pub(crate) fn keep_none(&self) -> Keep {
        self.keep(|_| CapabilitySet::empty())
    }

    /// What the thread of the access log keeps.
    pub(crate) fn keep_for_access_log(&self) -> Keep {
        self.keep(|it| it.access_log)
    }

    /// What a shard keeps.
    pub(crate) fn keep_for_shard(&self) -> Keep {
        self.keep(|it| it.shard)
    }

    fn keep(&self, of: impl FnOnce(&Privileges) -> CapabilitySet) -> Keep {
        Keep(self.0.as_ref().map(|it| of(&it.privileges)))
    }

    /// Finds out with which of two capabilities a shard can do its work, which depends on the kernel.
    pub(crate) fn settle(&mut self, can_dial: impl Fn() -> bool) {
        if let Some(in_force) = &mut self.0 {
            in_force.privileges.settle(can_dial);
        }
    }

    /// Confines this thread, which is the coordinator's, and all others as far as they have not done that themselves. To be
    /// called when all shards are there. Tells of it in the log.
    pub(crate) fn close(&self) -> Option<Status> {
        let in_force = self.0.as_ref()?;
        Keep(Some(in_force.privileges.coordinator)).apply();
        let filtered = calls::restrict_process(in_force.maps_code);
        for problem in in_force.problems.iter().chain(filtered.as_ref().err()) {
            warn!("the sandbox is not whole: {problem}");
        }
        let status = in_force.status(filtered.is_ok());
        debug!(
            coordinator = list(in_force.privileges.coordinator),
            shards = list(in_force.privileges.shard),
            landlock_abi = status.landlock_abi,
            seccomp = status.is_filtered,
            "sandbox in force"
        );
        Some(status)
    }

    /// What would be in force, found out on a thread that is confined and then ends; None for `--no-sandbox`. With what
    /// should not have gone wrong.
    pub(crate) fn rehearse(
        config: &Config,
        can_dial: impl Fn() -> bool + Send,
    ) -> Option<(Status, Vec<String>)> {
        if !config.sandbox {
            return None;
        }
        thread::scope(|scope| {
            let rehearsal = scope.spawn(|| {
                let mut in_force = InForce::enter(config);
                in_force.privileges.settle(can_dial);
                Keep(Some(in_force.privileges.shard)).apply();
                let filtered = calls::restrict_thread(in_force.maps_code);
                let mut problems = std::mem::take(&mut in_force.problems);
                let is_filtered = filtered.is_ok();
                problems.extend(filtered.err());
                (in_force.status(is_filtered), problems)
            });
            rehearsal.join().ok()
        })
    }
}

// === impl InForce ===

impl InForce {
    fn enter(config: &Config) -> Self {
        let mut problems = Vec::new();
        // Without it neither Landlock nor a filter can be had.
        if let Err(error) = set_no_new_privs(true) {
            problems.push(format!("cannot set no_new_privs: {error}"));
        }
        let files = files::restrict(config).unwrap_or_else(|error| {
            problems.push(format!("cannot restrict access to files: {error}"));
            Files::default()
        });
        let privileges = privileges::of_this_process(config);
        if let Err(error) = privileges.begin() {
            problems.push(format!("cannot drop capabilities: {error}"));
        }
        Self {
            privileges,
            files,
            maps_code: names_are_looked_up(config),
            problems,
        }
    }

    fn status(&self, is_filtered: bool) -> Status {
        let privileges = &self.privileges;
        Status {
            capabilities: [
                ("coordinator", privileges.coordinator),
                ("shards", privileges.shard),
                ("access_log", privileges.access_log),
            ],
            landlock_abi: self.files.abi,
            is_filtered,
        }
    }
}

/// Whether servers are named by host.
fn names_are_looked_up(config: &Config) -> bool {
    let mut targets = config.frontends.iter().map(|frontend| &frontend.targets);
    targets.any(|it| it.v4.name().is_some() || it.v6.name().is_some())
}

/// The names of capabilities, as `capabilities(7)` has them.
pub(crate) fn names(set: CapabilitySet) -> impl Iterator<Item = String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}"))
}

fn list(set: CapabilitySet) -> String {
    names(set).collect::<Vec<_>>().join(" ")
}
