//! What goes through an established connection.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{CLIENT, noise};
use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, open, unread, wait_for};
use crate::namespace::{TestResult, isolated};

/// More than all buffers on the way hold together.
const BULK: usize = 10 << 20;

#[test]
fn the_client_finishes_first_and_the_server_answers_at_length() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        pass_and_finish(&downstream, &session, &noise(1, BULK))?;
        pass_and_finish(&session, &downstream, &noise(2, BULK))?;
        expect_bytes(proxy, BULK)
    })
}

#[test]
fn the_server_finishes_first_and_the_client_answers_at_length() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        pass_and_finish(&session, &downstream, &noise(3, BULK))?;
        pass_and_finish(&downstream, &session, &noise(4, BULK))?;
        expect_bytes(proxy, BULK)
    })
}

#[test]
fn both_send_at_once() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        let (question, answer) = (noise(5, BULK), noise(6, BULK));
        thread::scope(|scope| {
            let upwards = scope.spawn(|| pass_and_finish(&downstream, &session, &question));
            let downwards = scope.spawn(|| pass_and_finish(&session, &downstream, &answer));
            upwards.join().map_err(|_| "panicked")??;
            downwards.join().map_err(|_| "panicked")?
        })?;
        expect_bytes(proxy, BULK)
    })
}

/// Bulk moves through pipes, small messages do not; every change between the two keeps all bytes, in order.
#[test]
fn bulk_and_small_messages_alternate() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        let pipe_ends = proxy.pipe_ends()?;
        for round in 1..=3 {
            for (from, to) in [(&downstream, &session), (&session, &downstream)] {
                for _ in 0..20 {
                    from.expect_talk(to)?;
                }
                // On a machine with other things to do the sender may fall behind, and all of it may be copied.
                wait_for(|| {
                    pass_slowly(&proxy, from, to, &noise(round, BULK))?;
                    Ok((proxy.pipe_ends()? > pipe_ends).then_some(()))
                })?;
            }
        }
        downstream.expect_talk(&session)
    })
}

/// What the receiver has no room for is kept, in order, and comes before the end.
#[test]
fn small_messages_wait_for_a_receiver_that_does_not_read() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        for (client, client_sends) in [("192.0.2.1:4001", true), ("192.0.2.1:4002", false)] {
            let (downstream, session) = open(&proxy, &server, client)?;
            let (from, to) = if client_sends {
                (downstream, session)
            } else {
                (session, downstream)
            };
            let far_end = proxy.socket_to(&from)?;
            let message = noise(7, 30_000);
            let mut sent = 0;
            // One at a time, so that it never looks like bulk.
            while is_read(&far_end)? {
                from.send(&message)?;
                sent += 1;
            }
            drop(far_end);
            from.finish()?;
            to.expect(&message.repeat(sent))?;
            to.expect_end()?;
            to.finish()?;
            from.expect_end()?;
        }
        Ok(())
    })
}

#[test]
fn many_connections_at_once_on_all_shards() -> TestResult {
    isolated(|| {
        const CONNECTIONS: u16 = 100;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "2", "--listeners", "3", "--no-pin"])
            .start()?;
        let mut clients = HashMap::<SocketAddr, _>::new();
        for number in 0..CONNECTIONS {
            let client = format!("192.0.2.{}:{}", number % 7 + 1, 4000 + number);
            let downstream = Balancer::default().connect(&proxy, &Header::of(&client)?)?;
            clients.insert(client.parse()?, downstream);
        }
        let mut pairs = Vec::new();
        for _ in 0..CONNECTIONS {
            let session = server.accept()?;
            let client = clients.remove(&session.peer()?).ok_or("no such client")?;
            pairs.push((client, session));
        }
        for round in 0..3 {
            for (number, (client, session)) in pairs.iter().enumerate() {
                client.send(format!("question {round} of {number};").as_bytes())?;
                session.send(format!("answer {round} of {number};").as_bytes())?;
            }
            for (number, (client, session)) in pairs.iter().enumerate().rev() {
                session.expect(format!("question {round} of {number};").as_bytes())?;
                client.expect(format!("answer {round} of {number};").as_bytes())?;
            }
        }
        drop(pairs);
        let exit = proxy.stop()?;
        let shards = exit.log.iter().filter(|line| line["message"] == "accepted");
        let shards: HashSet<_> = shards.map(|line| line["listener"].as_u64()).collect();
        assert_eq!(shards, HashSet::from([Some(0), Some(1), Some(2)]));
        assert_eq!(exit.total("connections")?, u64::from(CONNECTIONS));
        Ok(())
    })
}

