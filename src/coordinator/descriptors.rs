//! Open files: how many there may be, and how many the process may come to need.

use tracing::warn;

use crate::config::Config;
use crate::host::{self, Needs};
use crate::udp::REDIRECTED_MAX;

/// Says if the limit of descriptors cannot hold all flows, or as many connections as there may be.
pub(super) fn check_descriptors(config: &Config, shards: usize) {
    let limit = host::raise_descriptor_limit();
    let needed = descriptors_with_flows(config, shards);
    if needed > limit {
        warn!(
            limit,
            needed,
            max_flows = config.max_flows,
            "the limit of open files is too small for --max-flows: raise it (systemd: LimitNOFILE, Docker: --ulimit \
             nofile) or lower --max-flows"
        );
    }
    let needed = descriptors_with_connections(config, shards);
    if needed > limit {
        warn!(
            limit,
            needed,
            max_connections = config.limits.connections,
            "the limit of open files is too small for --max-connections: raise it (systemd: LimitNOFILE, Docker: \
             --ulimit nofile) or lower --max-connections"
        );
    }
}

/// The descriptors that the process takes when it has all the UDP flows it may have.
pub(crate) fn descriptors_with_flows(config: &Config, shards: usize) -> u64 {
    let mut needed = host::descriptors(needs(config, shards));
    if config.protocols.udp() {
        needed += config.max_flows as u64;
        if config.listen_transparent {
            needed += REDIRECTED_MAX as u64;
        }
    }
    needed
}

/// The descriptors that the process takes when it has all the TCP connections it may have; without a limit, those that it
/// takes without any.
pub(crate) fn descriptors_with_connections(config: &Config, shards: usize) -> u64 {
    let max = config.limits.connections.filter(|_| config.protocols.tcp());
    // Each takes two: the balancer's side and the server's.
    let connections = max.map_or(0, |max| 2 * u64::from(max.get()));
    host::descriptors(needs(config, shards)) + connections
}

/// What takes descriptors without any connection or flow.
pub(crate) fn needs(config: &Config, shards: usize) -> Needs {
    let protocols = [config.protocols.tcp(), config.protocols.udp()];
    let protocols = protocols.into_iter().filter(|on| *on).count();
    Needs {
        shards,
        sockets: protocols * config.frontends.len(),
        admin: config.admin.is_some(),
        access_log: config.access_log.is_some(),
    }
}
