//! What a binding promises. The table below it has tests of its own.

use super::*;
use crate::addr::ClientAddr;
use std::net::SocketAddr;

const IDLE: Duration = Duration::from_secs(60);

fn peer(n: u16) -> PeerAddr {
    PeerAddr::new(SocketAddr::from(([192, 0, 2, 1], n)))
}

/// A peer at the first frontend.
fn from(n: u16) -> Downstream {
    from_peer(peer(n))
}

fn from_peer(peer: PeerAddr) -> Downstream {
    Downstream { peer, frontend: 0 }
}

fn client(n: u8) -> Session {
    let source = SocketAddr::from(([203, 0, 113, n], 4000));
    session_of(ClientAddr::believe(source, peer(1)).expect("a client's address"))
}

fn session_of(client: ClientAddr) -> Session {
    Session {
        party: Party::Client(client),
        destination: Some(SocketAddr::from(([192, 0, 2, 80], 443))),
    }
}

#[test]
fn a_peer_speaks_for_the_latest_client_it_named() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    assert_eq!(bindings.find(from(1), now), None);
    let change = bindings.bind(from(1), client(1), now);
    assert_eq!((change.is_new, change.former), (true, None));
    let change = bindings.bind(from(1), client(1), now);
    assert_eq!((change.is_new, change.former), (false, None));
    let change = bindings.bind(from(1), client(2), now);
    assert_eq!((change.is_new, change.former), (true, Some(client(1))));
    assert_eq!(bindings.find(from(1), now), Some(client(2)));
    assert_eq!(bindings.find(from(2), now), None);
}

#[test]
fn several_peers_may_speak_for_one_client() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    for n in 1..=3 {
        assert!(bindings.bind(from(n), client(1), now).is_new);
    }
    for n in 1..=3 {
        assert_eq!(bindings.find(from(n), now), Some(client(1)));
    }
}

/// A balancer may use one socket for all its backends.
#[test]
fn at_another_frontend_a_peer_speaks_for_somebody_else() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    let at = |frontend| Downstream {
        frontend,
        ..from(1)
    };
    for frontend in [0, 1] {
        let change = bindings.bind(at(frontend), client(frontend as u8), now);
        assert_eq!((change.is_new, change.former), (true, None));
    }
    assert_eq!(bindings.unbind(at(0), now), Some(client(0)));
    assert_eq!(bindings.find(at(0), now), None);
    assert_eq!(bindings.find(at(1), now), Some(client(1)));
    assert_eq!(bindings.find(at(2), now), None);
}

#[test]
fn a_client_with_another_destination_is_another_session() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    let elsewhere = Session {
        destination: Some(SocketAddr::from(([192, 0, 2, 80], 444))),
        ..client(1)
    };
    bindings.bind(from(1), client(1), now);
    let change = bindings.bind(from(1), elsewhere, now);
    assert_eq!((change.is_new, change.former), (true, Some(client(1))));
    assert_eq!(bindings.find(from(1), now), Some(elsewhere));
}

/// A refused header means that somebody speaks, and not who.
#[test]
fn behind_a_refused_header_a_peer_speaks_for_nobody() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    assert_eq!(bindings.unbind(from(1), now), None);
    bindings.bind(from(1), client(1), now);
    assert_eq!(bindings.unbind(from(1), now), Some(client(1)));
    assert_eq!(bindings.find(from(1), now), None);
    assert_eq!(bindings.unbind(from(1), now), None);
    assert_eq!(bindings.bind(from(1), client(1), now).former, None);
    assert_eq!(bindings.find(from(1), now), Some(client(1)));
}

/// Guards the server's trust in its own host: the client of a balancer could write LOCAL itself.
#[test]
fn a_peer_of_a_client_cannot_become_this_host() {
    let now = Instant::now();
    let local_peer = PeerAddr::new(SocketAddr::from(([127, 0, 0, 1], 1)));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 4000));
    let loopback = ClientAddr::believe(loopback, local_peer).expect("from a local peer");
    let itself = Session {
        party: Party::Peer(local_peer, 0),
        destination: None,
    };
    let local = from_peer(local_peer);
    for this_host in [itself, session_of(loopback)] {
        let mut bindings = Bindings::new(10, IDLE);
        assert!(bindings.may_bind(local, this_host));
        bindings.bind(local, this_host, now);
        assert!(bindings.may_bind(local, this_host));
        assert!(bindings.may_bind(local, client(1)));
        bindings.bind(local, client(1), now);
        assert!(!bindings.may_bind(local, this_host));
        assert!(bindings.may_bind(local, client(2)));
        assert!(bindings.may_bind(from(2), this_host));
        // Not by way of a broken header, either.
        bindings.unbind(local, now);
        assert!(!bindings.may_bind(local, this_host));
        assert!(bindings.may_bind(local, client(2)));
    }
}

#[test]
fn a_binding_ends_when_nothing_passes_either_way() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut bindings = Bindings::new(10, IDLE);
    for n in 1..=4 {
        bindings.bind(from(n), client(n as u8), at(0));
    }
    bindings.find(from(2), at(10));
    bindings.answer(from(3), at(20));
    bindings.bind(from(4), client(4), at(30));
    let ends: Vec<_> = (0..4)
        .map(|_| {
            let next = bindings.next_expiry().expect("a binding is left");
            assert!(!bindings.expire(next - Duration::from_nanos(1)));
            assert!(bindings.expire(next));
            (next - start).as_secs()
        })
        .collect();
    assert_eq!(ends, [60, 70, 80, 90]);
    assert_eq!(bindings.next_expiry(), None);
    assert!((1..=4).all(|n| bindings.find(from(n), at(90)).is_none()));
}

#[test]
fn the_never_answered_make_room_first() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut bindings = Bindings::new(3, IDLE);
    for n in 1..=3 {
        bindings.bind(from(n), client(n as u8), at(0));
    }
    bindings.answer(from(1), at(1));
    // A flood displaces itself.
    for n in 4..100 {
        bindings.bind(from(n), client(n as u8), at(2));
    }
    let left: Vec<_> = (1..100)
        .filter(|&n| bindings.find(from(n), at(3)).is_some())
        .collect();
    assert_eq!(left, [1, 98, 99]);
    // Another client behind the same peer has not been answered.
    bindings.bind(from(1), client(200), at(4));
    bindings.answer(from(98), at(5));
    bindings.answer(from(99), at(5));
    bindings.bind(from(100), client(100), at(6));
    assert_eq!(bindings.find(from(1), at(7)), None);
}

#[test]
fn a_frontend_that_is_no_more_takes_its_bindings_with_it() {
    let now = Instant::now();
    let mut bindings = Bindings::new(10, IDLE);
    let at = |frontend, n| Downstream {
        frontend,
        ..from(n)
    };
    for n in 1..=3 {
        bindings.bind(at(0, n), client(1), now);
        bindings.bind(at(1, n), client(2), now);
    }
    bindings.forget(1);
    for n in 1..=3 {
        assert_eq!(bindings.find(at(0, n), now), Some(client(1)));
        assert_eq!(bindings.find(at(1, n), now), None);
    }
}
