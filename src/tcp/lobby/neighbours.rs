//! What the lobbies of different shards know of each other.
//!
//! Places and descriptors are the process's, but a shard can only let go of its own connections and pipes. If it has none to
//! spare, it asks the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::shard::doorbell::Doorbell;

/// The lobbies of all shards, before these are there.
pub(crate) struct Lobbies(Arc<[Neighbour]>);

/// A shard's end of what leads from each lobby to each.
pub(crate) struct LobbyEnd {
    /// The shard's number.
    index: usize,
    /// By their numbers.
    shards: Arc<[Neighbour]>,
}

/// What others know of a shard's lobby, and want of it.
struct Neighbour {
    /// How many are there, by the shard's own account.
    guests: AtomicUsize,
    /// Whether one of them is to go.
    room_wanted: AtomicBool,
    /// Whether spare descriptors are to be closed.
    descriptors_wanted: AtomicBool,
    /// Rung when something is wanted.
    bell: Doorbell,
}

/// What is wanted of a shard.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Wanted {
    pub(in crate::tcp) room: bool,
    pub(in crate::tcp) descriptors: bool,
}

// === impl Lobbies ===

impl Lobbies {
    /// Those of so many shards.
    ///
    /// # Errors
    ///
    /// As `eventfd(2)`: out of descriptors.
    pub(crate) fn open(shards: usize) -> io::Result<Self> {
        let shards = (0..shards).map(|_| Neighbour::new());
        Ok(Self(shards.collect::<io::Result<_>>()?))
    }

    /// The end of the shard with this number.
    pub(crate) fn end(&self, index: usize) -> LobbyEnd {
        LobbyEnd {
            index,
            shards: Arc::clone(&self.0),
        }
    }
}

// === impl LobbyEnd ===

impl LobbyEnd {
    /// What rings when others want something.
    pub(crate) fn bell(&self) -> Doorbell {
        self.shards[self.index].bell.clone()
    }

    /// What they want. It is asked for once.
    pub(in crate::tcp) fn wanted(&self) -> Wanted {
        let this = &self.shards[self.index];
        Wanted {
            room: this.room_wanted.swap(false, Ordering::Acquire),
            descriptors: this.descriptors_wanted.swap(false, Ordering::Acquire),
        }
    }

    /// Tells the others how many are here.
    pub(super) fn set_guests(&self, count: usize) {
        self.shards[self.index]
            .guests
            .store(count, Ordering::Relaxed);
    }

    /// Asks the shard that has the most guests, if one has any, to let one go.
    pub(in crate::tcp) fn ask_for_room(&self) {
        let guests = |shard: &&Neighbour| shard.guests.load(Ordering::Relaxed);
        if let Some(fullest) = self.others().max_by_key(guests)
            && guests(&fullest) > 0
        {
            fullest.room_wanted.store(true, Ordering::Release);
            fullest.bell.ring();
        }
    }

    /// Asks all for the descriptors that they keep for speed alone, and one for room.
    pub(in crate::tcp) fn ask_for_descriptors(&self) {
        for shard in self.others() {
            shard.descriptors_wanted.store(true, Ordering::Release);
            shard.bell.ring();
        }
        self.ask_for_room();
    }

    fn others(&self) -> impl Iterator<Item = &Neighbour> {
        let (before, behind) = self.shards.split_at(self.index);
        before.iter().chain(&behind[1..])
    }
}

// === impl Neighbour ===

impl Neighbour {
    fn new() -> io::Result<Self> {
        Ok(Self {
            guests: AtomicUsize::new(0),
            room_wanted: AtomicBool::new(false),
            descriptors_wanted: AtomicBool::new(false),
            bell: Doorbell::new()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(count: usize) -> Vec<LobbyEnd> {
        let lobbies = Lobbies::open(count).expect("descriptors");
        (0..count).map(|index| lobbies.end(index)).collect()
    }

    fn has_rung(end: &LobbyEnd) -> bool {
        end.bell().rung() > 0
    }

    const NOTHING: Wanted = Wanted {
        room: false,
        descriptors: false,
    };

    #[test]
    fn the_fullest_of_the_others_is_asked_for_room_once() {
        let ends = ends(3);
        ends[0].set_guests(9);
        ends[1].set_guests(1);
        ends[2].set_guests(2);
        ends[0].ask_for_room();
        assert!(has_rung(&ends[2]) && !has_rung(&ends[1]) && !has_rung(&ends[0]));
        let room = Wanted {
            room: true,
            descriptors: false,
        };
        assert_eq!(ends[2].wanted(), room);
        assert_eq!(ends[2].wanted(), NOTHING);
    }

    #[test]
    fn nobody_is_asked_where_nobody_waits() {
        let ends = ends(2);
        ends[0].set_guests(9);
        ends[0].ask_for_room();
        assert!(!has_rung(&ends[1]));
        assert_eq!(ends[1].wanted(), NOTHING);
        // One shard has no neighbours.
        let alone = super::tests::ends(1);
        alone[0].set_guests(9);
        alone[0].ask_for_descriptors();
        assert!(!has_rung(&alone[0]));
    }

    #[test]
    fn all_others_are_asked_for_descriptors() {
        let ends = ends(3);
        ends[2].set_guests(1);
        ends[1].ask_for_descriptors();
        let wanted = [0, 2].map(|index| ends[index].wanted());
        let descriptors = |room| Wanted {
            room,
            descriptors: true,
        };
        assert_eq!(wanted, [descriptors(false), descriptors(true)]);
        assert!(has_rung(&ends[0]) && has_rung(&ends[2]) && !has_rung(&ends[1]));
    }
}
