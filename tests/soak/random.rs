//! Random numbers that come again with their seed.

use std::time::Duration;

/// Where numbers come from (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

// === impl Random ===

impl Random {
    /// The numbers of this seed, and of this part of the soak.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        // Two rounds of splitmix64, so that neighbours have nothing in common; never 0, from which nothing else comes.
        Self(mix(seed ^ mix(part)) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 up to this one, which is left out.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number from 1 to this one, with as many small as large ones.
    pub(crate) fn of_any_size(&mut self, max: u64) -> u64 {
        let bits = self.below(u64::from(64 - max.leading_zeros())) + 1;
        (self.below(1 << bits) + 1).min(max)
    }

    pub(crate) fn millis(&mut self, max: u64) -> Duration {
        Duration::from_micros(self.below(max * 1000))
    }
}

fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
