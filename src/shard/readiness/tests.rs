//! The driver in both its sleeps, and the internal of glommio it stands on.

use super::*;
use glommio::timer::sleep;
use glommio::{LocalExecutorBuilder, Placement};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn on_executor<T>(future: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .expect("io_uring")
        .run(future)
}

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    a.set_nonblocking(true).expect("a socket");
    (a, b)
}

/// Guards the internal of glommio 0.9.0 which `sleep_in_ring` stands on.
#[test]
fn the_ring_wakes_when_epoll_has_something_and_not_before() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let (a, mut b) = pair();
        let _a = set.watch(a).expect("watched");
        let mut events = Vec::with_capacity(8);
        let early = futures_lite::future::or(async { set.sleep_in_ring().await }, async {
            Timer::new(Duration::from_millis(30)).await;
            false
        });
        assert!(!early.await, "nothing is ready, and yet the ring woke");

        let writer = glommio::spawn_local(async move {
            sleep(Duration::from_millis(10)).await;
            b.write_all(b"x").expect("written");
            b
        });
        assert!(set.sleep_in_ring().await);
        assert_eq!(set.wait(&mut events, Duration::ZERO).expect("epoll"), 1);
        drop(writer.await);
    });
}

#[test]
fn the_driver_wakes_the_waiting_task_in_all_its_sleeps() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let driver = set.clone();
        glommio::spawn_local(
            async move { driver.drive(&Locality::fixed(), &Counter::default()).await },
        )
        .detach();
        let (a, mut b) = pair();
        let a = set.watch(a).expect("watched");
        // The first rounds are brisk, the next ones sparse, and those behind the long pause come from the ring.
        for round in 0..36u8 {
            match round {
                0..30 => {}
                30..33 => sleep(Duration::from_millis(30)).await,
                _ => sleep(Duration::from_millis(300)).await,
            }
            b.write_all(&[round]).expect("written");
            a.readable().await;
            let mut byte = [0];
            (&*a).read_exact(&mut byte).expect("a byte");
            assert_eq!(byte, [round]);
            a.drained();
        }
    });
}

#[test]
fn room_is_an_event_once_there_was_none() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let driver = set.clone();
        glommio::spawn_local(
            async move { driver.drive(&Locality::fixed(), &Counter::default()).await },
        )
        .detach();
        let (a, mut b) = pair();
        let a = set.watch(a).expect("watched");
        for _ in 0..3 {
            assert!(a.is_writable());
            a.writable().await;
            let mut written = 0;
            let full = loop {
                match (&*a).write(&[0; 4096]) {
                    Ok(count) => written += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            a.filled();
            assert!(!a.is_writable());
            let early = or(async { a.writable().await }, async {
                sleep(Duration::from_millis(30)).await;
            });
            early.await;
            assert!(!a.is_writable(), "it is full, and yet there was an event");

            b.read_exact(&mut vec![0; written]).expect("read");
            a.writable().await;
        }
    });
}

#[test]
fn room_there_was_all_the_time_is_told_when_it_is_asked_for() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let (a, _keep) = pair();
        let a = set.watch(a).expect("watched");
        let mut events = Vec::with_capacity(8);
        assert_eq!(set.wait(&mut events, Duration::ZERO).expect("epoll"), 0);
        a.filled();
        assert_eq!(set.wait(&mut events, Duration::ZERO).expect("epoll"), 1);
        set.dispatch(&events);
        assert!(a.is_writable());
    });
}

#[test]
fn who_rests_for_a_short_while_keeps_the_driver_from_oversleeping() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        assert!(set.suits(SPARSE_SLEEP));
        let resting = futures_lite::future::or(
            async {
                set.rest(Duration::from_millis(50)).await;
                panic!("it rests for longer than the other looks")
            },
            async { (set.suits(SPARSE_SLEEP), set.suits(BRISK_SLEEP)) },
        );
        assert_eq!(resting.await, (false, true));
        assert!(set.suits(SPARSE_SLEEP), "it rests no more");
        let long = futures_lite::future::or(
            async {
                set.rest(SPARSE_SLEEP).await;
                panic!("it rests for longer than the other looks")
            },
            async { set.suits(SPARSE_SLEEP) },
        );
        assert!(long.await, "what is late by as much again anyway");
        set.rest_in_ring();
        assert!(!set.suits(SPARSE_SLEEP));
    });
}

#[test]
fn events_of_a_former_owner_are_dropped() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let (a, mut keep) = pair();
        keep.write_all(b"x").expect("written");
        let first = set.watch(a).expect("watched");
        let mut events = Vec::with_capacity(8);
        assert_eq!(set.wait(&mut events, Duration::ZERO).expect("epoll"), 1);
        drop(first);
        let (c, _keep) = pair();
        let second = set.watch(c).expect("watched");
        set.dispatch(&events);
        assert!(
            !second.is_readable(),
            "an event of the first socket reached the second"
        );
    });
}

