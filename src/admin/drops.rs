//! What does not reach the server, by reason.

use crate::metrics::{Counter, ShardMetrics};

/// Where a number is kept.
pub(super) type Of = fn(&ShardMetrics) -> &Counter;

/// Protocol, reason, and what counts it.
pub(super) const DROPPED: [([&str; 2], Of); 19] = [
    (["tcp", "peer_not_allowed"], |it| &it.tcp.peers_refused),
    (["tcp", "header"], |it| &it.tcp.header_errors),
    (["tcp", "source"], |it| &it.tcp.sources_refused),
    (["tcp", "destination"], |it| &it.tcp.destinations_refused),
    (["tcp", "client_denied"], |it| &it.tcp.refused.denied),
    (["tcp", "client_over_count"], |it| {
        &it.tcp.refused.over_count
    }),
    (["tcp", "client_over_rate"], |it| &it.tcp.refused.over_rate),
    (["tcp", "dial"], |it| &it.tcp.dial_errors),
    (["udp", "peer_not_allowed"], |it| &it.udp.peers_refused),
    (["udp", "header"], |it| &it.udp.header_errors),
    (["udp", "unbound"], |it| &it.udp.unbound),
    (["udp", "source"], |it| &it.udp.sources_refused),
    (["udp", "destination"], |it| &it.udp.destinations_refused),
    (["udp", "client_denied"], |it| &it.udp.refused.denied),
    (["udp", "client_over_count"], |it| {
        &it.udp.refused.over_count
    }),
    (["udp", "client_over_rate"], |it| &it.udp.refused.over_rate),
    (["udp", "dial"], |it| &it.udp.dial_errors),
    (["udp", "overload"], |it| &it.udp.refused_overload),
    (["udp", "draining"], |it| &it.udp.refused_draining),
];
