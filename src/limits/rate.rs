//! How fast each client begins connections: a token bucket a client. Pure: time is passed in.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::ClientNetwork;

/// The time in which an empty bucket fills up: it holds what drips into it in a second.
const REFILL: Duration = Duration::from_secs(1);

/// Clients in each of the two generations. Whoever comes when that is full is let in, and not remembered: so many clients
/// within a second are no longer one client's doing, and to refuse them all would do the flood's work.
const CLIENTS_MAX: usize = 1 << 17;

/// Token buckets of clients, each of which holds as many tokens as may begin in a second.
///
/// A bucket is kept as the time when it will be full (the generic cell rate algorithm, ITU-T I.371). One that is full
/// need not be kept at all, and every bucket is full a second after its last token was taken; so buckets are kept in two
/// generations of a second or more, and the older is forgotten as a whole.
#[derive(Debug)]
pub struct ClientRates {
    recent: HashMap<ClientNetwork, Instant>,
    older: HashMap<ClientNetwork, Instant>,
    /// When `recent` began; None before the first token.
    began: Option<Instant>,
    per_second: NonZeroU32,
    clients_max: usize,
}

// === impl ClientRates ===

impl ClientRates {
    /// Buckets with so many tokens, which drip in at so many a second.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self {
            recent: HashMap::new(),
            older: HashMap::new(),
            began: None,
            per_second,
            clients_max: CLIENTS_MAX,
        }
    }

    /// How many tokens drip in a second.
    pub fn per_second(&self) -> NonZeroU32 {
        self.per_second
    }

    /// Takes a token of this client, if there is one.
    pub fn take(&mut self, client: ClientNetwork, now: Instant) -> bool {
        self.forget(now);
        let drip = REFILL / self.per_second.get();
        let known = self.recent.get(&client).or_else(|| self.older.get(&client));
        let full_at = known.map_or(now, |&full_at| full_at.max(now));
        // With one token left, the others will be full again after the time that they take to drip in.
        if full_at - now > drip * (self.per_second.get() - 1) {
            return false;
        }
        if self.recent.len() < self.clients_max || self.recent.contains_key(&client) {
            self.recent.insert(client, full_at + drip);
        }
        true
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a new generation if the recent one is a second old. All buckets of the one that is dropped are full: the
    /// last token was taken from them before the other began.
    fn forget(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= REFILL {
            self.older = std::mem::take(&mut self.recent);
            self.began = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: ClientNetwork = ClientNetwork::V4(1);

    fn rates(per_second: u32) -> ClientRates {
        ClientRates::new(NonZeroU32::new(per_second).expect("not zero"))
    }

    fn taken(rates: &mut ClientRates, client: ClientNetwork, now: Instant) -> usize {
        std::iter::from_fn(|| rates.take(client, now).then_some(())).count()
    }

    #[test]
    fn a_full_bucket_gives_a_seconds_worth_and_then_drips() {
        let mut rates = rates(4);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(taken(&mut rates, ONE, at(0)), 4);
        assert_eq!(taken(&mut rates, ClientNetwork::V4(2), at(0)), 4);
        assert_eq!(taken(&mut rates, ONE, at(249)), 0);
        assert_eq!(taken(&mut rates, ONE, at(250)), 1);
        assert_eq!(taken(&mut rates, ONE, at(999)), 2);
        // However long the silence, no more than a second's worth is saved up.
        assert_eq!(taken(&mut rates, ONE, at(60_000)), 4);
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let mut rates = rates(1);
        let start = Instant::now();
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(taken(&mut rates, ONE, now), 1);
            assert_eq!(taken(&mut rates, ONE, now + Duration::from_millis(999)), 0);
        }
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let mut rates = rates(1);
        let start = Instant::now();
        for n in 0..1000 {
            assert!(rates.take(ClientNetwork::V4(n), start));
        }
        assert_eq!(rates.len(), 1000);
        for seconds in 1..=2 {
            rates.take(ONE, start + REFILL * seconds);
        }
        assert_eq!(rates.len(), 2, "one bucket, in both generations");
    }

    #[test]
    fn a_full_table_lets_newcomers_in_and_remembers_those_it_knows() {
        let mut rates = rates(1);
        rates.clients_max = 3;
        let start = Instant::now();
        for n in 0..100 {
            assert!(rates.take(ClientNetwork::V4(n), start));
            assert!(rates.len() <= 3);
        }
        for n in 0..3 {
            assert!(!rates.take(ClientNetwork::V4(n), start));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3u32).prop_map(Step::Take),
            1 => (0..1_500u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The simplest bucket there is: tokens in thousandths, nothing ever forgotten.
        #[test]
        fn agrees_with_a_simple_model(
            // Divisors of 1000 ms, so that both reckon exactly.
            per_second in prop::sample::select(vec![1u32, 2, 5, 10, 100]),
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut rates = rates(per_second);
            let full = u64::from(per_second) * 1000;
            let mut tokens = [full; 3];
            let mut now = Instant::now();
            for step in steps {
                match step {
                    Step::Take(client) => {
                        let left = &mut tokens[client as usize];
                        let may = *left >= 1000;
                        if may {
                            *left -= 1000;
                        }
                        prop_assert_eq!(rates.take(ClientNetwork::V4(client), now), may);
                    }
                    Step::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        for left in &mut tokens {
                            *left = full.min(*left + millis * u64::from(per_second));
                        }
                    }
                }
                prop_assert!(rates.len() <= 6);
            }
        }
    }
}
