//! The table's promises, and the table against a simple model of it.

use super::*;
use proptest::prelude::*;
use std::convert::Infallible;
use std::net::SocketAddr;

const IDLE: Duration = Duration::from_secs(60);

fn key(n: u16) -> FlowKey {
    let peer = PeerAddr::new(SocketAddr::from(([192, 0, 2, 1], n)));
    FlowKey {
        party: Party::Peer(peer, 0),
        target: SocketAddr::from(([127, 0, 0, 1], 443)),
    }
}

fn add(table: &mut FlowTable<u16>, n: u16, now: Instant) -> (FlowId, Option<u16>) {
    let evicted = if table.is_full() {
        table.evict().map(|flow| flow.state)
    } else {
        None
    };
    let id = table
        .insert(key(n), now, |_| Ok::<_, Infallible>(n))
        .expect("infallible");
    (id, evicted)
}

#[test]
fn a_flow_ends_after_its_idle_time_either_way() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut table = FlowTable::new(10, IDLE);
    let (quiet, _) = add(&mut table, 1, at(0));
    let (asking, _) = add(&mut table, 2, at(0));
    let (answered, _) = add(&mut table, 3, at(0));
    table.touch(asking, at(30));
    table.answer(answered, at(40));
    assert_eq!(table.next_expiry(), Some(at(60)));
    assert!(table.expire(at(59)).is_none());
    assert_eq!(table.expire(at(60)).map(|flow| flow.state), Some(1));
    assert!(table.get_mut(quiet).is_none());
    assert!(table.expire(at(60)).is_none());
    assert_eq!(table.expire(at(100)).map(|flow| flow.state), Some(2));
    assert_eq!(table.expire(at(100)).map(|flow| flow.state), Some(3));
    assert_eq!((table.next_expiry(), table.len()), (None, 0));
}

#[test]
fn the_never_answered_go_first_then_the_longest_idle() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut table = FlowTable::new(4, IDLE);
    let ids: Vec<_> = (1..=4)
        .map(|n| add(&mut table, n, at(n.into())).0)
        .collect();
    table.answer(ids[0], at(10));
    table.answer(ids[1], at(11));
    table.touch(ids[2], at(12)); // 4 is now the longest idle of the unanswered
    assert_eq!(add(&mut table, 5, at(20)).1, Some(4));
    assert_eq!(add(&mut table, 6, at(21)).1, Some(3));
    assert_eq!(add(&mut table, 7, at(22)).1, Some(5));
    table.answer(table.find(&key(6)).expect("there"), at(23));
    table.answer(table.find(&key(7)).expect("there"), at(24));
    assert_eq!(
        add(&mut table, 8, at(25)).1,
        Some(1),
        "all are answered: the longest idle goes"
    );
    assert_eq!(table.len(), 4);
}

#[test]
fn clients_that_spoke_again_stay_though_a_flood_is_answered() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut table = FlowTable::new(4, IDLE);
    for player in [1, 2] {
        let (id, _) = add(&mut table, player, at(0));
        table.answer(id, at(1));
        table.touch(id, at(2));
    }
    for flood in 3..1000 {
        let now = at(u64::from(flood));
        let (id, evicted) = add(&mut table, flood, now);
        assert_eq!(evicted, (flood > 4).then(|| flood - 2));
        table.answer(id, now);
    }
    // Only where all have conversed, the longest idle of them goes.
    for flood in [998, 999] {
        table.touch(table.find(&key(flood)).expect("there"), at(1000));
    }
    assert_eq!(add(&mut table, 1000, at(1001)).1, Some(1));
}

#[test]
fn a_client_that_goes_on_speaking_makes_no_room() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let silent = Duration::from_secs(10);
    let mut table = FlowTable::new(4, IDLE);
    for n in [1, 2] {
        let (id, _) = add(&mut table, n, at(0));
        table.answer(id, at(0));
    }
    table.touch(table.find(&key(1)).expect("there"), at(1));
    let mut evict = |seconds| {
        let flow = table.evict_unless_busy(at(seconds), silent);
        flow.map(|flow| flow.state)
    };
    assert_eq!(evict(2), Some(2), "its client has not spoken again");
    assert_eq!(evict(10), None);
    assert_eq!(evict(11), Some(1));
    assert_eq!(evict(11), None, "nobody is left");
}

