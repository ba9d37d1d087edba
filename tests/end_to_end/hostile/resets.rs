//! Connections that are reset in every state they can be in: nothing of them is left behind.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::unread::{SPARE_ENDS_MAX, flood};
use super::{ADMIN, CLIENT, NEVER, idle_sockets};
use crate::harness::{
    Balancer, Connection, Header, Proxy, ProxyBuilder, TcpServer, open, wait_for,
};
use crate::namespace::{TestResult, isolated, run};
use crate::other_host::OtherHost;
use crate::tool::{Tool, isolated_with};

const CLIENT_V6: &str = "[2001:db8::1]:4000";

/// What loses bytes.
const NFT: Tool = Tool::program("nft", "nftables");

/// Enough for the proxy to splice it.
const BULK: usize = 4 << 20;

/// What two ends have come to before one of them resets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Silent,
    Talking,
    /// A lot has passed.
    Spliced,
    /// The one that will reset has finished.
    Finished,
    /// The other one has.
    Heard,
    /// The one that will reset has sent more than the other one takes.
    Flooding,
    /// The other one has.
    Flooded,
    /// Both have, and neither reads before it has sent all.
    Deadlocked,
    /// The other one has finished, and the one that will reset has sent more than it takes.
    FloodingLast,
}

use State::{
    Deadlocked, Finished, Flooded, Flooding, FloodingLast, Heard, Silent, Spliced, Talking,
};

const STATES: [State; 9] = [
    Silent,
    Talking,
    Spliced,
    Finished,
    Heard,
    Flooding,
    Flooded,
    Deadlocked,
    FloodingLast,
];

/// Brings a connection there. Returns the end that will reset, which is the client's or the server's, and the other one.
fn bring(
    state: State,
    (downstream, session): (Connection, Connection),
    client_resets: bool,
) -> TestResult<(Connection, Connection)> {
    let (resetting, other) = if client_resets {
        (downstream, session)
    } else {
        (session, downstream)
    };
    match state {
        Silent => {}
        Talking => resetting.expect_talk(&other)?,
        Spliced => {
            let bulk = vec![b'x'; BULK];
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| resetting.send(&bulk));
                other.expect(&bulk)?;
                sent.join().map_err(|_| "the sending thread panicked")?
            })?;
        }
        Finished => {
            resetting.finish()?;
            other.expect_end()?;
        }
        Heard => {
            other.finish()?;
            resetting.expect_end()?;
        }
        Flooding => flood(&[&resetting])?,
        Flooded => flood(&[&other])?,
        Deadlocked => flood(&[&resetting, &other])?,
        FloodingLast => {
            other.finish()?;
            resetting.expect_end()?;
            flood(&[&resetting])?;
        }
    }
    Ok((resetting, other))
}

/// The other end hears of it.
fn expect_news(state: State, other: &Connection, client_resets: bool) -> TestResult {
    other.stream().set_nonblocking(false)?;
    let reads_first = match state {
        Silent | Talking | Spliced | Flooding => true,
        // The server's last words are for the client, while a client that resets wants no more of it.
        FloodingLast => !client_resets,
        Finished | Heard | Flooded | Deadlocked => false,
    };
    if reads_first {
        return other.expect_reset_in_time();
    }
    // It reads no more, or cannot write: the socket fails by itself.
    wait_for(|| Ok(other.stream().take_error()?)).map(drop)
}

#[test]
fn nothing_is_left_of_a_relay_that_is_reset_in_any_state_by_either_side() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1"])
            .args(ADMIN)
            .start()?;
        let admin = proxy.admin()?;
        let sockets = idle_sockets(&proxy, &server)?;
        for state in STATES {
            for client_resets in [true, false] {
                let passed = || -> TestResult {
                    let ends = open(&proxy, &server, CLIENT)?;
                    let (resetting, other) = bring(state, ends, client_resets)?;
                    resetting.reset()?;
                    expect_news(state, &other, client_resets)?;
                    drop(other);
                    proxy.wait_for_sockets(sockets)
                };
                passed().map_err(|error| {
                    format!("{state:?}, client resets: {client_resets}: {error:?}")
                })?;
            }
        }
        wait_for(|| Ok((proxy.pipe_ends()? <= SPARE_ENDS_MAX).then_some(())))?;
        admin.wait_for_metric("glommproxy_connections_open", "0")?;
        let count = 1 + STATES.len() as u64 * 2;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections")?, count);
        Ok(())
    })
}

/// The server's kernel asks whether it is to be obeyed, and is answered in the client's name.
fn expect_reset_behind_a_loss(client: &str, server: &str) -> TestResult {
    let server = TcpServer::bind(server)?;
    let port = server.addr()?.port();
    let proxy = Proxy::tcp(server.addr()?).args(["--mark", "5"]).start()?;
    run("nft add table inet lossy")?;
    run("nft 'add chain inet lossy in { type filter hook input priority 0; }'")?;
    // Resets take the way that the mark says, as all else does.
    run("nft 'add chain inet lossy routed { type filter hook input priority 1; }'")?;
    if client.starts_with("192.") {
        run(&format!(
            "nft 'add rule inet lossy routed tcp dport {port} tcp flags rst meta mark != 5 drop'"
        ))?;
    }
    // Twice, as a client that comes back at once is to have its port again.
    for _ in 0..2 {
        let (downstream, session) = open(&proxy, &server, client)?;
        downstream.expect_talk(&session)?;
        run(&format!(
            "nft 'add rule inet lossy in meta length > 1000 tcp dport {port} counter drop'"
        ))?;
        downstream.send(&[b'x'; 4000])?;
        wait_for(|| {
            let rules = run("nft list table inet lossy")?;
            Ok((!rules.contains("packets 0 ")).then_some(()))
        })?;
        downstream.reset()?;
        session.expect_reset_in_time()?;
        assert_eq!(run("ss -Hltn src 127.0.0.2")?, "");
        run("nft flush chain inet lossy in")?;
    }
    proxy.stop()?.expect_success()
}

