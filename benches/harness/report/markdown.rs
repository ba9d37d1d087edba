//! Tables, to be pasted as they are.

use crate::harness::Metric;
use crate::harness::candidate::Kind;
use crate::harness::results::{Cell, Results, Row};

use super::times;

/// Per cent of lost datagrams that deserve a line of their own.
const LOST_MIN: f64 = 0.1;

/// A table with a line for each workload, one with everything, and how it was measured.
pub(crate) fn markdown(results: &Results) -> String {
    let parts = [
        format!("# {}", results.title),
        overview(results),
        format!("## How it was measured\n\n{}", conditions(results)),
        format!("## Everything\n\n{}", everything(results)),
    ];
    let mut text = parts.join("\n\n");
    let notes = notes(results);
    if !notes.is_empty() {
        text.push_str("\n\n## What failed\n\n");
        text.push_str(&notes.join("\n"));
    }
    text.push('\n');
    text
}

/// The number that says most of each workload.
fn overview(results: &Results) -> String {
    let mut first = vec!["workload".to_owned(), String::new()];
    first.extend(names(results));
    first.extend([against(results), "the same of CPU time".to_owned()]);
    let mut lines = vec![first];
    for row in &results.rows {
        let mut line = vec![
            format!("**{}** {}", row.name, row.title),
            row.primary.name().to_owned(),
        ];
        line.extend(values(row, row.primary));
        let ratio = |metric| ratio(results, row, metric);
        let cpu = row.cpu().filter(|cpu| *cpu != row.primary);
        line.extend([ratio(row.primary), cpu.map_or_else(nothing, ratio)]);
        lines.push(line);
        // A rate says little of a proxy that loses what it is given.
        let lost = |cell: &Cell| {
            cell.median(Metric::Lost)
                .is_some_and(|lost| lost > LOST_MIN)
        };
        if row.cells.iter().any(lost) {
            let mut line = vec![String::new(), Metric::Lost.name().to_owned()];
            line.extend(values(row, Metric::Lost));
            line.extend([String::new(), String::new()]);
            lines.push(line);
        }
    }
    table(&lines, 2)
}

/// Every metric of each workload.
fn everything(results: &Results) -> String {
    let mut first = vec!["workload".to_owned(), String::new()];
    first.extend(names(results));
    first.push(against(results));
    let mut lines = vec![first];
    for row in &results.rows {
        for metric in row.metrics() {
            let mut line = vec![row.name.to_owned(), metric.name().to_owned()];
            line.extend(values(row, metric));
            line.push(ratio(results, row, metric));
            lines.push(line);
        }
    }
    table(&lines, 2)
}

fn conditions(results: &Results) -> String {
    let machine = &results.machine;
    let commit = machine.commit.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        format!(
            "{}, {}, glommproxy {} (commit {commit}): {}, PROXY header {:?}. Everybody in turn, in a new order each round, \
             after a warm-up. Ratios are turned so that more than 1 is better for glommproxy.",
            machine.date,
            machine.line(),
            env!("CARGO_PKG_VERSION"),
            results.effort(),
            results.header
        ),
        String::new(),
        "```sh".to_owned(),
        results.command.clone(),
    ];
    let ours = results.candidates.iter();
    let ours = ours.filter(|candidate| matches!(candidate.kind, Kind::Ours | Kind::Variant));
    lines.extend(ours.map(|candidate| format!("# {}", candidate.shown())));
    lines.push("```".to_owned());
    lines.join("\n")
}

fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    for row in &results.rows {
        for (candidate, cell) in results.candidates.iter().zip(&row.cells) {
            if let Some(why) = cell.failures.first() {
                notes.push(format!(
                    "- {}, {}: {} of {} runs: {why}",
                    row.name,
                    candidate.name,
                    cell.failures.len(),
                    results.rounds
                ));
            }
        }
    }
    notes
}

fn names(results: &Results) -> impl Iterator<Item = String> {
    let names = results.candidates.iter();
    names.map(|candidate| candidate.name.clone())
}

fn against(results: &Results) -> String {
    let whom = if results.has_peers() {
        "best peer"
    } else {
        "no proxy"
    };
    format!("glommproxy / {whom}")
}

fn values(row: &Row, metric: Metric) -> impl Iterator<Item = String> {
    row.cells.iter().map(move |cell| {
        let failed = cell.samples.is_empty() && !cell.failures.is_empty();
        let nothing = if failed { "failed" } else { "–" };
        let median = cell.median(metric).map(number);
        median.unwrap_or_else(|| nothing.to_owned())
    })
}

fn ratio(results: &Results, row: &Row, metric: Metric) -> String {
    let ours = results.ours();
    let ratio = ours.and_then(|ours| results.times_better(row, ours, metric));
    ratio.map_or_else(nothing, |ratio| format!("**{}**", times(ratio)))
}

fn nothing() -> String {
    "–".to_owned()
}

/// Three digits that count: `0.123`, `12.3`, `123,000`.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before_the_point = value.abs().log10().floor() as i32 + 1;
    if before_the_point < 3 {
        let decimals = usize::try_from(3 - before_the_point).unwrap_or(0).min(4);
        return format!("{value:.decimals$}");
    }
    let unit = 10f64.powi(before_the_point - 3);
    let rounded = format!("{:.0}", (value / unit).round() * unit);
    let mut grouped = String::new();
    for (index, digit) in rounded.chars().enumerate() {
        if index > 0 && (rounded.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The first line is the headline; columns from `numbers` on are aligned to the right.
fn table(lines: &[Vec<String>], numbers: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let rule = (0..columns).map(|column| if column < numbers { "---" } else { "---:" });
    let rule: Vec<String> = rule.map(str::to_owned).collect();
    let (first, rest) = lines.split_at(1.min(lines.len()));
    let all = first.iter().chain([&rule]).chain(rest);
    let rows: Vec<String> = all
        .map(|line| format!("| {} |", line.join(" | ")))
        .collect();
    rows.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::results::tests::example;

    #[test]
    fn a_workload_is_a_row() {
        let text = markdown(&example());
        for wanted in [
            "| **rr** ping <-> pong | round trips/s | 40,000 | 30,000 | 20,000 | 10,000 | **1.50×** | **0.50×** |",
            "| rr | CPU µs/round trip | – | 8.00 | 16.0 | 4.00 | **0.50×** |",
            "- rr, fast: 1 of 2 runs: it broke",
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn losses_stand_beside_the_rate() {
        let mut results = example();
        assert!(!overview(&results).contains("lost"));
        results.add(0, 3, Ok(vec![(Metric::Lost, 12.5)]));
        let lines = overview(&results);
        let last = lines.lines().next_back();
        assert_eq!(
            last,
            Some("|  | lost, % | – | – | – | 12.5 |  |  |"),
            "{lines}"
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.001_234, "0.0012"),
            (0.123_4, "0.123"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (123.4, "123"),
            (999.9, "1,000"),
            (81_349.0, "81,300"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn tables_have_a_rule_under_the_headline() {
        let lines = [
            vec!["a".to_owned(), "b".to_owned()],
            vec!["c".to_owned(), "1".to_owned()],
        ];
        assert_eq!(table(&lines, 1), "| a | b |\n| --- | ---: |\n| c | 1 |");
    }
}
