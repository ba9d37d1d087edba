//! The metrics as OpenMetrics text.

mod families;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};

use self::families::{Families, Sample, about, about_in};
use super::drops::{DROPPED, Of};
use super::overview::Overview;
use super::process;
use super::status::{connections_open, flows_open};
use crate::access_log::AccessLog;
use crate::coordinator::State;
use crate::metrics::{self, Histogram, ShardMetrics};

/// What the text is (OpenMetrics 1.0, section "Overall Structure").
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as they are now.
pub(super) fn text(overview: &Arc<Overview>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(Arc::clone(overview))));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

#[derive(Debug)]
struct Snapshot(Arc<Overview>);

// === impl Snapshot ===

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.itself(&mut families)?;
        self.sessions(&mut families)?;
        self.traffic(&mut families)?;
        self.troubles(&mut families)?;
        self.lists(&mut families)?;
        let lost = self.0.access_log.as_ref().map_or(0, AccessLog::lost);
        families.counter(
            &about(
                "glommproxy_access_log_lost_lines",
                "Lines of the access log that were not written, as the disk was full or too slow.",
            ),
            one(lost),
        )?;
        process(&mut families, &self.0)
    }
}

impl Snapshot {
    fn itself(&self, families: &mut Families<'_>) -> fmt::Result {
        families.info(
            &about("glommproxy_build", "The program that runs."),
            ("version", env!("CARGO_PKG_VERSION")),
        )?;
        families.gauge(
            &about(
                "glommproxy_ready",
                "1 while every shard listens and takes what is new, as /readyz says; otherwise 0.",
            ),
            one(u64::from(self.0.state.get() == State::Ready)),
        )?;
        families.counter(
            &about_in(
                "glommproxy_shard_busy",
                Unit::Seconds,
                "Time in which the shard did not sleep; its rate is 1 when the shard can do no more.",
            ),
            self.0.shards().iter().enumerate().map(|(index, shard)| {
                let labels = vec![("shard", index.to_string())];
                (labels, seconds(shard.busy_nanos.get()))
            }),
        )
    }

    fn sessions(&self, families: &mut Families<'_>) -> fmt::Result {
        let shards = self.0.shards();
        let open = |of: fn(&ShardMetrics) -> u64| shards.iter().map(|it| of(it)).sum::<u64>();
        families.gauge(
            &about(
                "glommproxy_connections_open",
                "TCP connections that are open now.",
            ),
            one(open(connections_open)),
        )?;
        families.counter(
            &about(
                "glommproxy_connections",
                "TCP connections accepted from allowed peers.",
            ),
            one(self.total(|it| &it.tcp.accepted)),
        )?;
        families.histogram(
            &about_in(
                "glommproxy_connection_duration",
                Unit::Seconds,
                "How long TCP connections that have ended lasted, from accept on.",
            ),
            &Histogram::total(shards.iter().map(|it| &it.tcp.durations)),
        )?;
        families.histogram(
            &about_in(
                "glommproxy_dial_duration",
                Unit::Seconds,
                "How long the server took to accept TCP connections.",
            ),
            &Histogram::total(shards.iter().map(|it| &it.tcp.dial_times)),
        )?;
        families.gauge(
            &about("glommproxy_flows_open", "UDP flows that are open now."),
            one(open(flows_open)),
        )?;
        families.counter(
            &about("glommproxy_flows", "UDP flows begun."),
            one(self.total(|it| &it.udp.flows_opened)),
        )?;
        families.histogram(
            &about_in(
                "glommproxy_flow_duration",
                Unit::Seconds,
                "How long UDP flows that have ended lasted, from their first datagram on.",
            ),
            &Histogram::total(shards.iter().map(|it| &it.udp.durations)),
        )
    }

    fn traffic(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counter(
            &about_in(
                "glommproxy_relayed",
                Unit::Bytes,
                "Payload passed on, upstream from clients to servers, downstream from servers to clients.",
            ),
            self.labelled(
                ["protocol", "direction"],
                &[
                    (["tcp", "upstream"], |it| &it.tcp.bytes_upstream),
                    (["tcp", "downstream"], |it| &it.tcp.bytes_downstream),
                    (["udp", "upstream"], |it| &it.udp.bytes_upstream),
                    (["udp", "downstream"], |it| &it.udp.bytes_downstream),
                ],
            ),
        )?;
        families.counter(
            &about("glommproxy_datagrams", "UDP datagrams passed on."),
            self.labelled(
                ["direction"],
                &[
                    (["upstream"], |it| &it.udp.datagrams_upstream),
                    (["downstream"], |it| &it.udp.datagrams_downstream),
                ],
            ),
        )?;
        families.counter(
            &about(
                "glommproxy_datagram_errors",
                "UDP datagrams that the kernel did not take, or that nobody was there for.",
            ),
            self.labelled(
                ["direction"],
                &[
                    (["upstream"], |it| &it.udp.upstream_errors),
                    (["downstream"], |it| &it.udp.downstream_errors),
                ],
            ),
        )?;
        families.counter(
            &about(
                "glommproxy_datagrams_lost",
                "UDP datagrams that a full receive buffer of glommproxy's had no room for; a piece of several counts for one.",
            ),
            self.labelled(
                ["direction"],
                &[
                    (["upstream"], |it| &it.udp.lost_upstream),
                    (["downstream"], |it| &it.udp.lost_downstream),
                ],
            ),
        )
    }

