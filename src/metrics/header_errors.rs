//! Headers that were not believed, by what is wrong with them.

use super::Counter;
use crate::header::HeaderError;

/// Connections or datagrams without a good header, by kind.
#[derive(Debug, Default)]
pub struct HeaderErrorKinds {
    /// By the place of their kind in [`HeaderError::KINDS`].
    refused: [Counter; HeaderError::KINDS.len()],
    /// The peer closed without a byte: a health check, or a port scan.
    pub empty: Counter,
    /// The peer closed in the middle of its header.
    pub closed_early: Counter,
    /// The header was not there in time (`--header-timeout`).
    pub timed_out: Counter,
    /// It was not there yet when another connection needed its place (`--max-connections`) or its descriptor.
    pub displaced: Counter,
    /// The connection failed meanwhile.
    pub unreadable: Counter,
    /// It says LOCAL, or names a loopback address, and may be from a client (`--udp-header v2-first`).
    pub host_behind_client: Counter,
}

// === impl HeaderErrorKinds ===

impl HeaderErrorKinds {
    /// What counts headers that are refused like this one.
    pub fn of(&self, error: HeaderError) -> &Counter {
        let kind = error.kind();
        let place = HeaderError::KINDS.iter().position(|known| *known == kind);
        // A test of the headers makes sure that each kind is in the list.
        &self.refused[place.unwrap_or_default()]
    }

    /// All kinds with their labels.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        let refused = HeaderError::KINDS.into_iter().zip(&self.refused);
        refused.chain([
            ("empty", &self.empty),
            ("closed_early", &self.closed_early),
            ("timed_out", &self.timed_out),
            ("displaced", &self.displaced),
            ("unreadable", &self.unreadable),
            ("host_behind_client", &self.host_behind_client),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_counter_of_its_own() {
        let kinds = HeaderErrorKinds::default();
        kinds.of(HeaderError::CrcTwice).increment();
        kinds.of(HeaderError::CrcLength(3)).increment();
        kinds.of(HeaderError::Missing).increment();
        kinds.timed_out.increment();
        let counted = kinds.each().filter(|(_, counter)| counter.get() > 0);
        let counted: Vec<_> = counted.map(|(kind, it)| (kind, it.get())).collect();
        assert_eq!(
            counted,
            [("missing", 1), ("crc_malformed", 2), ("timed_out", 1)]
        );
    }
}
