//! `--idle-timeout`: a TCP connection on which nothing passes is reset.

use std::io::ErrorKind;

use crate::harness::{self, Balancer, Connection, Header, Proxy, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated};

/// Longer than a busy machine takes from one message to the next.
const SECONDS: &str = "2";

fn open(proxy: &Proxy, server: &TcpServer, n: usize) -> TestResult<(Connection, Connection)> {
    harness::open(proxy, server, &format!("192.0.2.{n}:4000"))
}

/// Whether a connection on which nothing is said has been reset. It tells so once.
fn is_reset(connection: &Connection) -> TestResult<bool> {
    let error = connection.stream().take_error()?.map(|it| it.kind());
    match error {
        None => Ok(false),
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(true),
        Some(other) => Err(format!("not reset: {other}").into()),
    }
}

#[test]
fn idle_connections_are_reset_on_both_sides_and_others_are_not() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--idle-timeout", SECONDS, "--listeners", "2", "-v", "2"])
            .start()?;
        let used = open(&proxy, &server, 1)?;
        // A byte in one direction is enough: an upload, a download.
        let (up, down) = (open(&proxy, &server, 2)?, open(&proxy, &server, 3)?);
        let idle = (4..12)
            .map(|n| open(&proxy, &server, n))
            .collect::<TestResult<Vec<_>>>()?;
        idle[0].0.expect_talk(&idle[0].1)?;
        idle[1].0.finish()?;
        idle[1].1.expect_end()?;
        // The balancer's own is no exception: nothing passes, and nothing is known of the client.
        let check = Balancer::default().connect(&proxy, &Header::v2_local_bare())?;
        let check = (check, server.accept()?);

        let mut left: Vec<_> = idle.iter().chain([&check]).collect();
        while !left.is_empty() {
            used.0.expect_talk(&used.1)?;
            up.0.send(b"up")?;
            up.1.expect(b"up")?;
            down.1.send(b"down")?;
            down.0.expect(b"down")?;
            let mut still = Vec::new();
            for connection in left {
                if !is_reset(&connection.0)? {
                    still.push(connection);
                }
            }
            left = still;
        }
        for (_, session) in idle.iter().chain([&check]) {
            wait_for(|| Ok(is_reset(session)?.then_some(())))?;
        }
        for (downstream, session) in [&used, &up, &down] {
            downstream.expect_talk(session)?;
        }
        let closed = proxy.wait_for_message("closed")?;
        assert_eq!(closed["reason"], "no byte for 2 s (--idle-timeout)");
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_idle")?, 9);
        exit.expect_success()
    })
}

/// On one shard, on which nothing else happens that could make it go on.
#[test]
fn more_connections_than_a_turn_ends_are_all_ended() -> TestResult {
    const MANY: usize = 600;
    isolated(|| {
        crate::harness::raise_descriptor_limit(4 * MANY as u64)?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--idle-timeout", SECONDS, "--listeners", "1"])
            .start()?;
        let connections = (0..MANY)
            .map(|n| {
                let client = format!("192.0.2.{}:{}", n % 200 + 1, 4000 + n);
                Balancer::default().connect(&proxy, &Header::of(&client)?)
            })
            .collect::<TestResult<Vec<_>>>()?;
        for connection in &connections {
            connection.expect_reset()?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("ended_idle")?, MANY as u64);
        exit.expect_success()
    })
}