#[test]
fn connections_come_and_go_one_after_another() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server).args(["-v", "2"]).start()?;
        for number in 0..200 {
            let header = Header::of(&format!("192.0.2.1:{}", 4000 + number))?;
            let downstream = Balancer::default().connect(&proxy, &header.then(b"one "))?;
            downstream.expect(b"one ")?;
            downstream.expect_echo(b"two")?;
            downstream.finish()?;
            downstream.expect_end()?;
        }
        let closed = proxy.wait_for_logs(200, |line| line["message"] == "closed")?;
        assert!(
            closed
                .iter()
                .all(|line| line["reason"] == "both sides closed")
        );
        proxy.stop()?.expect_success()
    })
}

/// A shard must not go to sleep while a task of its own, such as a new connection's, waits for its turn.
#[test]
fn a_new_connection_is_served_at_once() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let proxy = Proxy::tcp(server).args(["--listeners", "1"]).start()?;
        let mut times = Vec::new();
        for number in 0..101 {
            let header = Header::of(&format!("192.0.2.1:{}", 4000 + number))?;
            let started = Instant::now();
            let downstream = Balancer::default().connect(&proxy, &header.then(b"question"))?;
            downstream.expect(b"question")?;
            times.push(started.elapsed());
            downstream.finish()?;
            downstream.expect_end()?;
        }
        times.sort();
        // Half a millisecond on an idle machine; a shard that sleeps takes 10.
        let median = times[times.len() / 2];
        assert!(median < Duration::from_millis(5), "median {median:?}");
        proxy.stop()?.expect_success()
    })
}

/// Whether the proxy reads all that has come, soon. A machine slower than that only makes the test easier.
fn is_read(far_end: &Socket) -> TestResult<bool> {
    let deadline = Instant::now() + Duration::from_millis(200);
    wait_for(|| match unread(far_end)? {
        0 => Ok(Some(true)),
        _ if Instant::now() > deadline => Ok(Some(false)),
        _ => Ok(None),
    })
}

/// Sends it all and finishes, in one thread, while another receives.
fn pass_and_finish(from: &Connection, to: &Connection, bytes: &[u8]) -> TestResult {
    thread::scope(|scope| {
        let sent = scope.spawn(|| from.send(bytes).and_then(|()| from.finish()));
        to.expect(bytes)?;
        to.expect_end()?;
        sent.join().map_err(|_| "the sending thread panicked")?
    })
}

/// Sends it all to a receiver that begins to read only when everything on the way is full.
fn pass_slowly(proxy: &Proxy, from: &Connection, to: &Connection, bytes: &[u8]) -> TestResult {
    let far_end = proxy.socket_to(from)?;
    thread::scope(|scope| {
        let sent = scope.spawn(|| from.send(bytes));
        // More than the proxy reads at once; or all of it, if the buffers have grown so large.
        wait_for(|| Ok((sent.is_finished() || unread(&far_end)? > 64 << 10).then_some(())))?;
        to.expect(bytes)?;
        sent.join().map_err(|_| "the sending thread panicked")?
    })
}

/// What the proxy has counted: this much each way.
fn expect_bytes(proxy: Proxy, bytes: usize) -> TestResult {
    let exit = proxy.stop()?;
    exit.expect_success()?;
    let bytes = u64::try_from(bytes)?;
    assert_eq!(exit.total("bytes_upstream")?, bytes);
    assert_eq!(exit.total("bytes_downstream")?, bytes);
    Ok(())
}
