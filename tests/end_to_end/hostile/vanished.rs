//! Hosts that vanish: no end and no reset comes from them, and no answer either.
//!
//! How long that takes is for the kernel to say, by the options of the proxy's sockets, which `tcp::sockets` looks at. Here
//! the kernel is made less patient with these very sockets, and what follows from it is looked at.

use std::io::ErrorKind;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::TcpKeepalive;

use super::{CLIENT, NEVER, idle_sockets};
use crate::harness::{
    Balancer, Connection, Header, Proxy, ProxyBuilder, TcpServer, open, wait_for,
};
use crate::namespace::{TestResult, isolated};
use crate::other_host::OtherHost;

/// Makes the proxy less patient with whoever is at this end.
fn hurry(proxy: &Proxy, end: &Connection) -> TestResult {
    let socket = proxy.socket_to(end)?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(1))
        .with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&probes)?;
    Ok(socket.set_tcp_user_timeout(Some(Duration::from_secs(2)))?)
}

/// A proxy on one shard, for balancers on the other host.
fn proxy_for(host: &OtherHost, server: &TcpServer) -> TestResult<ProxyBuilder> {
    Ok(Proxy::tcp(server.addr()?)
        .listen(&format!("{}:0", host.router_v4()))
        .args(["--listeners", "1"]))
}

/// A connection from a balancer on this host, and the server's end of it.
fn open_from(
    host: &OtherHost,
    proxy: SocketAddr,
    server: &TcpServer,
    client: &str,
) -> TestResult<(Connection, Connection)> {
    let header = Header::of(client)?;
    let downstream = host.inside(move || Balancer::default().connect_to(proxy, &header))?;
    let session = server.accept()?;
    downstream.expect_talk(&session)?;
    Ok((downstream, session))
}

#[test]
fn a_balancer_is_noticed_in_silence_with_data_under_way_and_half_closed() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = proxy_for(&host, &server)?.start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        let silent = open_from(&host, proxy.addr(), &server, "192.0.2.1:4000")?;
        let spoken_to = open_from(&host, proxy.addr(), &server, "192.0.2.2:4000")?;
        let finished = open_from(&host, proxy.addr(), &server, "192.0.2.3:4000")?;
        finished.0.finish()?;
        finished.1.expect_end()?;
        for (downstream, _) in [&silent, &spoken_to, &finished] {
            hurry(&proxy, downstream)?;
        }
        host.run("ip link set eth0 down")?;
        spoken_to.1.send(b"are you there?")?;
        for (_, session) in [&silent, &spoken_to] {
            session.expect_reset()?;
        }
        let error = wait_for(|| Ok(finished.1.stream().take_error()?))?;
        assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ),
            "{error}"
        );
        proxy.wait_for_sockets(sockets)?;
        proxy.stop()?.expect_success()
    })
}

/// Whatever the sockets are like: what the balancer has not been given back is no byte that passed.
#[test]
fn a_balancer_that_vanished_is_idle() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = proxy_for(&host, &server)?
            .args(["--idle-timeout", "1"])
            .start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        let (_downstream, session) = open_from(&host, proxy.addr(), &server, CLIENT)?;
        host.run("ip link set eth0 down")?;
        session.send(b"are you there?")?;
        session.expect_reset()?;
        proxy.wait_for_sockets(sockets)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_servers_host_is_noticed_in_silence_and_with_data_under_way() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let ip = host.v4();
        let server = host.inside(move || TcpServer::bind(&ip))?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        let silent = open(&proxy, &server, "192.0.2.1:4000")?;
        let spoken_to = open(&proxy, &server, "192.0.2.2:4000")?;
        for (downstream, session) in [&silent, &spoken_to] {
            downstream.expect_talk(session)?;
            hurry(&proxy, session)?;
        }
        host.run("ip link set eth0 down")?;
        spoken_to.0.send(b"are you there?")?;
        for (downstream, _) in [&silent, &spoken_to] {
            downstream.expect_reset()?;
        }
        proxy.wait_for_sockets(sockets)?;
        proxy.stop()?.expect_success()
    })
}

/// It is there, and says so, but never reads: that is for the operator to judge.
#[test]
fn a_peer_that_takes_nothing_is_idle_if_there_is_such_a_limit() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--header-timeout", NEVER, "--listeners", "1"])
            .args(["--idle-timeout", "1"])
            .start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        for client_reads in [false, true] {
            let (downstream, session) = open(&proxy, &server, CLIENT)?;
            let (reads, floods) = if client_reads {
                (session, downstream)
            } else {
                (downstream, session)
            };
            reads.expect_talk(&floods)?;
            let bulk = vec![0; 1 << 20];
            let error = wait_for(|| Ok(floods.stream().write_all(&bulk).err()))?;
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            proxy.wait_for_sockets(sockets)?;
        }
        proxy.stop()?.expect_success()
    })
}
