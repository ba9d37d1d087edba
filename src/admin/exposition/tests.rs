//! The text as a whole.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::admin::overview::{Facts, NamedList};
use crate::coordinator::SharedState;
use crate::header::HeaderError;
use crate::metrics::ListMetrics;

fn overview() -> Arc<Overview> {
    let list = NamedList {
        name: "allowed-subnets",
        path: "balancers.txt".to_owned(),
        metrics: Arc::<ListMetrics>::default(),
    };
    list.metrics.read(Some(3), SystemTime::now());
    let overview = Overview::new(Facts::default(), SharedState::default(), vec![list], None);
    overview.set_shards(vec![Arc::default(), Arc::default()]);
    Arc::new(overview)
}

#[track_caller]
fn value<'a>(text: &'a str, sample: &str) -> &'a str {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in {text}"))
}

#[test]
fn shards_add_up() {
    let overview = overview();
    let [one, other] = overview.shards() else {
        panic!("two shards");
    };
    one.tcp.accepted.add(5);
    one.tcp.closed.add(2);
    other.tcp.accepted.add(10);
    other.udp.refused.over_rate.add(7);
    one.udp.header_error_kinds.of(HeaderError::Missing).add(4);
    other.udp.header_error_kinds.of(HeaderError::Missing).add(5);
    one.tcp.header_error_kinds.timed_out.add(6);
    other.busy_nanos.add(1_500_000_000);
    one.tcp.dial_times.observe(Duration::from_millis(1));
    let text = text(&overview).expect("text");
    for (sample, wanted) in [
        ("glommproxy_connections_open", "13"),
        ("glommproxy_connections_total", "15"),
        (
            "glommproxy_dropped_total{protocol=\"udp\",reason=\"client_over_rate\"}",
            "7",
        ),
        (
            "glommproxy_header_errors_total{protocol=\"udp\",kind=\"missing\"}",
            "9",
        ),
        (
            "glommproxy_header_errors_total{protocol=\"tcp\",kind=\"timed_out\"}",
            "6",
        ),
        ("glommproxy_shard_busy_seconds_total{shard=\"1\"}", "1.5"),
        ("glommproxy_dial_duration_seconds_count", "1"),
        ("glommproxy_dial_duration_seconds_sum", "0.001"),
        ("glommproxy_dial_duration_seconds_bucket{le=\"+Inf\"}", "1"),
        ("glommproxy_list_entries{list=\"allowed-subnets\"}", "3"),
        ("glommproxy_ready", "0"),
    ] {
        assert_eq!(value(&text, sample), wanted, "{sample}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

/// The README's table is made of what the text says of itself.
#[test]
fn the_readme_names_every_metric() {
    let text = text(&overview()).expect("text");
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let mut help = "";
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ').expect("a text").1;
        }
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|of| of.split_once(' '))
        else {
            continue;
        };
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let sample = text.lines().find_map(|line| {
            let labels = line.strip_prefix(name)?.strip_prefix(suffix)?;
            labels.strip_prefix('{')?.split_once('}')
        });
        let labels = sample.map_or("", |(labels, _)| labels);
        let labels: Vec<_> = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| format!("`{label}`"))
            .collect();
        let labels = labels.join(", ");
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{labels} ")
        };
        writeln!(table, "| `{name}{suffix}` | {kind} | {labels}| {help} |").expect("room");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("the README");
    assert!(
        readme.contains(&table),
        "the README's table of metrics should be:\n{table}"
    );
}
