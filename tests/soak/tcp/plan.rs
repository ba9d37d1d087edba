//! What a connection is to be like.

use std::net::{Ipv6Addr, SocketAddr};

use crate::random::Random;

/// The most bytes one way.
const BYTES_MAX: u64 = 32 << 20;

/// One connection, as its two ends agree on it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) client: SocketAddr,
    pub(super) up: Direction,
    pub(super) down: Direction,
    pub(super) ending: Ending,
    pub(super) order: Order,
}

/// One direction of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) seed: u64,
    pub(super) len: u64,
    /// Where the sender resets the connection, if it is the one that does.
    pub(super) reset_at: u64,
}

/// Who ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both say all they have to say.
    Both,
    ClientResets,
    ServerResets,
}

/// Who speaks when, if nobody resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AtOnce,
    /// The other side begins when this one has ended.
    ClientFirst,
    ServerFirst,
}

// === impl Plan ===

impl Plan {
    /// Connections of different numbers have different clients.
    pub(super) fn new(random: &mut Random, number: u64) -> Self {
        let port = 1024 + (number / 100_000 % 60_000) as u16;
        let host = (number % 100_000) as u32;
        let client = if random.once_in(2) {
            // 198.18.0.0/15
            SocketAddr::from(((0xC612_0000 + host).to_be_bytes(), port))
        } else {
            let [high, low] = [(host >> 16) as u16, host as u16];
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, high, 1 + (low & 0x7fff));
            SocketAddr::from((ip, port + (low >> 15)))
        };
        let ending = match random.below(8) {
            0 => Ending::ClientResets,
            1 => Ending::ServerResets,
            _ => Ending::Both,
        };
        let order = match random.below(4) {
            0 if ending == Ending::Both => Order::ClientFirst,
            1 if ending == Ending::Both => Order::ServerFirst,
            _ => Order::AtOnce,
        };
        Self {
            client,
            up: Direction::new(random),
            down: Direction::new(random),
            ending,
            order,
        }
    }
}

// === impl Direction ===

impl Direction {
    fn new(random: &mut Random) -> Self {
        let len = random.of_any_size(BYTES_MAX);
        Self {
            seed: random.next(),
            len,
            reset_at: random.below(len),
        }
    }
}
