//! What each client has moved so far with what it has open now.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Instant;

/// Clients in one tally. If there are more, those that have moved the fewest bytes are left out.
const CLIENTS_MAX: usize = 65_536;

/// What one client has open, and what has passed through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// TCP connections.
    pub connections: u64,
    /// UDP flows.
    pub flows: u64,
    /// Bytes from the client to the server.
    pub bytes_upstream: u64,
    /// Bytes from the server to the client.
    pub bytes_downstream: u64,
    /// When the oldest of them was opened.
    pub since: Instant,
}

/// Traffic by client, IPv4 and IPv6 alike by address.
#[derive(Clone, Debug)]
pub struct Tally {
    clients: HashMap<IpAddr, Traffic>,
    clients_max: usize,
    left_out: u64,
}

// === impl Traffic ===

impl Traffic {
    /// That of one TCP connection.
    pub fn of_connection(bytes: [u64; 2], since: Instant) -> Self {
        Self::of(1, 0, bytes, since)
    }

    /// That of one UDP flow.
    pub fn of_flow(bytes: [u64; 2], since: Instant) -> Self {
        Self::of(0, 1, bytes, since)
    }

    fn of(connections: u64, flows: u64, bytes: [u64; 2], since: Instant) -> Self {
        let [bytes_upstream, bytes_downstream] = bytes;
        Self {
            connections,
            flows,
            bytes_upstream,
            bytes_downstream,
            since,
        }
    }

    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.flows += other.flows;
        self.bytes_upstream += other.bytes_upstream;
        self.bytes_downstream += other.bytes_downstream;
        self.since = self.since.min(other.since);
    }

    /// Both ways.
    fn bytes(&self) -> u64 {
        self.bytes_upstream + self.bytes_downstream
    }
}

// === impl Tally ===

impl Default for Tally {
    fn default() -> Self {
        Self::of_at_most(CLIENTS_MAX)
    }
}

impl Tally {
    fn of_at_most(clients_max: usize) -> Self {
        Self {
            clients: HashMap::new(),
            clients_max,
            left_out: 0,
        }
    }

    /// Adds traffic of a client.
    pub fn add(&mut self, client: IpAddr, traffic: Traffic) {
        if let Some(known) = self.clients.get_mut(&client) {
            return known.add(&traffic);
        }
        if self.clients.len() == self.clients_max {
            self.leave_out();
        }
        self.clients.insert(client, traffic);
    }

    /// Adds all that another tally has.
    pub fn merge(&mut self, other: Self) {
        for (client, traffic) in other.clients {
            match self.clients.entry(client) {
                Entry::Occupied(mut known) => known.get_mut().add(&traffic),
                Entry::Vacant(_) => self.add(client, traffic),
            }
        }
        self.left_out += other.left_out;
    }

    /// How many clients there are, those that were left out included (a client may be left out of several tallies).
    pub fn clients(&self) -> u64 {
        self.clients.len() as u64 + self.left_out
    }

    /// The clients that have moved the most bytes, the first of them first.
    pub fn into_busiest(self, count: usize) -> Vec<(IpAddr, Traffic)> {
        let mut clients: Vec<_> = self.clients.into_iter().collect();
        let order = |(client, traffic): &(IpAddr, Traffic)| (Reverse(traffic.bytes()), *client);
        if count < clients.len() {
            clients.select_nth_unstable_by_key(count, order);
            clients.truncate(count);
        }
        clients.sort_unstable_by_key(order);
        clients
    }

    /// Makes room: half of the clients go, so that it is done seldom.
    fn leave_out(&mut self) {
        let kept = self.clients_max / 2;
        let clients = std::mem::take(&mut self.clients);
        self.left_out += (clients.len() - kept) as u64;
        let all = Self {
            clients,
            ..Self::of_at_most(self.clients_max)
        };
        self.clients.extend(all.into_busiest(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(n: u16) -> IpAddr {
        let [a, b] = n.to_be_bytes();
        IpAddr::from([192, 0, a, b])
    }

    #[test]
    fn what_a_client_has_open_adds_up_over_protocols_and_shards() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut tally = Tally::default();
        tally.add(ip(1), Traffic::of_connection([10, 20], later));
        tally.add(ip(2), Traffic::of_flow([1, 2], later));
        tally.add(ip(1), Traffic::of_flow([1, 2], start));
        let mut other = Tally::default();
        other.add(ip(1), Traffic::of_connection([100, 200], later));
        other.add(ip(3), Traffic::of_flow([4, 0], later));
        tally.merge(other);
        assert_eq!(tally.clients(), 3);
        let first = Traffic {
            connections: 2,
            flows: 1,
            bytes_upstream: 111,
            bytes_downstream: 222,
            since: start,
        };
        assert_eq!(
            tally.into_busiest(10),
            [
                (ip(1), first),
                (ip(3), Traffic::of_flow([4, 0], later)),
                (ip(2), Traffic::of_flow([1, 2], later)),
            ]
        );
    }

    #[test]
    fn the_busiest_are_those_with_the_most_bytes_both_ways() {
        let now = Instant::now();
        let mut tally = Tally::default();
        for n in 0..1000 {
            // In no order: 7 and 1000 have no common divisor.
            let bytes = u64::from(n) * 7 % 1000;
            tally.add(
                ip(n),
                Traffic::of_connection([bytes, 1000 - 2 * (bytes / 2)], now),
            );
        }
        // Up and down come to 1000 or 1001 for all of them: the address decides.
        let odd: Vec<_> = (0..1000)
            .filter(|n| n * 7 % 1000 % 2 == 1)
            .take(3)
            .map(ip)
            .collect();
        let busiest = tally.clone().into_busiest(3);
        let clients: Vec<_> = busiest.iter().map(|it| it.0).collect();
        assert_eq!(clients, odd);
        tally.add(ip(998), Traffic::of_flow([0, 2], now));
        assert_eq!(tally.clone().into_busiest(1)[0].0, ip(998));
        assert_eq!(tally.clone().into_busiest(0), []);
        assert_eq!(tally.into_busiest(1000).len(), 1000);
    }

    #[test]
    fn of_too_many_clients_the_busiest_stay() {
        let now = Instant::now();
        let mut tally = Tally::of_at_most(8);
        for n in 0..1000u16 {
            let bytes = if n % 100 == 7 {
                1000
            } else {
                u64::from(n) % 100
            };
            tally.add(ip(n), Traffic::of_connection([bytes, 0], now));
            assert!(tally.clients.len() <= 8);
        }
        assert_eq!(tally.clients(), 1000);
        // Once four of them are there, there is no room for the fifth and the smaller ones that come.
        let busiest = tally.into_busiest(4);
        assert_eq!(busiest.len(), 4);
        assert!(
            busiest.iter().all(|(_, it)| it.bytes_upstream == 1000),
            "{busiest:?}"
        );
    }
}