#[test]
fn one_behind_bytes_that_were_lost_is_heard() -> TestResult {
    isolated_with(&[NFT], || expect_reset_behind_a_loss(CLIENT, "127.0.0.1"))
}

/// On hosts that serve addresses which come and go (keepalived), every address can be bound, and is not this host's for that.
#[test]
fn one_behind_bytes_that_were_lost_is_heard_where_all_addresses_can_be_bound() -> TestResult {
    isolated_with(&[NFT], || {
        run("echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind")?;
        expect_reset_behind_a_loss(CLIENT, "127.0.0.1")
    })
}

/// The kernel answers for addresses of this host by itself, and we do not listen there.
#[test]
fn one_of_this_hosts_is_heard_as_it_is() -> TestResult {
    isolated_with(&[NFT], || {
        expect_reset_behind_a_loss("127.0.0.2:4000", "127.0.0.1")
    })
}

#[test]
fn one_behind_bytes_that_were_lost_is_heard_over_ipv6() -> TestResult {
    isolated_with(&[NFT], || expect_reset_behind_a_loss(CLIENT_V6, "::1"))
}

/// A server that cannot be heard, for IPv6 clients; the host must not be dropped.
fn black_hole() -> TestResult<(OtherHost, SocketAddr)> {
    let host = OtherHost::new(1)?;
    let ip = host.v6();
    let addr = host.inside(move || TcpServer::bind(&ip)?.addr())?;
    Ok((host, addr))
}

/// A proxy on one shard that waits for headers, and for the black hole to answer, as long as nobody resets.
fn patient_proxy(server: &TcpServer, black_hole: SocketAddr) -> TestResult<ProxyBuilder> {
    Ok(Proxy::tcp(server.addr()?)
        .and(black_hole)
        .args(["--header-timeout", NEVER, "--connect-timeout", NEVER])
        .args(["--listeners", "1"]))
}

/// Not when its deadlines are over: then thousands could be kept waiting for nobody.
#[test]
fn nothing_is_left_of_a_balancer_that_resets_before_there_is_a_relay() -> TestResult {
    isolated(|| {
        let (_host, black_hole) = black_hole()?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = patient_proxy(&server, black_hole)?
            .args(["-v", "1"])
            .args(ADMIN)
            .start()?;
        let admin = proxy.admin()?;
        let sockets = idle_sockets(&proxy, &server)?;
        for (header, expected) in [
            (Header::none(), 1),
            (Header::raw("PROXY TCP4 192.0.2.1 "), 1),
            (Header::raw(&Header::of(CLIENT)?.bytes()[..15]), 1),
            (Header::of(CLIENT_V6)?, 2),
            (Header::of(CLIENT_V6)?.then(b"hello"), 2),
        ] {
            let downstream = Balancer::default().connect(&proxy, &header)?;
            // It is there, and its server's socket if there is one by now.
            wait_for(|| Ok((proxy.socket_count()? == sockets + expected).then_some(())))?;
            downstream.reset()?;
            proxy.wait_for_sockets(sockets)?;
        }
        let line = proxy.wait_for_logs(2, |line| {
            let expected = format!("reset by the peer before {black_hole} answered");
            line["error"] == expected.as_str()
        })?;
        assert_eq!(line[0]["message"], "connection dropped");
        // Whoever has only finished is still waited for.
        let downstream = Balancer::default().connect(&proxy, &Header::of(CLIENT_V6)?)?;
        wait_for(|| Ok((proxy.socket_count()? == sockets + 2).then_some(())))?;
        downstream.finish()?;
        let (other, session) = open(&proxy, &server, CLIENT)?;
        other.expect_talk(&session)?;
        assert_eq!(proxy.socket_count()?, sockets + 4);
        drop((downstream, other, session));
        admin.wait_for_metric(
            "glommproxy_dropped_total{protocol=\"tcp\",reason=\"dial\"}",
            "2",
        )?;
        Ok(())
    })
}

/// A drain ends with the last of them.
#[test]
fn a_drain_hears_of_resets_in_any_state() -> TestResult {
    isolated(|| {
        let (_host, black_hole) = black_hole()?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = patient_proxy(&server, black_hole)?
            .args(["--drain-timeout", NEVER])
            .start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        let mut waiting = Vec::new();
        for header in [Header::none(), Header::raw("PROXY"), Header::of(CLIENT_V6)?] {
            waiting.push(Balancer::default().connect(&proxy, &header)?);
        }
        wait_for(|| Ok((proxy.socket_count()? == sockets + 4).then_some(())))?;
        let mut resetting = Vec::new();
        let mut others = Vec::new();
        for (n, state) in STATES.into_iter().enumerate() {
            for client_resets in [true, false] {
                let port = 4000 + 2 * n + usize::from(client_resets);
                let ends = open(&proxy, &server, &format!("192.0.2.1:{port}"))?;
                let (one, other) = bring(state, ends, client_resets)?;
                resetting.push(one);
                others.push((state, other, client_resets));
            }
        }
        proxy.signal(Signal::TERM)?;
        let line = proxy.wait_for_message("draining")?;
        assert_eq!(line["connections"], waiting.len() + resetting.len());
        for one in waiting.into_iter().chain(resetting) {
            one.reset()?;
        }
        for (state, other, client_resets) in others {
            expect_news(state, &other, client_resets)?;
        }
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections_cut")?, 0);
        Ok(())
    })
}
