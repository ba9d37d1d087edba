//! Ports of servers, as few rules as possible for many of them.

use std::fmt;
use std::ops::RangeInclusive;

/// The port that the kernel takes in no rule, neither alone nor in a range (`fib_rule_port_range_valid`).
const IN_NO_RULE: u16 = u16::MAX;

/// Consecutive ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    pub(super) first: u16,
    pub(super) last: u16,
}

// === impl PortRange ===

impl PortRange {
    /// The ranges that hold these ports, each port once, in order. The port that can be in no rule is alone.
    pub(super) fn covering(ports: impl IntoIterator<Item = u16>) -> Vec<Self> {
        let mut ports: Vec<u16> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        let mut ranges: Vec<Self> = Vec::new();
        for port in ports {
            match ranges.last_mut() {
                Some(range) if port - 1 == range.last && port != IN_NO_RULE => range.last = port,
                _ => ranges.push(Self {
                    first: port,
                    last: port,
                }),
            }
        }
        ranges
    }

    /// Whether a rule can be for these ports.
    pub(super) fn fits_a_rule(self) -> bool {
        self.last != IN_NO_RULE
    }

    pub(super) fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        if self.last > self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_ports_make_one_range() {
        let ranges = PortRange::covering([7, 3, 65535, 1, 2, 2, 3, 65534]);
        let texts: Vec<String> = ranges.iter().map(PortRange::to_string).collect();
        assert_eq!(texts, ["1-3", "7", "65534", "65535"]);
    }
}
