//! A picture: how many times better than the best peer, a row for each workload.
//!
//! Written by hand, because plotting crates cannot do what it needs: colours that follow the reader's light or dark mode.

use std::fmt::Write;

use crate::harness::Metric;
use crate::harness::candidate::Kind;
use crate::harness::results::{Results, Row};

use super::times;

const WIDTH: f64 = 920.0;
/// Where the plot begins, below the headline and the legend.
const TOP: f64 = 104.0;
const ROW: f64 = 30.0;
const BOTTOM: f64 = 46.0;
const MARGIN: f64 = 20.0;
/// Left edges of the two panels, and how wide each is.
const PANELS: [f64; 2] = [320.0, 636.0];
const PANEL: f64 = 200.0;

/// What a panel shows. It is a power of two from the middle to each edge; what is further out is put at the edge.
const TICKS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.paper { fill: #ffffff; stroke: #d1d9e0 } .head { font-size: 17px; font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.name { font-weight: 600 } .win { font-weight: 700; fill: #0550ae } .grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-width: 1.5 }
.band { fill: #f6f8fa } .ours { fill: #0969da; stroke: #ffffff; stroke-width: 1.5 } .variant { fill: none; stroke: #0969da; stroke-width: 2 }
.direct { stroke: #1f2328; stroke-width: 3 } .p0 { fill: #bc4c00 } .p1 { fill: #8250df } .p2 { fill: #1a7f37 } .p3 { fill: #bf3989 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.paper { fill: #0d1117; stroke: #3d444d } .small { fill: #9198a1 } .win { fill: #79c0ff } .grid { stroke: #3d444d } .one { stroke: #9198a1 }
.band { fill: #151b23 } .ours { fill: #4493f8; stroke: #0d1117 } .variant { stroke: #4493f8 }
.direct { stroke: #e6edf3 } .p0 { fill: #f0883e } .p1 { fill: #ab7df8 } .p2 { fill: #3fb950 } .p3 { fill: #db61a2 }
}
";

pub(super) fn svg(results: &Results) -> String {
    let height = TOP + ROW * results.rows.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
        escaped(results.title)
    );
    svg += &format!(
        "<rect class=\"paper\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    svg += &text(MARGIN, 30.0, "head", "start", results.title);
    legend(&mut svg, results);
    for (index, row) in results.rows.iter().enumerate() {
        band(&mut svg, index, row);
    }
    grid(&mut svg, results);
    for (index, row) in results.rows.iter().enumerate() {
        let y = middle(index);
        let cpu = row.cpu().filter(|cpu| *cpu != row.primary);
        for (panel, metric) in PANELS.into_iter().zip([Some(row.primary), cpu]) {
            if let Some(metric) = metric {
                marks(&mut svg, results, row, metric, panel, y);
            }
        }
    }
    let machine = &results.machine;
    let foot = format!("{}, {}; {}", machine.date, machine.line(), results.effort());
    svg += &text(MARGIN, height - 14.0, "small", "start", &foot);
    svg += "</svg>\n";
    svg
}

fn middle(row: usize) -> f64 {
    TOP + ROW * (row as f64 + 0.5)
}

/// Where a ratio is in a panel that begins at 0.
fn place(ratio: f64) -> f64 {
    let ends = (TICKS[0].log2(), TICKS[TICKS.len() - 1].log2());
    let share = (ratio.log2() - ends.0) / (ends.1 - ends.0);
    share.clamp(0.0, 1.0) * PANEL
}

/// The name of a workload, on every other row with a background that leads the eye.
fn band(svg: &mut String, index: usize, row: &Row) {
    let y = middle(index);
    if index.is_multiple_of(2) {
        let (top, width) = (y - ROW / 2.0, WIDTH - 2.0);
        *svg += &format!(
            "<rect class=\"band\" x=\"1\" y=\"{top}\" width=\"{width}\" height=\"{ROW}\"/>\n"
        );
    }
    *svg += &format!(
        "<text x=\"{MARGIN}\" y=\"{}\"><tspan class=\"name\">{}</tspan> {}</text>\n",
        y + 4.5,
        escaped(row.name),
        escaped(row.title)
    );
}

fn grid(svg: &mut String, results: &Results) {
    let bottom = TOP + ROW * results.rows.len() as f64;
    let whom = if results.has_peers() {
        "the best peer"
    } else {
        "no proxy"
    };
    let heads = [
        format!("better than {whom} →"),
        format!("less CPU time than {whom} →"),
    ];
    for (panel, head) in PANELS.into_iter().zip(heads) {
        *svg += &text(panel + PANEL / 2.0, TOP - 22.0, "name", "middle", &head);
        for tick in TICKS {
            let x = panel + place(tick);
            let class = if tick == 1.0 { "one" } else { "grid" };
            *svg += &format!(
                "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\n"
            );
            let label = if tick < 1.0 {
                format!("1/{}", 1.0 / tick)
            } else {
                format!("{tick}×")
            };
            *svg += &text(x, TOP - 6.0, "small", "middle", &label);
        }
    }
}

fn marks(svg: &mut String, results: &Results, row: &Row, metric: Metric, panel: f64, y: f64) {
    // Ours last, so that nothing hides it.
    let order = |kind| (kind == Kind::Ours, kind == Kind::Variant);
    let mut columns: Vec<usize> = (0..results.candidates.len()).collect();
    columns.sort_by_key(|column| order(results.candidates[*column].kind));
    for column in columns {
        let Some(ratio) = results.times_better(row, column, metric) else {
            continue;
        };
        *svg += &mark(results, column, panel + place(ratio), y);
        if results.ours() == Some(column) {
            let class = if ratio >= 1.0 { "win" } else { "name" };
            *svg += &text(panel + PANEL + 46.0, y + 4.5, class, "end", &times(ratio));
        }
    }
}

/// The sign of a candidate.
fn mark(results: &Results, column: usize, x: f64, y: f64) -> String {
    let kinds = results.candidates.iter().map(|candidate| candidate.kind);
    let peer = kinds
        .take(column)
        .filter(|kind| *kind == Kind::Peer)
        .count();
    let class = format!("p{}", peer % 4);
    match results.candidates[column].kind {
        Kind::Direct => {
            let (top, bottom) = (y - 8.0, y + 8.0);
            format!(
                "<line class=\"direct\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\n"
            )
        }
        Kind::Ours => format!("<circle class=\"ours\" cx=\"{x:.1}\" cy=\"{y}\" r=\"6.5\"/>\n"),
        Kind::Variant => format!("<circle class=\"variant\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5\"/>\n"),
        Kind::Peer if peer.is_multiple_of(3) => {
            let (left, top) = (x - 5.0, y - 5.0);
            format!(
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top}\" width=\"10\" height=\"10\"/>\n"
            )
        }
        Kind::Peer => {
            // A triangle, or one that stands on its head.
            let up = if peer % 3 == 1 { 1.0 } else { -1.0 };
            format!(
                "<polygon class=\"{class}\" points=\"{x:.1},{} {:.1},{} {:.1},{}\"/>\n",
                y - 6.5 * up,
                x - 6.5,
                y + 5.0 * up,
                x + 6.5,
                y + 5.0 * up
            )
        }
    }
}

fn legend(svg: &mut String, results: &Results) {
    let mut x = MARGIN + 7.0;
    for (column, candidate) in results.candidates.iter().enumerate() {
        *svg += &mark(results, column, x, 52.0);
        *svg += &text(x + 13.0, 56.5, "", "start", &candidate.name);
        x += 42.0 + 7.2 * candidate.name.chars().count() as f64;
    }
}

fn text(x: f64, y: f64, class: &str, anchor: &str, words: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(words)
    );
    text
}

fn escaped(words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    words.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::results::tests::example;

    #[test]
    fn everybody_has_a_mark_where_there_is_a_number() {
        let svg = svg(&example());
        assert!(svg.contains("ping &lt;-&gt; pong"), "{svg}");
        // One in the legend, and one for the rate; the CPU time of no proxy is not known.
        assert_eq!(svg.matches("class=\"direct\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"ours\"").count(), 3, "{svg}");
        for ratio in ["1.50×", "0.50×"] {
            assert!(svg.contains(ratio), "{ratio} is not in {svg}");
        }
    }

    #[test]
    fn the_middle_is_one_and_the_edges_hold_the_rest() {
        assert_eq!(place(1.0), PANEL / 2.0);
        assert_eq!(place(8.0), PANEL);
        assert_eq!(place(1000.0), PANEL);
        assert_eq!(place(0.001), 0.0);
        assert!(place(2.0) > place(1.5));
    }

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
