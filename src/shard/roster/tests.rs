//! Rounds that take their turns, and whom they end.

use super::*;
use crate::addr::PeerAddr;
use crate::shard::lists::InitialLists;
use crate::subnets::SubnetSet;
use std::sync::Arc;

const IDLE: Duration = Duration::from_secs(60);

fn client(n: u8) -> Option<ClientAddr> {
    let peer = PeerAddr::new(([198, 51, 100, 1], 1).into());
    ClientAddr::believe(([192, 0, 2, n], 1).into(), peer).ok()
}

fn roster(denied: &str) -> Rc<Roster> {
    let denied = SubnetSet::parse(denied).expect("a list");
    let lists = InitialLists {
        denied: Some(Arc::new(denied)),
        ..InitialLists::default()
    };
    let lists = Lists::new(lists, false);
    Rc::new(Roster::new(Rc::new(lists)))
}

fn ended(leash: &Leash) -> Option<Ended> {
    leash.pulled(&Context::from_waker(Waker::noop()))
}

#[test]
fn a_round_ends_whom_it_is_to_end_and_in_turns() {
    let roster = roster("");
    let leashes: Vec<_> = (0..2500u32)
        .map(|n| roster.enter(client(n as u8)))
        .collect();
    let of_7 = |entry: &Entry| (entry.client == client(7)).then_some(Ended::Denied);
    let turn = |place| roster.look_at_some(place, of_7);
    let of = |ended, next| Turn { ended, next };
    assert_eq!(turn(0), of(4, Some(1024)));
    assert_eq!(turn(1024), of(4, Some(2048)));
    assert_eq!(turn(2048), of(2, None));
    // Who has been told is told once.
    assert_eq!(turn(0), of(0, Some(1024)));
    for (n, leash) in leashes.iter().enumerate() {
        let want = (n % 256 == 7).then_some(Ended::Denied);
        assert_eq!(ended(leash), want, "{n}");
    }
}

#[test]
fn a_turn_ends_no_more_than_it_may_and_the_next_goes_on_there() {
    let roster = roster("");
    let leashes: Vec<_> = (0..150).map(|_| roster.enter(client(1))).collect();
    let all = |_: &Entry| Some(Ended::Denied);
    let of = |ended, next| Turn { ended, next };
    assert_eq!(roster.look_at_some(0, all), of(64, Some(64)));
    assert_eq!(roster.look_at_some(64, all), of(64, Some(128)));
    // Some are gone by now.
    drop(leashes);
    assert_eq!(roster.look_at_some(128, all), of(0, None));
    assert_eq!(roster.look_at_some(500, all), of(0, None));
}

#[test]
fn places_are_used_again() {
    let roster = roster("");
    let first = roster.enter(client(1));
    let second = roster.enter(client(2));
    drop(first);
    let third = roster.enter(client(3));
    assert_eq!((second.place, third.place), (1, 0));
    assert_eq!(roster.entries.borrow().relays.len(), 2);
}

#[test]
fn who_is_denied_while_the_server_is_dialled_ends_at_once() {
    let roster = roster("192.0.2.1");
    assert_eq!(ended(&roster.enter(client(1))), Some(Ended::Denied));
    assert_eq!(ended(&roster.enter(client(2))), None);
    assert_eq!(ended(&roster.enter(None)), None);
}

#[test]
fn a_relay_is_idle_after_its_time_and_never_before() {
    let roster = roster("");
    let leash = roster.enter(client(1));
    let start = Instant::now();
    let idle_at = |seconds| {
        let now = start + Duration::from_secs(seconds);
        leash.entry.is_idle(now, IDLE)
    };
    assert!(!idle_at(0));
    assert!(!idle_at(59));
    leash.note([1, 0]);
    assert!(!idle_at(60));
    assert!(!idle_at(119));
    assert!(idle_at(120));
    // It may have been the very moment before.
    leash.note([1, 1]);
    assert!(!idle_at(500));
    assert!(!idle_at(559));
    assert!(idle_at(560));
}

#[test]
fn a_count_has_what_the_clients_have_moved_and_comes_in_turns() {
    let roster = roster("");
    let leashes: Vec<_> = (0..1500u32)
        .map(|n| roster.enter(client((n % 2) as u8)))
        .collect();
    let balancer = roster.enter(None);
    for leash in &leashes {
        leash.note([1, 2]);
    }
    balancer.note([1000, 1000]);
    let mut tally = Tally::default();
    assert_eq!(roster.count_some(0, &mut tally), Some(1024));
    // Some are gone by then.
    drop(leashes);
    assert_eq!(roster.count_some(1024, &mut tally), None);
    assert_eq!(roster.count_some(5000, &mut tally), None);
    let clients = tally.into_busiest(3);
    assert_eq!(clients.len(), 2);
    for (_, traffic) in clients {
        let bytes = [traffic.bytes_upstream, traffic.bytes_downstream];
        assert_eq!((traffic.connections, bytes), (512, [512, 1024]));
    }
}

#[test]
fn all_are_cut_and_it_is_empty_once_they_have_left() {
    let roster = roster("");
    let leashes = [client(1), None].map(|client| roster.enter(client));
    let turn = roster.look_at_some(0, |_| Some(Ended::Cut));
    assert_eq!((turn.ended, turn.next), (2, None));
    assert!(leashes.iter().all(|it| ended(it) == Some(Ended::Cut)));
    assert!(!roster.is_empty());
    drop(leashes);
    assert!(roster.is_empty());
}
