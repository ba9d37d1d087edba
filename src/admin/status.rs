//! The state of the process as JSON, for people and scripts. For what is to be watched over time there are the metrics.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::drops::DROPPED;
use super::overview::{NamedList, Overview};
use crate::metrics::{self, Counter, ShardMetrics};
use crate::sandbox;

/// The document.
pub(super) fn json(overview: &Overview) -> String {
    let shards = overview.shards();
    let facts = &overview.facts;
    let open = |of: fn(&ShardMetrics) -> u64| shards.iter().map(|shard| of(shard)).sum::<u64>();
    let lists = overview.lists.iter();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": overview.state.get().name(),
        "uptime_seconds": overview.started.elapsed().as_secs(),
        "listen": facts.listen,
        "target_v4": facts.target_v4,
        "target_v6": facts.target_v6,
        "protocol": facts.protocol,
        "routes": { "set_up": facts.routes_table.is_some(), "table": facts.routes_table },
        "sandbox": overview.sandbox().map(confined),
        "connections_open": open(connections_open),
        "flows_open": open(flows_open),
        "dropped": DROPPED.map(|([protocol, reason], counter)| {
            json!({
                "protocol": protocol,
                "reason": reason,
                "count": metrics::total(shards, counter),
            })
        }),
        "lists": lists.map(list).collect::<Vec<_>>(),
        "shards": shards.iter().enumerate().map(shard).collect::<Vec<_>>(),
    });
    // The alternate form is the one with line breaks.
    format!("{status:#}\n")
}

fn confined(status: &sandbox::Status) -> Value {
    let capabilities = status.capabilities.map(|(whose, kept)| {
        let names: Vec<String> = sandbox::names(kept).collect();
        (whose.to_owned(), json!(names))
    });
    json!({
        "capabilities": Value::Object(capabilities.into_iter().collect()),
        "landlock_abi": status.landlock_abi,
        "seccomp": status.is_filtered,
    })
}

fn list(
    NamedList {
        name,
        path,
        metrics,
    }: &NamedList,
) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let age = now.unwrap_or_default().saturating_sub(metrics.read_at());
    json!({
        "list": name,
        "path": path,
        "entries": metrics.entries(),
        "age_seconds": age.as_secs(),
        "last_reload": if metrics.is_outdated() { "failed" } else { "ok" },
    })
}

fn shard((index, shard): (usize, impl AsRef<ShardMetrics>)) -> Value {
    let shard = shard.as_ref();
    let sum = |one: &Counter, other: &Counter| one.get() + other.get();
    json!({
        "shard": index,
        "busy_seconds": super::exposition::seconds(shard.busy_nanos.get()),
        "connections_open": connections_open(shard),
        "connections": shard.tcp.accepted.get(),
        "flows_open": flows_open(shard),
        "flows": shard.udp.flows_opened.get(),
        "bytes_upstream": sum(&shard.tcp.bytes_upstream, &shard.udp.bytes_upstream),
        "bytes_downstream": sum(&shard.tcp.bytes_downstream, &shard.udp.bytes_downstream),
        "datagrams_upstream": shard.udp.datagrams_upstream.get(),
        "datagrams_downstream": shard.udp.datagrams_downstream.get(),
    })
}

/// The two counters are not read at the same moment.
pub(super) fn connections_open(shard: &ShardMetrics) -> u64 {
    let closed = shard.tcp.closed.get();
    shard.tcp.accepted.get().saturating_sub(closed)
}

pub(super) fn flows_open(shard: &ShardMetrics) -> u64 {
    let closed = shard.udp.flows_closed.get();
    shard.udp.flows_opened.get().saturating_sub(closed)
}
