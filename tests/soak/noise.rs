//! Bytes of which anybody who knows the seed can tell the one at any place.

use std::sync::LazyLock;

use crate::random::Random;

/// How many different bytes there are, before they come again. A prime, so that nothing that is lost or comes twice, be it
/// pages or buffers, is a multiple of it.
const LEN: usize = 1_048_573;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0, 0);
    let words = (0..LEN.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    words.take(LEN).collect()
});

/// An endless stream of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    start: usize,
}

// === impl Noise ===

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        let start = (seed % LEN as u64) as usize;
        Self { start }
    }

    /// Bytes from this place on: as many as lie together, at most so many, at least one.
    pub(crate) fn at(self, place: u64, len_max: usize) -> &'static [u8] {
        let from = (self.start + (place % LEN as u64) as usize) % LEN;
        &NOISE[from..LEN.min(from + len_max)]
    }

    /// The first place, counted in the stream, at which these bytes are not those of the stream from `place` on.
    pub(crate) fn differs(self, place: u64, mut bytes: &[u8]) -> Option<u64> {
        let mut at = place;
        while !bytes.is_empty() {
            let expected = self.at(at, bytes.len());
            let (here, rest) = bytes.split_at(expected.len());
            if here != expected {
                let wrong = here.iter().zip(expected).position(|(a, b)| a != b);
                return Some(at + wrong.unwrap_or(0) as u64);
            }
            at += here.len() as u64;
            bytes = rest;
        }
        None
    }
}

#[test]
fn every_byte_is_known_by_its_place() {
    let noise = Noise::new(7);
    let mut bytes = Vec::new();
    while bytes.len() < 2 * LEN + 100 {
        bytes.extend(noise.at(bytes.len() as u64, 1000));
    }
    assert_eq!(noise.differs(0, &bytes), None);
    assert_eq!(noise.differs(12_345, &bytes[12_345..]), None);
    bytes[LEN + 5] ^= 1;
    assert_eq!(noise.differs(0, &bytes), Some(LEN as u64 + 5));
    bytes[LEN + 5] ^= 1;
    // A byte that is lost shifts all behind it.
    bytes.remove(4096);
    assert!(noise.differs(0, &bytes).is_some_and(|at| at < 4200));
}
