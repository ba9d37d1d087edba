//! What leads from shard to shard, without the shards.

use super::*;
use std::net::SocketAddr;

fn bundle(len: usize) -> Handed {
    let loopback = loopback();
    Handed::Bundle(Bundle {
        listen_addr: ListenAddr(loopback),
        reply_to: Destination {
            to: loopback,
            from: None,
        },
        bytes: vec![0; len].into(),
        segment_len: 1,
    })
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

fn rung(end: &HandoverEnd) -> u64 {
    end.place.own().bell.rung()
}

#[test]
fn what_is_handed_over_waits_for_its_shard_and_rings_there() {
    let ends = ends(3).expect("descriptors");
    assert!(ends[0].place.shards[1].hand_over(bundle(7)));
    assert!(ends[2].place.shards[1].hand_over(bundle(8)));
    let costs = ends[1].waiting.try_iter().map(|it| it.cost());
    assert_eq!(
        costs.collect::<Vec<_>>(),
        [7, 8].map(|len| BUNDLE_COST + len)
    );
    assert_eq!(rung(&ends[1]), 2);
    for silent in [&ends[0], &ends[2]] {
        assert!(silent.waiting.try_recv().is_err());
        assert_eq!(rung(silent), 0);
    }
}

#[test]
fn as_much_may_wait_as_there_is_room_for_whoever_has_handed_it_over() {
    let readiness = Readiness::new().expect("descriptors");
    let mut ends = ends(3).expect("descriptors");
    let second = Handover::new(ends.remove(1), &readiness).expect("descriptors");
    let [first, third] = &ends[..] else {
        panic!("an end for each");
    };
    let half = WAITING_MAX / 2 - BUNDLE_COST;
    assert!(!second.is_crowded());
    assert!(first.place.shards[1].hand_over(bundle(half)));
    assert!(second.is_crowded());
    assert!(third.place.shards[1].hand_over(bundle(half)));
    for end in [first, third] {
        assert!(
            !end.place.shards[1].hand_over(bundle(0)),
            "there is a limit"
        );
        assert!(
            end.place.shards[2].hand_over(bundle(0)),
            "to each shard its own"
        );
    }
    // What there is little of anyway always has room.
    let mixed = Handed::Mixed(ListenAddr(loopback()));
    assert!(first.place.shards[1].hand_over(mixed));
    assert!(second.take().is_some());
    assert!(first.place.shards[1].hand_over(bundle(half)));
    assert!(!first.place.shards[1].hand_over(bundle(0)));
}

#[test]
fn the_last_that_is_done_or_gone_tells_the_others() {
    let mut ends = ends(3).expect("descriptors");
    ends[0].place.done();
    // It has no sockets, perhaps.
    drop(ends.remove(1));
    let [first, last] = &ends[..] else {
        panic!("two are left");
    };
    first.place.done();
    assert!(!first.place.all_are_done());
    assert_eq!(rung(first), 0);
    last.place.done();
    assert!(first.place.all_are_done());
    assert_eq!((rung(first), rung(last)), (1, 0));
    last.place.done();
    assert_eq!(rung(first), 0, "once is enough");
}

#[test]
fn what_is_handed_to_a_shard_that_has_ended_is_lost() {
    let mut ends = ends(2).expect("descriptors");
    drop(ends.pop());
    assert!(!ends[0].place.shards[1].hand_over(bundle(0)));
}
