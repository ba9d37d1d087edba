//! What the process says at its start and at its end.

use std::sync::Arc;

use tracing::{info, warn};

use super::drain;
use crate::addr::{Frontend, own_listener, spans};
use crate::config::Config;
use crate::metrics::{self, Counter, ShardMetrics};

/// What the process does, in one line when it begins to.
pub(super) fn log_ready(config: &Config, bound: &[Frontend], shards: usize) {
    info!(
        listen_addr = spans(bound.iter().map(|frontend| frontend.listen.0)),
        ports = bound.len(),
        protocol = config.protocols.name(),
        shards,
        target_v4 = spans(bound.iter().map(|frontend| frontend.targets.v4.into())),
        target_v6 = spans(bound.iter().map(|frontend| frontend.targets.v6.into())),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
}

/// Says which servers cannot be what was meant.
pub(super) fn warn_of_itself(bound: &[Frontend]) {
    let own_v4 = own_listener(bound, |targets| targets.v4.into());
    let own_v6 = own_listener(bound, |targets| targets.v6.into());
    for (flag, own) in [("-4", own_v4), ("-6", own_v6)] {
        if let Some(server) = own {
            warn!(
                flag,
                %server,
                "the server is this proxy itself, which drops what it is sent: name the server's own address, or another port \
                 to listen on"
            );
        }
    }
}

/// What the process did, in one line at its end.
pub(super) fn log_totals(shards: &[Arc<ShardMetrics>]) {
    let total = |counter: fn(&ShardMetrics) -> &Counter| metrics::total(shards, counter);
    // Those that are told of have ended.
    let (connections_left, flows_left) = drain::open(shards);
    info!(
        connections = total(|m| &m.tcp.accepted),
        flows = total(|m| &m.udp.flows_opened),
        connections_cut = connections_left + total(|m| &m.tcp.ended_cut),
        flows_cut = flows_left + total(|m| &m.udp.ended_cut),
        flows_evicted = total(|m| &m.udp.flows_evicted),
        bytes_upstream = total(|m| &m.tcp.bytes_upstream) + total(|m| &m.udp.bytes_upstream),
        bytes_downstream = total(|m| &m.tcp.bytes_downstream) + total(|m| &m.udp.bytes_downstream),
        peers_refused = total(|m| &m.tcp.peers_refused) + total(|m| &m.udp.peers_refused),
        header_errors = total(|m| &m.tcp.header_errors) + total(|m| &m.udp.header_errors),
        unbound = total(|m| &m.udp.unbound),
        sources_refused = total(|m| &m.tcp.sources_refused) + total(|m| &m.udp.sources_refused),
        destinations_refused =
            total(|m| &m.tcp.destinations_refused) + total(|m| &m.udp.destinations_refused),
        clients_denied = total(|m| &m.tcp.refused.denied) + total(|m| &m.udp.refused.denied),
        clients_over_count =
            total(|m| &m.tcp.refused.over_count) + total(|m| &m.udp.refused.over_count),
        clients_over_rate =
            total(|m| &m.tcp.refused.over_rate) + total(|m| &m.udp.refused.over_rate),
        ended_denied = total(|m| &m.tcp.ended_denied) + total(|m| &m.udp.ended_denied),
        ended_idle = total(|m| &m.tcp.ended_idle),
        dial_errors = total(|m| &m.tcp.dial_errors) + total(|m| &m.udp.dial_errors),
        upstream_errors = total(|m| &m.udp.upstream_errors),
        downstream_errors = total(|m| &m.udp.downstream_errors),
        ports_replaced = total(|m| &m.tcp.ports_replaced) + total(|m| &m.udp.ports_replaced),
        "stopped"
    );
}
