//! How connections end: an end stays an end, and a reset a reset.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{CLIENT, noise};
use crate::harness::{Connection, PATIENCE, Proxy, TcpServer, open, unread, wait_for};
use crate::namespace::{TestResult, isolated};

/// More than all buffers on the way hold together.
const BULK: usize = 10 << 20;

#[test]
fn a_reset_of_an_idle_connection_is_passed_on_both_ways() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.expect_talk(&session)?;
        downstream.reset()?;
        session.expect_reset()?;

        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.expect_talk(&session)?;
        session.reset()?;
        downstream.expect_reset()?;

        // Before a byte is said.
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.reset()?;
        session.expect_reset()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        session.reset()?;
        downstream.expect_reset()
    })
}

#[test]
fn a_reset_behind_bulk_is_passed_on_both_ways() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let bulk = noise(1, BULK);
        for client_resets in [true, false] {
            let (downstream, session) = open(&proxy, &server, CLIENT)?;
            let (from, to) = if client_resets {
                (downstream, session)
            } else {
                (session, downstream)
            };
            thread::scope(|scope| {
                let sent = scope.spawn(|| from.send(&bulk));
                to.expect(&bulk)?;
                sent.join().map_err(|_| "the sending thread panicked")?
            })?;
            from.reset()?;
            to.expect_reset()?;
        }
        Ok(())
    })
}

/// The receiver does not read: there are bytes of it in every buffer when the sender resets.
#[test]
fn a_reset_in_the_middle_of_bulk_is_passed_on_both_ways() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let bulk = noise(2, 4 * BULK);
        for client_resets in [true, false] {
            let (downstream, session) = open(&proxy, &server, CLIENT)?;
            let (from, to) = if client_resets {
                (downstream, session)
            } else {
                (session, downstream)
            };
            let far_end = proxy.socket_to(&from)?;
            from.stream().set_nonblocking(true)?;
            let mut sent = 0;
            // Until the proxy has no room any more, which shows in what it leaves unread.
            wait_for(|| {
                while sent < bulk.len() {
                    match from.stream().write(&bulk[sent..]) {
                        Ok(count) => sent += count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok((unread(&far_end)? > 64 << 10).then_some(()))
            })?;
            drop(far_end);
            from.reset()?;
            to.expect_reset_in_time()?;
        }
        Ok(())
    })
}

#[test]
fn a_reset_of_the_receiver_reaches_a_sender_that_cannot_send() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        for client_sends in [true, false] {
            let (downstream, session) = open(&proxy, &server, CLIENT)?;
            let (from, to) = if client_sends {
                (downstream, session)
            } else {
                (session, downstream)
            };
            let far_end = proxy.socket_to(&from)?;
            let bulk = noise(3, 4 * BULK);
            let sent = thread::scope(|scope| {
                let sender = scope.spawn(|| from.stream().write_all(&bulk));
                let full = wait_for(|| Ok((unread(&far_end)? > 64 << 10).then_some(())));
                drop(far_end);
                to.reset()?;
                full?;
                TestResult::Ok(sender.join().map_err(|_| "the sending thread panicked")?)
            })?;
            let error = sent.map_err(|error| error.kind());
            assert_eq!(error, Err(ErrorKind::ConnectionReset));
        }
        Ok(())
    })
}

/// The one who has finished vanishes, and the other says nothing that could find out.
#[test]
fn a_reset_after_the_end_of_its_own_side_is_passed_on_both_ways() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.finish()?;
        session.expect_end()?;
        downstream.reset()?;
        expect_failure(&session)?;

        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        session.finish()?;
        downstream.expect_end()?;
        session.reset()?;
        expect_failure(&downstream)
    })
}

#[test]
fn the_server_may_close_first() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(["-v", "2"]).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        session.send(b"go away")?;
        drop(session);
        downstream.expect(b"go away")?;
        downstream.expect_end()?;
        drop(downstream);
        let closed = proxy.wait_for_message("closed")?;
        assert_eq!(closed["reason"], "both sides closed");

        // A client that goes on all the same learns that nobody listens.
        let (downstream, session) = open(&proxy, &server, "192.0.2.1:4001")?;
        drop(session);
        downstream.expect_end()?;
        expect_failing_writes(&downstream)
    })
}

/// The kernel resets a connection that is closed with bytes unread.
#[test]
fn a_server_that_closes_without_reading_resets() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (downstream, session) = open(&proxy, &server, CLIENT)?;
        downstream.send(b"hello?")?;
        session.stream().peek(&mut [0; 6])?;
        drop(session);
        downstream.expect_reset()
    })
}

/// The socket fails by itself. Reading would not tell: behind an end there is nothing more to read.
fn expect_failure(connection: &Connection) -> TestResult {
    let error = wait_for(|| Ok(connection.stream().take_error()?))?;
    // That is how Linux calls a reset behind an end.
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    Ok(())
}

/// Writing fails in the end: the first bytes may be gone before the news is there.
fn expect_failing_writes(connection: &Connection) -> TestResult {
    wait_for(|| match connection.stream().write(b"!") {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Some(())),
        Err(error) => Err(error.into()),
    })
}

/// Speaking to a server that is gone is what resets the connection to it, and no reason to forget what it has said.
#[test]
fn a_slow_reader_who_speaks_meanwhile_is_passed_all_that_the_server_has_said() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        let (client, session) = open(&proxy, &server, CLIENT)?;
        let mut buffer = vec![0; 64 << 10];
        // Its end comes when all of it is with the proxy.
        SockRef::from(session.stream()).set_linger(Some(PATIENCE))?;
        let (done, answered) = mpsc::channel();
        thread::spawn(move || {
            let sent = session.send(&vec![b'x'; BULK]).is_ok();
            drop(session);
            done.send(sent)
        });
        // No more than is needed for that is read.
        let sent = loop {
            match answered.recv_timeout(Duration::from_millis(50)) {
                Err(RecvTimeoutError::Timeout) => client.stream().read_exact(&mut buffer)?,
                answered => break answered?,
            }
        };
        assert!(sent, "the server has sent it");
        loop {
            // At the end it may be reset, too.
            let spoken = client.stream().write_all(b"more");
            match client.stream().read(&mut buffer) {
                Ok(count) if count > 0 && spoken.is_ok() => {}
                _ => break,
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("bytes_downstream")?, BULK as u64);
        exit.expect_success()
    })
}
