//! The clock of a measurement: a warm-up first, then what counts.

use std::time::{Duration, Instant};

use super::process::CpuTime;
use super::statistics::Latencies;
use super::{Metric, Proxy, Result, Run, Samples};

/// Says when to count, and what the counts mean.
pub(crate) struct Meter<'a> {
    proxy: Option<&'a Proxy>,
    warm_at: Instant,
    measured: Duration,
    begun: Option<Begun>,
    over: bool,
    tally: Tally,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages that went there and came back.
    messages: u64,
    /// Payload that passed, both ways together.
    bytes: u64,
    latencies: Latencies,
}

#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    cpu: Option<CpuTime>,
}

// === impl Meter ===

impl<'a> Meter<'a> {
    /// The longest warm-up; shorter measurements have shorter ones.
    const WARM_UP_MAX: Duration = Duration::from_millis(500);
    /// How much longer it takes if nothing was counted by its end, on a machine that is busy otherwise.
    const PATIENCE: Duration = Duration::from_secs(10);

    pub(crate) fn start<S>(run: &Run<'a, S>) -> Self {
        Self {
            proxy: run.via.proxy,
            warm_at: Instant::now() + Self::WARM_UP_MAX.min(run.measured / 4),
            measured: run.measured,
            begun: None,
            over: false,
            tally: Tally::default(),
        }
    }

    /// Whether the load goes on. To be asked again and again, between messages.
    pub(crate) fn goes_on(&mut self) -> bool {
        let now = Instant::now();
        match self.begun {
            None if now >= self.warm_at => {
                let cpu = self.proxy.map(Proxy::cpu_time);
                let at = Instant::now();
                self.begun = Some(Begun { at, cpu });
                true
            }
            None => true,
            Some(begun) => {
                let nothing = self.tally.messages == 0 && self.tally.bytes == 0;
                let more = if nothing {
                    Self::PATIENCE
                } else {
                    Duration::ZERO
                };
                now < begun.at + self.measured + more
            }
        }
    }

    /// When counting began.
    pub(crate) fn began_at(&self) -> Option<Instant> {
        self.begun.map(|begun| begun.at)
    }

    /// Counts, unless it is still the warm-up or over.
    pub(crate) fn tally(&mut self, count: impl FnOnce(&mut Tally)) {
        if self.begun.is_some() && !self.over {
            count(&mut self.tally);
        }
    }

    /// Ends it. What was measured, the rate as this metric.
    ///
    /// # Errors
    ///
    /// Nothing came back at all.
    pub(crate) fn finish(&mut self, rate: Metric) -> Result<Samples> {
        let end = Instant::now();
        self.over = true;
        let begun = self.begun.ok_or("it ended before it began")?;
        let elapsed = (end - begun.at).as_secs_f64();
        let Tally {
            messages, bytes, ..
        } = self.tally;
        let work = if rate == Metric::Throughput {
            bytes
        } else {
            messages
        };
        if work == 0 {
            return Err("nothing came back".into());
        }
        let mut samples = match rate {
            Metric::Throughput => vec![(rate, bytes as f64 / 1e6 / elapsed)],
            _ => vec![(rate, messages as f64 / elapsed)],
        };
        for (metric, share) in [
            (Metric::P50, 0.5),
            (Metric::P99, 0.99),
            (Metric::P999, 0.999),
        ] {
            let percentile = self.tally.latencies.percentile(share);
            samples.extend(percentile.map(|value| (metric, value)));
        }
        if let (Some(proxy), Some(before)) = (self.proxy, begun.cpu) {
            let cpu = proxy.cpu_time().since(before).as_secs_f64();
            samples.push(match rate {
                Metric::Throughput => (Metric::CpuPerGigabyte, cpu / (bytes as f64 / 1e9)),
                _ => (Metric::CpuPerMessage, cpu * 1e6 / messages as f64),
            });
            samples.push(proxy.footprint().sample());
        }
        Ok(samples)
    }
}

// === impl Tally ===

impl Tally {
    /// A message came back after this time.
    pub(crate) fn message(&mut self, latency: Duration) {
        self.messages += 1;
        self.latencies.add(latency);
    }

    /// Payload passed.
    pub(crate) fn payload(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}
