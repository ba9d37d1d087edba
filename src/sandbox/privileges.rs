//! Capabilities: which of them each thread keeps.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use tracing::warn;

use crate::access_log::Destination;
use crate::config::{Config, SourcePort};

/// Either of them lets a socket have a foreign address.
const SPOOFING: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// What start-up has a use for: large receive buffers, privileged ports, limits, and rings whose memory does not count.
const STARTING: CapabilitySet = SPOOFING
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::IPC_LOCK);

/// What each kind of thread keeps, of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Privileges {
    /// What there is until all threads are there.
    start: CapabilitySet,
    pub(super) coordinator: CapabilitySet,
    pub(super) shard: CapabilitySet,
    pub(super) access_log: CapabilitySet,
}

/// What a thread keeps, for it to drop the rest; None keeps all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep(pub(super) Option<CapabilitySet>);

// === impl Keep ===

impl Keep {
    /// Everything.
    pub(crate) const ALL: Self = Self(None);

    /// Drops what this thread does not need.
    pub(crate) fn apply(self) {
        let Self(Some(kept)) = self else { return };
        // A filter that forbids it, for one.
        if let Err(error) = reduce_to(kept) {
            warn!(%error, "a thread cannot drop its capabilities");
        }
    }
}

// === impl Privileges ===

/// What this process' threads are to keep, by the options.
pub(super) fn of_this_process(config: &Config) -> Privileges {
    let permitted = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    Privileges::of(config, permitted)
}

impl Privileges {
    fn of(config: &Config, permitted: CapabilitySet) -> Self {
        let has_lists = [
            &config.allowed_subnets,
            &config.denied_clients,
            &config.allowed_destinations,
        ]
        .iter()
        .any(|list| list.is_some());
        let has_access_log = matches!(config.access_log, Some(Destination::File(_)));
        // Root without it reads only what its owner lets root read, as anybody.
        let reading = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];
        let reading = reading.into_iter().find(|it| permitted.contains(*it));
        let reading = reading.filter(|_| has_lists);
        let reading = reading.unwrap_or(CapabilitySet::empty());
        let writing = when(has_access_log, CapabilitySet::DAC_OVERRIDE);
        let routing = when(config.setup_routes, CapabilitySet::NET_ADMIN);
        // Clients, and addresses that traffic is redirected from, may have ports below 1024 as well.
        let has_their_ports = config.source_port != SourcePort::Any || config.listen_transparent;
        let ports = when(has_their_ports, CapabilitySet::NET_BIND_SERVICE);
        // Pipes of more than 64 MiB together (pipe(7)), without which bulk is copied.
        let pipes = when(config.protocols.tcp(), CapabilitySet::SYS_RESOURCE);
        Self {
            start: permitted & (STARTING | reading | writing),
            coordinator: permitted & (routing | reading),
            shard: permitted & (SPOOFING | ports | pipes),
            access_log: permitted & writing,
        }
    }

    /// Leaves this thread, and those it will start, what start-up needs; and nothing to a program that it might execute.
    pub(super) fn begin(&self) -> io::Result<()> {
        clear_ambient_capability_set()?;
        // Without CAP_SETPCAP the bounding set stays. Nothing can be executed anyhow.
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if remove_capability_from_bounding_set(capability).is_err() {
                break;
            }
        }
        reduce_to(self.start)
    }

    /// Leaves a shard one of the capabilities that may do: CAP_NET_RAW if it does, as it lets its holder do less to this
    /// host. For marks it takes Linux 5.17.
    pub(super) fn settle(&mut self, can_dial: impl Fn() -> bool) {
        if !self.shard.contains(SPOOFING) {
            return;
        }
        let is_enough = without(CapabilitySet::NET_ADMIN, can_dial);
        self.shard -= if is_enough {
            CapabilitySet::NET_ADMIN
        } else {
            CapabilitySet::NET_RAW
        };
    }
}

/// Tries something without a capability in effect.
fn without(capability: CapabilitySet, works: impl Fn() -> bool) -> bool {
    let Ok(all) = capabilities(None) else {
        return false;
    };
    let fewer = CapabilitySets {
        effective: all.effective - capability,
        ..all
    };
    if set_capabilities(None, fewer).is_err() {
        return false;
    }
    let works = works();
    // It is permitted still, so it can be had again.
    set_capabilities(None, all).is_ok() && works
}

fn reduce_to(kept: CapabilitySet) -> io::Result<()> {
    let all = capabilities(None)?;
    let fewer = CapabilitySets {
        effective: all.effective & kept,
        permitted: all.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, fewer)?)
}

fn when(condition: bool, capability: CapabilitySet) -> CapabilitySet {
    if condition {
        capability
    } else {
        CapabilitySet::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Startup};

    fn kept(words: &str, permitted: CapabilitySet) -> Privileges {
        let words = words.split_whitespace().map(Into::into);
        match config::load(words, |_| None) {
            Ok(Startup::Run(config)) => Privileges::of(&config, permitted),
            other => panic!("{other:?}"),
        }
    }

    /// Those of the README's table.
    #[test]
    fn each_option_keeps_what_it_needs_and_no_more() {
        type Set = CapabilitySet;
        let dialing = Set::NET_ADMIN | Set::NET_RAW | Set::NET_BIND_SERVICE;
        let none = Set::empty();
        for (words, coordinator, shard, access_log) in [
            ("", none, dialing | Set::SYS_RESOURCE, none),
            ("-p udp", none, dialing, none),
            (
                "-p udp --source-port any",
                none,
                Set::NET_ADMIN | Set::NET_RAW,
                none,
            ),
            (
                "-p udp --source-port any --listen-transparent",
                none,
                dialing,
                none,
            ),
            ("-p udp --setup-routes", Set::NET_ADMIN, dialing, none),
            ("-p udp -a list", Set::DAC_READ_SEARCH, dialing, none),
            (
                "-p udp --denied-clients list",
                Set::DAC_READ_SEARCH,
                dialing,
                none,
            ),
            (
                "-p udp --dynamic-destination --allowed-destinations list",
                Set::DAC_READ_SEARCH,
                dialing,
                none,
            ),
            ("-p udp --access-log file", none, dialing, Set::DAC_OVERRIDE),
            ("-p udp --access-log -", none, dialing, none),
        ] {
            let kept = kept(words, Set::all());
            let found = (kept.coordinator, kept.shard, kept.access_log);
            assert_eq!(found, (coordinator, shard, access_log), "{words}");
        }
    }

    #[test]
    fn nothing_is_kept_that_is_not_there() {
        let words = "-p both --setup-routes -a list --access-log file";
        let there = CapabilitySet::NET_ADMIN;
        let found = kept(words, there);
        assert_eq!((found.coordinator, found.shard), (there, there));
        assert!(found.access_log.is_empty());
        let docker = CapabilitySet::DAC_OVERRIDE;
        assert_eq!(kept(words, docker).coordinator, docker);
    }
}