    fn troubles(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counter(
            &about(
                "glommproxy_dropped",
                "TCP connections and UDP datagrams that did not reach the server, by reason.",
            ),
            self.labelled(["protocol", "reason"], &DROPPED),
        )?;
        families.counter(
            &about(
                "glommproxy_header_errors",
                "Those dropped for the reason header, by what is wrong with it.",
            ),
            self.header_errors(),
        )?;
        families.counter(
            &about(
                "glommproxy_ended",
                "TCP connections and UDP flows that neither side ended, by reason.",
            ),
            self.labelled(
                ["protocol", "reason"],
                &[
                    (["tcp", "denied"], |it| &it.tcp.ended_denied),
                    (["tcp", "idle"], |it| &it.tcp.ended_idle),
                    (["udp", "denied"], |it| &it.udp.ended_denied),
                    (["udp", "evicted"], |it| &it.udp.flows_evicted),
                ],
            ),
        )?;
        families.counter(
            &about(
                "glommproxy_panics",
                "TCP connections, and UDP flows or datagrams, that ended by a panic: a bug, which the log tells more of.",
            ),
            self.labelled(
                ["protocol"],
                &[
                    (["tcp"], |it| &it.tcp.panics),
                    (["udp"], |it| &it.udp.panics),
                ],
            ),
        )?;
        families.counter(
            &about(
                "glommproxy_accept_pauses",
                "Times that accepting paused: at --max-connections, or for lack of descriptors or memory.",
            ),
            self.labelled(
                ["reason"],
                &[
                    (["max_connections"], |it| &it.tcp.full_pauses),
                    (["exhausted"], |it| &it.tcp.accept_pauses),
                ],
            ),
        )?;
        families.counter(
            &about(
                "glommproxy_source_ports_replaced",
                "TCP connections and UDP flows with the client's address, but not its port.",
            ),
            self.labelled(
                ["protocol"],
                &[
                    (["tcp"], |it| &it.tcp.ports_replaced),
                    (["udp"], |it| &it.udp.ports_replaced),
                ],
            ),
        )
    }

    fn lists(&self, families: &mut Families<'_>) -> fmt::Result {
        let lists = &self.0.lists;
        let name = |it: &super::overview::NamedList| vec![("list", it.name.to_owned())];
        families.gauge(
            &about("glommproxy_list_entries", "Prefixes in force of a list."),
            lists.iter().map(|it| (name(it), it.metrics.entries())),
        )?;
        families.gauge(
            &about_in(
                "glommproxy_list_read_timestamp",
                Unit::Seconds,
                "When the file was last read and said what is in force, since 1970.",
            ),
            lists
                .iter()
                .map(|it| (name(it), it.metrics.read_at().as_secs_f64())),
        )?;
        families.gauge(
            &about(
                "glommproxy_list_outdated",
                "1 if the file cannot be used as it is, and an older list is in force; otherwise 0.",
            ),
            lists
                .iter()
                .map(|it| (name(it), u64::from(it.metrics.is_outdated()))),
        )?;
        families.counter(
            &about(
                "glommproxy_list_reloads",
                "Times that a list was read again.",
            ),
            lists.iter().flat_map(|it| {
                let counts = [
                    ("ok", &it.metrics.reloads),
                    ("failed", &it.metrics.failures),
                ];
                counts.map(|(result, count)| {
                    let mut labels = name(it);
                    labels.push(("result", result.to_owned()));
                    (labels, count.get())
                })
            }),
        )
    }

    fn header_errors(&self) -> Vec<Sample<u64>> {
        // Without a shard there is nothing to count, but the same lines.
        let none = ShardMetrics::default();
        let kinds = none.tcp.header_error_kinds.each();
        let kinds: Vec<_> = kinds.map(|(kind, _)| kind).collect();
        let mut samples = Vec::with_capacity(2 * kinds.len());
        for protocol in ["tcp", "udp"] {
            for (place, kind) in kinds.iter().enumerate() {
                let count = self.0.shards().iter().filter_map(|shard| {
                    let kinds = match protocol {
                        "tcp" => &shard.tcp.header_error_kinds,
                        _ => &shard.udp.header_error_kinds,
                    };
                    kinds.each().nth(place).map(|(_, counter)| counter.get())
                });
                let labels = [("protocol", protocol), ("kind", *kind)];
                samples.push((labels.map(owned).to_vec(), count.sum()));
            }
        }
        samples
    }

    /// A sample for each of these, over all shards.
    fn labelled<const N: usize>(
        &self,
        names: [&'static str; N],
        counters: &[([&'static str; N], Of)],
    ) -> Vec<Sample<u64>> {
        let sample = |(values, counter): &([&'static str; N], Of)| {
            let labels = names.into_iter().zip(*values).map(owned);
            (labels.collect(), self.total(*counter))
        };
        counters.iter().map(sample).collect()
    }

    fn total(&self, counter: Of) -> u64 {
        metrics::total(self.0.shards(), counter)
    }
}

/// The standard metrics of a process, as all of Prometheus' own clients name them.
fn process(families: &mut Families<'_>, overview: &Overview) -> fmt::Result {
    let started_at = overview.started_at.duration_since(UNIX_EPOCH);
    families.gauge(
        &about_in(
            "process_start_time",
            Unit::Seconds,
            "When the process started, since 1970.",
        ),
        one(started_at.unwrap_or_default().as_secs_f64()),
    )?;
    families.gauge(
        &about("process_open_fds", "Open file descriptors."),
        process::open_files().ok().map(|count| (Vec::new(), count)),
    )?;
    families.gauge(
        &about_in("process_resident_memory", Unit::Bytes, "Resident memory."),
        process::resident_bytes()
            .ok()
            .map(|count| (Vec::new(), count)),
    )
}

/// A family of one sample.
fn one<V>(value: V) -> [Sample<V>; 1] {
    [(Vec::new(), value)]
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

#[cfg(test)]
mod tests;
