//! What is measured.

/// A kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Messages that came back, a second.
    RoundTrips,
    /// Connections that were made, served and closed, a second.
    Connections,
    /// Payload, in MB a second, both ways together.
    Throughput,
    /// How long half of the messages took at most, in microseconds, there and back.
    P50,
    /// As [`Metric::P50`], of 99 in 100 messages.
    P99,
    /// As [`Metric::P50`], of 999 in 1000 messages.
    P999,
    /// As [`Metric::P99`], while nothing else is going on.
    UnloadedP99,
    /// CPU time of the proxy for a message, there and back, in microseconds.
    CpuPerMessage,
    /// CPU time of the proxy for 10⁹ bytes of payload, in seconds.
    CpuPerGigabyte,
    /// Per cent of one CPU that the proxy takes.
    CpuShare,
    /// Per cent of the datagrams that were never answered.
    Lost,
    /// Memory of the proxy (RSS) under this load, in MiB.
    Memory,
    /// Memory that each idle connection or flow adds, in KiB.
    MemoryEach,
    /// File descriptors that each idle connection or flow adds.
    DescriptorsEach,
}

/// What one run found.
pub(crate) type Samples = Vec<(Metric, f64)>;

// === impl Metric ===

impl Metric {
    /// What a table calls it, with its unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundTrips => "round trips/s",
            Self::Connections => "connections/s",
            Self::Throughput => "MB/s",
            Self::P50 => "p50, µs",
            Self::P99 => "p99, µs",
            Self::P999 => "p99.9, µs",
            Self::UnloadedP99 => "p99 unloaded, µs",
            Self::CpuPerMessage => "CPU µs/round trip",
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::CpuShare => "% of a CPU",
            Self::Lost => "lost, %",
            Self::Memory => "RSS, MiB",
            Self::MemoryEach => "KiB each",
            Self::DescriptorsEach => "descriptors each",
        }
    }

    pub(crate) fn higher_is_better(self) -> bool {
        matches!(
            self,
            Self::RoundTrips | Self::Connections | Self::Throughput
        )
    }

    /// Whether it is CPU time for work done.
    pub(crate) fn is_cpu(self) -> bool {
        matches!(
            self,
            Self::CpuPerMessage | Self::CpuPerGigabyte | Self::CpuShare
        )
    }

    /// How many times better one value is than another. None where either is nothing to compare with, as no loss at all.
    pub(crate) fn times_better(self, value: f64, than: f64) -> Option<f64> {
        let ratio = if self.higher_is_better() {
            value / than
        } else {
            than / value
        };
        (value > 0.0 && than > 0.0).then_some(ratio)
    }

    /// Whether one value is better than another.
    pub(crate) fn is_better(self, value: f64, than: f64) -> bool {
        if self.higher_is_better() {
            value > than
        } else {
            value < than
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_is_more_of_some_and_less_of_others() {
        assert_eq!(Metric::RoundTrips.times_better(300.0, 200.0), Some(1.5));
        assert_eq!(Metric::CpuPerMessage.times_better(2.0, 3.0), Some(1.5));
        assert!(Metric::Throughput.is_better(2.0, 1.0));
        assert!(Metric::P99.is_better(1.0, 2.0));
    }

    #[test]
    fn nothing_is_not_compared() {
        assert_eq!(Metric::Lost.times_better(0.0, 5.0), None);
        assert_eq!(Metric::RoundTrips.times_better(5.0, 0.0), None);
    }
}
