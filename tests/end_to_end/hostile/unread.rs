//! Peers that ask for much and never read it: what they hold is bounded, and others are served.

use std::io::{ErrorKind, Write};

use super::ADMIN;
use crate::harness::{Connection, Proxy, TcpServer, open, raise_descriptor_limit, wait_for};
use crate::namespace::{TestResult, isolated, run};

/// Both ways, that is more than a shard has pipes.
const COUNT: usize = 150;

/// What the manual says: of one direction that the far side does not read …
const DIRECTION_MAX: u64 = 64 << 10;
/// … and of a connection besides.
const CONNECTION_MAX: u64 = 4 << 10;

/// What an allocator may need beside what it was asked for.
const SLACK: u64 = 4 << 20;

/// The pipes a shard may have in use, by their ends, and those of the process's output.
const PIPE_ENDS_MAX: usize = 2 * 256 + 4;

/// The pipes a shard may keep for later.
pub(super) const SPARE_ENDS_MAX: usize = 2 * 64 + 4;

/// Writes to all until none of them takes any more.
pub(super) fn flood(sources: &[&Connection]) -> TestResult {
    let bulk = vec![b'x'; 1 << 20];
    for source in sources {
        source.stream().set_nonblocking(true)?;
    }
    let mut still = 0;
    wait_for(|| {
        let mut written = 0;
        for source in sources {
            loop {
                match source.stream().write(&bulk) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        still = if written == 0 { still + 1 } else { 0 };
        Ok((still == 50).then_some(()))
    })
}

#[test]
fn what_peers_that_never_read_hold_is_bounded_and_given_back() -> TestResult {
    isolated(|| {
        raise_descriptor_limit(2 * COUNT as u64 + 1000)?;
        // What the kernel holds is for its administrator to say.
        for buffer in ["tcp_rmem", "tcp_wmem"] {
            run(&format!(
                "echo 4096 131072 262144 > /proc/sys/net/ipv4/{buffer}"
            ))?;
        }
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1"])
            .args(ADMIN)
            .start()?;
        let admin = proxy.admin()?;
        // The first one brings what there is one of.
        let (downstream, session) = open(&proxy, &server, "192.0.2.1:4000")?;
        downstream.expect_talk(&session)?;
        let (sockets, resident) = (proxy.socket_count()?, proxy.resident()?);

        let connections = (0..COUNT)
            .map(|n| open(&proxy, &server, &format!("192.0.2.2:{}", 10_000 + n)))
            .collect::<TestResult<Vec<_>>>()?;
        // One way, and then the other as well.
        let sessions: Vec<_> = connections.iter().map(|(_, session)| session).collect();
        flood(&sessions)?;
        let one_way = proxy.resident()?.saturating_sub(resident);
        let one_way_max = COUNT as u64 * (DIRECTION_MAX + CONNECTION_MAX) + SLACK;
        assert!(one_way <= one_way_max, "{one_way} of {one_way_max} bytes");
        let downstreams: Vec<_> = connections.iter().map(|(peer, _)| peer).collect();
        flood(&downstreams)?;
        let both_ways = proxy.resident()?.saturating_sub(resident);
        let both_ways_max = COUNT as u64 * (2 * DIRECTION_MAX + CONNECTION_MAX) + SLACK;
        assert!(
            both_ways <= both_ways_max,
            "{both_ways} of {both_ways_max} bytes"
        );
        let pipes = proxy.pipe_ends()?;
        assert!(pipes <= PIPE_ENDS_MAX, "{pipes} ends of pipes");
        eprintln!("{one_way} bytes one way, {both_ways} both ways, {pipes} ends of pipes");

        // Others are served, in small and at length.
        let (other, other_session) = open(&proxy, &server, "192.0.2.3:4000")?;
        other.expect_talk(&other_session)?;
        let bulk = vec![b'y'; 10 << 20];
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| other_session.send(&bulk));
            other.expect(&bulk)?;
            sent.join().map_err(|_| "the sending thread panicked")?
        })?;
        drop((other, other_session));

        drop(connections);
        proxy.wait_for_sockets(sockets)?;
        wait_for(|| Ok((proxy.pipe_ends()? <= SPARE_ENDS_MAX).then_some(())))?;
        downstream.expect_talk(&session)?;
        drop((downstream, session));
        admin.wait_for_metric("glommproxy_connections_open", "0")?;
        proxy.stop()?.expect_success()
    })
}