#[test]
fn a_queue_names_the_readable_sockets() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let queue = Rc::new(ReadyQueue::default());
        let (a, mut b) = pair();
        let watched = set.watch_queued(a, &queue, 7).expect("watched");
        let mut events = Vec::with_capacity(8);
        set.wait(&mut events, Duration::ZERO).expect("epoll");
        set.dispatch(&events);
        assert!(queue.is_empty(), "nothing to read yet");
        b.write_all(b"x").expect("written");
        set.wait(&mut events, Duration::ZERO).expect("epoll");
        set.dispatch(&events);
        assert_eq!((queue.pop(), queue.pop()), (Some(7), None));
        assert!(watched.is_readable());
    });
}

/// Without the driver waking, this would hang: nothing happens in epoll.
#[test]
fn a_task_that_a_timer_woke_may_pause_while_the_driver_sleeps_in_the_ring() {
    on_executor(async {
        let set = Readiness::new().expect("epoll");
        let driver = set.clone();
        glommio::spawn_local(
            async move { driver.drive(&Locality::fixed(), &Counter::default()).await },
        )
        .detach();
        for _ in 0..3 {
            sleep(Duration::from_millis(10)).await;
            for _ in 0..10 {
                set.pause().await;
            }
        }
    });
}

/// A set with its driver, and a socket in it whose far end answers each byte at once, which keeps the driver brisk. The
/// executor is never preempted, so that whatever gets a turn gets it from the driver.
fn with_brisk_driver<T>(test: impl AsyncFnOnce(Readiness, Watched<UnixStream>) -> T) -> T {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(Duration::from_secs(3600))
        .make();
    executor.expect("io_uring").run(async {
        let set = Readiness::new().expect("epoll");
        let driver = set.clone();
        glommio::spawn_local(
            async move { driver.drive(&Locality::fixed(), &Counter::default()).await },
        )
        .detach();
        let (near, mut far) = pair();
        far.set_nonblocking(false).expect("a socket");
        let echo = std::thread::spawn(move || {
            let mut byte = [0];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        let near = set.watch(near).expect("watched");
        for _ in 0..50 {
            ping(&near).await;
        }
        let result = test(set, near).await;
        echo.join().expect("the echo ends with the socket");
        result
    })
}

async fn ping(socket: &Watched<UnixStream>) {
    (&**socket).write_all(&[1]).expect("written");
    socket.readable().await;
    (&**socket).read_exact(&mut [0]).expect("a byte");
    socket.drained();
}

#[test]
fn a_task_that_pauses_is_not_slept_upon() {
    with_brisk_driver(async |set, _socket| {
        // 400 turns; each slept upon would make 4 s.
        let start = Instant::now();
        for _ in 0..400 {
            set.pause().await;
        }
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}

/// Turns that somebody asks for, each with a task that glommio wakes in it. A task that is slept upon goes on after
/// [`BRISK_SLEEP`] or more; on a busy machine some do without.
fn expect_no_sleep_upon(woken: impl AsyncFn(&Readiness)) {
    with_brisk_driver(async |set, socket| {
        let mut late = 0;
        for _ in 0..100 {
            ping(&socket).await;
            set.want_turn();
            let start = Instant::now();
            woken(&set).await;
            late += u32::from(start.elapsed() >= BRISK_SLEEP);
        }
        assert!(late < 50, "{late} of 100 were late");
    });
}

#[test]
fn a_task_that_pauses_in_a_turn_is_not_slept_upon() {
    expect_no_sleep_upon(async |set| {
        // Over before the turn's own timer.
        sleep(Duration::from_micros(1)).await;
        set.pause().await;
    });
}

/// Those whom glommio's channels wake are, too.
#[test]
fn a_task_woken_behind_the_driver_in_a_turn_is_not_slept_upon() {
    expect_no_sleep_upon(async |_set| {
        let mut woken = false;
        poll_fn(|cx| {
            if mem::replace(&mut woken, true) {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            let other = std::thread::spawn(move || waker.wake());
            other.join().expect("the waker does not panic");
            Poll::Pending
        })
        .await;
    });
}

/// Without turns the timer would never be over, and this test hang.
#[test]
fn timers_run_while_the_driver_is_brisk() {
    with_brisk_driver(async |_set, socket| {
        let timer = glommio::spawn_local(sleep(Duration::from_millis(20)));
        let traffic = async {
            loop {
                ping(&socket).await;
            }
        };
        futures_lite::future::or(timer, traffic).await;
    });
}

/// The code is cold by each turn, and slow: a turn's own timer must not be over before it has begun.
#[test]
fn timers_run_while_events_are_sparse() {
    with_brisk_driver(async |_set, socket| {
        let timers = glommio::spawn_local(async {
            for _ in 0..5 {
                sleep(Duration::from_millis(150)).await;
            }
        });
        let traffic = async {
            loop {
                ping(&socket).await;
                // The gap between events; no timer of glommio's.
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        futures_lite::future::or(timers, traffic).await;
    });
}

/// Without turns of the timer, or of the events, this would hang.
#[test]
fn events_and_timers_come_while_a_task_always_has_work_left() {
    with_brisk_driver(async |set, socket| {
        glommio::spawn_local(async move {
            loop {
                set.pause().await;
            }
        })
        .detach();
        let timer = glommio::spawn_local(sleep(Duration::from_millis(50)));
        let mut pings = 0;
        let traffic = async {
            loop {
                ping(&socket).await;
                pings += 1;
            }
        };
        futures_lite::future::or(timer, traffic).await;
        assert!(pings > 0);
    });
}
