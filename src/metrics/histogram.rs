//! How long things took, in fixed buckets.

use std::marker::PhantomData;
use std::time::Duration;

use super::Counter;

/// Bounds of a histogram. Above the last is one more bucket, for whatever took longer.
const BOUNDS: usize = 12;

/// What a histogram measures, which says where its buckets lie.
pub trait Scale {
    /// The upper bounds of its buckets in seconds, each included.
    const SECONDS: [f64; BOUNDS];
}

/// How long the server takes to accept, which over loopback is microseconds.
#[derive(Debug, Default)]
pub struct DialScale;

/// How long connections and flows last, from health checks to matches.
#[derive(Debug, Default)]
pub struct SessionScale;

/// How many took how long, written by one thread.
#[derive(Debug, Default)]
pub struct Histogram<S> {
    buckets: [Counter; BOUNDS + 1],
    sum_micros: Counter,
    scale: PhantomData<S>,
}

/// What histograms of several shards say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// The upper bound of each bucket in seconds, the last infinite, and how many are in it alone.
    pub buckets: Vec<(f64, u64)>,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Scale for DialScale {
    const SECONDS: [f64; BOUNDS] = [
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0,
    ];
}

impl Scale for SessionScale {
    const SECONDS: [f64; BOUNDS] = [
        0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0,
    ];
}

// === impl Histogram ===

impl<S: Scale> Histogram<S> {
    /// Counts one that took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = S::SECONDS.iter().position(|&bound| seconds <= bound);
        self.buckets[bucket.unwrap_or(BOUNDS)].increment();
        self.sum_micros
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// What these say together.
    pub fn total<'a>(histograms: impl Iterator<Item = &'a Self>) -> Distribution
    where
        S: 'a,
    {
        let bounds = S::SECONDS.into_iter().chain([f64::INFINITY]);
        let mut buckets: Vec<_> = bounds.map(|bound| (bound, 0)).collect();
        let mut sum_micros = 0;
        for histogram in histograms {
            for ((_, total), bucket) in buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.get();
            }
            sum_micros += histogram.sum_micros.get();
        }
        let sum = Duration::from_micros(sum_micros).as_secs_f64();
        Distribution { buckets, sum }
    }
}

// === impl Distribution ===

impl Distribution {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        assert!(DialScale::SECONDS.is_sorted_by(|a, b| a < b));
        assert!(SessionScale::SECONDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn shards_add_up_and_a_bound_is_in_its_bucket() {
        let (one, other) = (
            Histogram::<SessionScale>::default(),
            Histogram::<SessionScale>::default(),
        );
        one.observe(Duration::ZERO);
        one.observe(Duration::from_millis(10));
        other.observe(Duration::from_millis(11));
        other.observe(Duration::from_secs(86_401));
        let total = Histogram::total([&one, &other].into_iter());
        assert_eq!(total.count(), 4);
        assert_eq!(total.buckets[0], (0.01, 2));
        assert_eq!(total.buckets[1], (0.1, 1));
        assert_eq!(total.buckets[BOUNDS], (f64::INFINITY, 1));
        assert!((total.sum - 86_401.021).abs() < 1e-6, "{}", total.sum);
    }
}