#[test]
fn a_failed_insert_changes_nothing() {
    let mut table = FlowTable::<()>::new(2, IDLE);
    assert_eq!(
        table.insert(key(1), Instant::now(), |_| Err("no socket")),
        Err("no socket")
    );
    assert_eq!(
        (table.len(), table.find(&key(1)), table.next_expiry()),
        (0, None, None)
    );
    assert_eq!(
        table.insert(key(1), Instant::now(), |_| Ok::<_, Infallible>(())),
        Ok(0)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Touch(u16),
    Answer(u16),
    Remove(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..12u16).prop_map(Step::Touch),
        (0..12u16).prop_map(Step::Answer),
        (0..12u16).prop_map(Step::Remove),
        (0..30u64).prop_map(Step::Wait),
    ]
}

/// The simplest table that could be right: a list of (key, last active, rank).
#[derive(Default)]
struct Model(Vec<(u16, Instant, u8)>);

impl Model {
    fn active(&mut self, n: u16, now: Instant, answer: bool) -> bool {
        let Some(at) = self.0.iter().position(|flow| flow.0 == n) else {
            return false;
        };
        let rank = match (self.0.remove(at).2, answer) {
            (0, true) => 1,
            (1, false) => 2,
            (rank, _) => rank,
        };
        self.0.push((n, now, rank));
        true
    }

    fn victim(&self) -> u16 {
        // The first of those with the lowest rank.
        self.0
            .iter()
            .min_by_key(|flow| flow.2)
            .map_or(0, |flow| flow.0)
    }
}

proptest! {
    #[test]
    fn agrees_with_a_simple_model(steps in prop::collection::vec(step(), 0..200)) {
        const FLOWS_MAX: usize = 5;
        let mut now = Instant::now();
        let mut table = FlowTable::new(FLOWS_MAX, IDLE);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Touch(n) => match table.find(&key(n)) {
                    Some(id) => {
                        table.touch(id, now);
                        prop_assert!(model.active(n, now, false));
                    }
                    None => {
                        if model.0.len() == FLOWS_MAX {
                            let victim = model.victim();
                            model.0.retain(|flow| flow.0 != victim);
                            let (_, evicted) = add(&mut table, n, now);
                            prop_assert_eq!(evicted, Some(victim));
                        } else {
                            prop_assert_eq!(add(&mut table, n, now).1, None);
                        }
                        model.0.push((n, now, 0));
                    }
                },
                Step::Answer(n) => {
                    if let Some(id) = table.find(&key(n)) {
                        table.answer(id, now);
                    }
                    model.active(n, now, true);
                }
                Step::Remove(n) => {
                    let removed = table.find(&key(n)).and_then(|id| table.remove(id));
                    let len = model.0.len();
                    model.0.retain(|flow| flow.0 != n);
                    prop_assert_eq!(removed.is_some(), model.0.len() < len);
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    let mut expired: Vec<u16> =
                        std::iter::from_fn(|| table.expire(now)).map(|flow| flow.state).collect();
                    let (mut gone, kept): (Vec<_>, Vec<_>) =
                        model.0.drain(..).partition(|flow| flow.1 + IDLE <= now);
                    model.0 = kept;
                    expired.sort_unstable();
                    gone.sort_unstable();
                    prop_assert_eq!(expired, gone.iter().map(|flow| flow.0).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(table.len(), model.0.len());
            let next = model.0.iter().map(|flow| flow.1 + IDLE).min();
            prop_assert_eq!(table.next_expiry(), next);
            for flow in &model.0 {
                let id = table.find(&key(flow.0));
                prop_assert!(id.is_some_and(|id| table.get_mut(id).is_some()));
            }
        }
    }
}
