//! Peers, servers, files and signals that are not what they should be. Whatever they do, others are served, and nothing
//! of theirs is left behind.
//!
//! What concerns one part alone is with that part: servers that are down in `tcp::dial`, resets that are passed on in
//! `tcp::resets`, deadlines of headers in `tcp::preface`, lists that change in `lists`, the end in `lifecycle`.

mod lists;
mod resets;
mod servers;
mod signals;
mod slow;
mod unread;
mod vanished;

use crate::harness::{Proxy, TcpServer, open};
use crate::namespace::TestResult;

/// A client like any other.
const CLIENT: &str = "192.0.2.1:4000";

/// The flags of an admin endpoint.
const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// A timeout that no test outlasts.
const NEVER: &str = "600";

/// How many sockets a proxy with one listener has when nobody is there: some come with the first client.
#[track_caller]
fn idle_sockets(proxy: &Proxy, server: &TcpServer) -> TestResult<usize> {
    let (downstream, session) = open(proxy, server, CLIENT)?;
    downstream.expect_talk(&session)?;
    let sockets = proxy.socket_count()?;
    downstream.reset()?;
    session.expect_reset()?;
    proxy.wait_for_sockets(sockets - 2)?;
    Ok(sockets - 2)
}
