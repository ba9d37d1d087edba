//! What was found.

use std::collections::BTreeMap;

use super::args::{self, Args};
use super::candidate::{Candidate, Kind};
use super::machine::Machine;
use super::statistics::median;
use super::{HeaderVersion, Metric, Result, Samples, Suite, Workload};

/// Everything that was measured, and how.
pub(crate) struct Results {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) machine: Machine,
    /// What to type to measure the same again.
    pub(crate) command: String,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) rows: Vec<Row>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) header: HeaderVersion,
}

/// A workload.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) primary: Metric,
    /// One for each candidate.
    pub(crate) cells: Vec<Cell>,
}

/// A workload and a candidate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// What each round found.
    pub(crate) samples: BTreeMap<Metric, Vec<f64>>,
    /// Why rounds found nothing.
    pub(crate) failures: Vec<String>,
}

// === impl Results ===

impl Results {
    pub(crate) fn new<S>(
        suite: &Suite<S>,
        workloads: &[&Workload<S>],
        candidates: &[Candidate],
        options: &Args,
    ) -> Self {
        let row = |workload: &&Workload<S>| Row {
            name: workload.name,
            title: workload.title,
            primary: workload.primary,
            cells: vec![Cell::default(); candidates.len()],
        };
        Self {
            name: suite.name,
            title: suite.title,
            machine: Machine::look(),
            command: args::typed(suite.name, std::env::args().skip(1)),
            candidates: candidates.to_vec(),
            rows: workloads.iter().map(row).collect(),
            rounds: options.rounds(),
            seconds: options.measured().as_secs_f64(),
            header: options.header,
        }
    }

    pub(crate) fn add(&mut self, row: usize, column: usize, outcome: Result<Samples>) {
        let cell = &mut self.rows[row].cells[column];
        match outcome {
            Ok(samples) => {
                for (metric, value) in samples {
                    cell.samples.entry(metric).or_default().push(value);
                }
            }
            Err(error) => cell.failures.push(error.to_string()),
        }
    }

    /// How the numbers came about, in words.
    pub(crate) fn effort(&self) -> String {
        let (rounds, seconds) = (self.rounds, self.seconds);
        match rounds {
            1 => format!("one round of {seconds} s"),
            _ => format!("medians of {rounds} rounds of {seconds} s"),
        }
    }

    pub(crate) fn has_failures(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.any(|cell| !cell.failures.is_empty())
    }

    /// The column of glommproxy as users start it.
    pub(crate) fn ours(&self) -> Option<usize> {
        let mut kinds = self.candidates.iter().map(|candidate| candidate.kind);
        kinds.position(|kind| kind == Kind::Ours)
    }

    /// The best of the peers by a metric, and its value. Without any peer, the way without a proxy.
    pub(crate) fn reference(&self, row: &Row, metric: Metric) -> Option<(usize, f64)> {
        let of_kind = |kind: Kind| {
            let columns = self.candidates.iter().enumerate();
            columns
                .filter(move |(_, candidate)| candidate.kind == kind)
                .filter_map(|(column, _)| Some((column, row.cells[column].median(metric)?)))
        };
        let best = of_kind(Kind::Peer).reduce(|best, other| {
            if metric.is_better(other.1, best.1) {
                other
            } else {
                best
            }
        });
        if self.has_peers() {
            return best;
        }
        best.or_else(|| of_kind(Kind::Direct).next())
    }

    pub(crate) fn has_peers(&self) -> bool {
        let mut kinds = self.candidates.iter().map(|candidate| candidate.kind);
        kinds.any(|kind| kind == Kind::Peer)
    }

    /// How many times better a candidate is than the best peer.
    pub(crate) fn times_better(&self, row: &Row, column: usize, metric: Metric) -> Option<f64> {
        let (_, reference) = self.reference(row, metric)?;
        metric.times_better(row.cells[column].median(metric)?, reference)
    }
}

// === impl Row ===

impl Row {
    /// Everything measured in this row, in order.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let keys = self.cells.iter().flat_map(|cell| cell.samples.keys());
        let mut metrics: Vec<Metric> = keys.copied().collect();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// The CPU time that the workload is measured by.
    pub(crate) fn cpu(&self) -> Option<Metric> {
        self.metrics().into_iter().find(|metric| metric.is_cpu())
    }
}

// === impl Cell ===

impl Cell {
    pub(crate) fn median(&self, metric: Metric) -> Option<f64> {
        median(self.samples.get(&metric)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A peer that is fast, one that is thrifty, and us between them, in CPU time that is; the fast one failed once.
    pub(crate) fn example() -> Results {
        let candidate = |name: &str, kind| Candidate::new(name, kind, "");
        let mut results = Results {
            name: "example",
            title: "An example",
            machine: Machine::look(),
            command: "cargo bench --bench example".to_owned(),
            candidates: vec![
                candidate("no proxy", Kind::Direct),
                candidate("glommproxy", Kind::Ours),
                candidate("fast", Kind::Peer),
                candidate("thrifty", Kind::Peer),
            ],
            rows: vec![Row {
                name: "rr",
                title: "ping <-> pong",
                primary: Metric::RoundTrips,
                cells: vec![Cell::default(); 4],
            }],
            rounds: 2,
            seconds: 3.0,
            header: HeaderVersion::V2,
        };
        for (column, rate, cpu) in [
            (0, 40_000.0, None),
            (1, 30_000.0, Some(8.0)),
            (2, 20_000.0, Some(16.0)),
            (3, 10_000.0, Some(4.0)),
        ] {
            let cpu = cpu.map(|cpu| (Metric::CpuPerMessage, cpu));
            let samples = [(Metric::RoundTrips, rate)].into_iter().chain(cpu);
            results.add(0, column, Ok(samples.collect()));
        }
        results.add(0, 2, Err("it broke".into()));
        results
    }

    #[test]
    fn the_best_peer_is_another_for_each_metric() {
        let results = example();
        let row = &results.rows[0];
        let best = |metric| results.reference(row, metric);
        assert_eq!(best(Metric::RoundTrips), Some((2, 20_000.0)));
        assert_eq!(best(Metric::CpuPerMessage), Some((3, 4.0)));
        assert_eq!(best(Metric::Lost), None);
        let better = |metric| results.times_better(row, 1, metric);
        assert_eq!(better(Metric::RoundTrips), Some(1.5));
        assert_eq!(better(Metric::CpuPerMessage), Some(0.5));
    }

    #[test]
    fn without_peers_the_machine_is_the_limit() {
        let mut results = example();
        results.candidates.truncate(2);
        let row = &results.rows[0];
        let best = |metric| results.reference(row, metric);
        assert_eq!(best(Metric::RoundTrips), Some((0, 40_000.0)));
        assert_eq!(best(Metric::CpuPerMessage), None);
    }
}
