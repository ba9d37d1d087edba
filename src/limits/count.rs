//! How many connections each client has open. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;

use super::ClientNetwork;

/// Clients with what they have open. One with nothing open takes no room.
#[derive(Debug)]
pub struct ClientCounts {
    open: HashMap<ClientNetwork, u32>,
    max: NonZeroU32,
}

// === impl ClientCounts ===

impl ClientCounts {
    /// An empty table with so many for each client.
    pub fn new(max: NonZeroU32) -> Self {
        Self {
            open: HashMap::new(),
            max,
        }
    }

    /// What each client may have open.
    pub fn max(&self) -> NonZeroU32 {
        self.max
    }

    /// Whether this client may have no more.
    pub fn is_full(&self, client: ClientNetwork) -> bool {
        let open = self.open.get(&client).copied().unwrap_or(0);
        open >= self.max.get()
    }

    /// Counts one that begins.
    pub fn add(&mut self, client: ClientNetwork) {
        let open = self.open.entry(client).or_insert(0);
        *open = open.saturating_add(1);
    }

    /// Counts one that ends.
    pub fn remove(&mut self, client: ClientNetwork) {
        if let Entry::Occupied(mut open) = self.open.entry(client) {
            if *open.get() > 1 {
                *open.get_mut() -= 1;
            } else {
                open.remove();
            }
        }
    }

    /// How many clients have something open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

    proptest! {
        #[test]
        fn agrees_with_a_list_of_what_is_open(steps in prop::collection::vec((0..4u32, any::<bool>()), 0..200)) {
            let mut counts = ClientCounts::new(MAX);
            let mut open: Vec<u32> = Vec::new();
            for (client, begins) in steps {
                let network = ClientNetwork::V4(client);
                let has = open.iter().filter(|&&other| other == client).count();
                prop_assert_eq!(counts.is_full(network), has >= 3);
                if begins && has < 3 {
                    counts.add(network);
                    open.push(client);
                } else if !begins {
                    // One that has nothing open has nothing to end; that is told from above, and does no harm here.
                    counts.remove(network);
                    if let Some(at) = open.iter().position(|&other| other == client) {
                        open.remove(at);
                    }
                }
                let mut clients = open.clone();
                clients.sort_unstable();
                clients.dedup();
                prop_assert_eq!((counts.len(), counts.is_empty()), (clients.len(), clients.is_empty()));
            }
        }
    }
}
