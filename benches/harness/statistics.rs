//! Medians and percentiles.

use std::time::Duration;

/// The middle of the values, or the mean of the two in the middle; None of no values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How long messages took. Every one is kept, so no percentile is an estimate.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// Nanoseconds; what took longer than four seconds counts as four.
    nanoseconds: Vec<u32>,
}

// === impl Latencies ===

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanoseconds = u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX);
        self.nanoseconds.push(nanoseconds);
    }

    /// Microseconds that this share of all messages, from 0 to 1, took at most (nearest rank); None without messages.
    pub(crate) fn percentile(&mut self, share: f64) -> Option<f64> {
        let count = self.nanoseconds.len();
        // Counting from 1: the smallest rank that has at least this share at or below it.
        let rank = (share * count as f64).ceil() as usize;
        let index = rank.clamp(1, count.max(1)) - 1;
        if count == 0 {
            return None;
        }
        let (_, value, _) = self.nanoseconds.select_nth_unstable(index);
        Some(f64::from(*value) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(0.5), None);
        for microseconds in (1..=1000).rev() {
            latencies.add(Duration::from_micros(microseconds));
        }
        for (share, wanted) in [
            (0.0, 1.0),
            (0.5, 500.0),
            (0.99, 990.0),
            (0.999, 999.0),
            (0.9999, 1000.0),
            (1.0, 1000.0),
        ] {
            assert_eq!(latencies.percentile(share), Some(wanted), "{share}");
        }
    }

    #[test]
    fn one_message_is_every_percentile() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_secs(60));
        let longest = Some(f64::from(u32::MAX) / 1000.0);
        assert_eq!(latencies.percentile(0.01), longest);
        assert_eq!(latencies.percentile(0.999), longest);
    }
}
