//! A panic while one connection, datagram or flow is served ends that, and nothing else.
//!
//! The panics are real ones: strace has the kernel say that it has read, or sent, more than there is room for, and the
//! program's own checks of bounds do the rest.

use serde_json::Value;

use super::strace::{STRACE, Strace};
use super::{ADMIN, expect_tcp, expect_udp};
use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::TestResult;
use crate::tool::isolated_with;

const TCP: &str = "glommproxy_panics_total{protocol=\"tcp\"}";
const UDP: &str = "glommproxy_panics_total{protocol=\"udp\"}";

/// The one line of a panic, with where it was and whom it met.
#[track_caller]
fn expect_line(proxy: &Proxy, peer: &str) -> TestResult {
    let is_error = |line: &Value| line["level"] == "ERROR";
    let line = proxy.wait_for_log(is_error)?;
    assert_eq!(line["peer_addr"], peer);
    let error = line["error"].as_str().unwrap_or_default();
    let begins = error.starts_with("panicked at src/") && error.contains(".rs:");
    assert!(begins && error.contains("out of "), "{error}");
    let message = line["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("this is a bug, please report it"),
        "{message}"
    );
    assert_eq!(proxy.log().iter().filter(|line| is_error(line)).count(), 1);
    Ok(())
}

/// Two ends of a connection through the proxy.
fn connected(proxy: &Proxy, server: &TcpServer, client: &str) -> TestResult<[Connection; 2]> {
    let downstream = Balancer::default().connect(proxy, &Header::of(client)?)?;
    let upstream = server.accept()?;
    downstream.expect_talk(&upstream)?;
    Ok([downstream, upstream])
}

#[test]
fn in_a_header_it_resets_that_connection() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(ADMIN).start()?;
        let admin = proxy.admin()?;
        let [client, upstream] = connected(&proxy, &server, "192.0.2.1:4000")?;
        let sockets = proxy.socket_count()?;

        let dropped = Balancer::default().connect(&proxy, &Header::none())?;
        let what = "recvfrom:retval=70000:when=1";
        let strace = Strace::inject_at(&proxy, &dropped, "shard-0", what)?;
        dropped.send(Header::of("192.0.2.2:4000")?.bytes())?;
        dropped.expect_reset()?;
        strace.expect_injected(1)?;
        drop(strace);

        expect_line(&proxy, &dropped.local()?.to_string())?;
        admin.wait_for_metric(TCP, "1")?;
        admin.wait_for_metric("glommproxy_connections_open", "1")?;
        client.expect_talk(&upstream)?;
        let [other, other_upstream] = connected(&proxy, &server, "192.0.2.2:4000")?;
        client.expect_talk(&upstream)?;
        other.expect_talk(&other_upstream)?;
        drop([other, other_upstream]);
        proxy.wait_for_sockets(sockets)?;
        proxy.stop()?.expect_success()
    })
}

/// Both sides learn that the connection broke: neither may take it for the end of what the other said.
#[test]
fn in_a_relay_it_resets_both_sides() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = TcpServer::bind("127.0.0.1")?;
        let access_log = tempfile::NamedTempFile::new()?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(ADMIN)
            .args([
                "--max-connections",
                "2",
                "--max-connections-per-client",
                "2",
            ])
            .args(["--idle-timeout", "60", "--access-log"])
            .args([access_log.path()])
            .start()?;
        let [client, upstream] = connected(&proxy, &server, "192.0.2.1:4000")?;
        // As often as there would be no place left, of any kind, if one was lost each time.
        for round in 1..=3 {
            let [broken, broken_upstream] = connected(&proxy, &server, "192.0.2.1:4001")?;
            let what = "recvfrom:retval=70000:when=1";
            let strace = Strace::inject_at(&proxy, &broken, "shard-0", what)?;
            broken.send(b"question")?;
            broken_upstream.expect_reset()?;
            broken.expect_reset()?;
            strace.expect_injected(1)?;
            drop(strace);
            proxy.admin()?.wait_for_metric(TCP, &round.to_string())?;
            client.expect_talk(&upstream)?;
        }
        let line = proxy.wait_for_log(|line| line["level"] == "ERROR")?;
        assert_eq!(line["client_addr"], "192.0.2.1:4001");
        wait_for(|| {
            let lines = std::fs::read_to_string(access_log.path())?;
            Ok((lines.matches("panic").count() == 3).then_some(()))
        })?;
        proxy
            .admin()?
            .wait_for_metric("glommproxy_connections_open", "1")?;
        proxy.stop()?.expect_success()
    })
}

/// Bytes that are in a pipe must not come out of it in another connection. Only a build that checks arithmetic finds
/// that more has been sent than there was.
#[cfg(debug_assertions)]
#[test]
fn a_pipe_with_bytes_in_it_is_not_used_again() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(ADMIN).start()?;
        let bulk = vec![b'a'; 4 << 20];
        let [client, upstream] = connected(&proxy, &server, "192.0.2.1:4000")?;
        let pipes = proxy.pipe_ends()?;
        let strace = Strace::inject(&proxy, "shard-0", "splice:retval=16000000:when=2")?;
        std::thread::scope(|scope| {
            // It ends with the reset.
            scope.spawn(|| client.send(&bulk));
            upstream.expect_reset_in_time()
        })?;
        strace.expect_injected(1)?;
        drop(strace);
        wait_for(|| Ok((proxy.pipe_ends()? == pipes).then_some(())))?;

        let other_bulk = vec![b'b'; 4 << 20];
        let [client, upstream] = connected(&proxy, &server, "192.0.2.2:4000")?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| client.send(&other_bulk));
            upstream.expect(&other_bulk)?;
            sent.join().map_err(|_| "the sender panicked")?
        })?;
        proxy.stop()?.expect_success()
    })
}

struct Udp {
    proxy: Proxy,
    server: UdpServer,
    balancer: UdpBalancer,
    headers: [Header; 2],
}

/// Two clients with flows.
fn two_flows() -> TestResult<Udp> {
    let server = UdpServer::bind("127.0.0.1")?;
    let proxy = Proxy::udp(server.addr()?).args(ADMIN).start()?;
    let balancer = UdpBalancer::bind("127.0.0.1")?;
    let headers = [
        Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?,
        Header::v2_udp("192.0.2.2:4000", "203.0.113.1:443")?,
    ];
    for header in &headers {
        balancer.send(&proxy, header, b"hello")?;
        server.receive()?;
    }
    // Both are told of before anything else happens.
    proxy
        .admin()?
        .wait_for_metric("glommproxy_flows_open", "2")?;
    Ok(Udp {
        proxy,
        server,
        balancer,
        headers,
    })
}

impl Udp {
    /// The one line, the count, and what is left of the flows; then the first client has a flow again, and the second still.
    fn expect_one_panic(&self, flows_left: &str) -> TestResult {
        let Self {
            proxy,
            server,
            balancer,
            headers,
        } = self;
        expect_line(proxy, &balancer.addr()?.to_string())?;
        let admin = proxy.admin()?;
        admin.wait_for_metric(UDP, "1")?;
        admin.wait_for_metric("glommproxy_flows_open", flows_left)?;
        for (header, client) in headers.iter().zip(["192.0.2.1:4000", "192.0.2.2:4000"]) {
            balancer.send(proxy, header, b"again")?;
            server.expect(client, b"again")?;
            server.send(client.parse()?, b"answer")?;
            balancer.expect(b"answer")?;
        }
        admin.wait_for_metric("glommproxy_flows_open", "2")
    }
}

#[test]
fn on_the_way_to_the_server_it_ends_that_flow_and_the_rest_of_the_batch_goes_on() -> TestResult {
    isolated_with(&[STRACE], || {
        let udp = two_flows()?;
        let Udp {
            proxy,
            server,
            balancer,
            headers: [first, second],
        } = &udp;
        let sockets = proxy.socket_count()?;
        let strace = Strace::inject(proxy, "shard-0", "sendmmsg:retval=1000:when=1")?;
        proxy.at_once(|| {
            balancer.send(proxy, first, b"lost")?;
            balancer.send(proxy, second, b"one")?;
            balancer.send(proxy, second, b"two")
        })?;
        server.expect("192.0.2.2:4000", b"one")?;
        server.expect("192.0.2.2:4000", b"two")?;
        strace.expect_injected(1)?;
        drop(strace);
        // Its socket is gone; nothing else has one from here on.
        wait_for(|| Ok((proxy.socket_count()? < sockets).then_some(())))?;
        udp.expect_one_panic("1")?;
        udp.proxy.stop()?.expect_success()
    })
}

#[test]
fn on_the_way_back_it_ends_that_flow_and_the_others_are_heard() -> TestResult {
    isolated_with(&[STRACE], || {
        let udp = two_flows()?;
        // What comes next is the server's answers. That of the second flow was ready, too.
        let strace = Strace::inject(&udp.proxy, "shard-0", "recvmmsg:retval=1000:when=1")?;
        udp.proxy.at_once(|| {
            udp.server.send("192.0.2.1:4000".parse()?, b"lost")?;
            udp.server.send("192.0.2.2:4000".parse()?, b"kept")
        })?;
        udp.balancer.expect(b"kept")?;
        strace.expect_injected(1)?;
        drop(strace);
        udp.expect_one_panic("1")?;
        udp.proxy.stop()?.expect_success()
    })
}

/// A batch of replies is of many flows, and no flow's fault.
#[test]
fn when_replies_leave_it_ends_the_batch() -> TestResult {
    isolated_with(&[STRACE], || {
        let udp = two_flows()?;
        let strace = Strace::inject(&udp.proxy, "shard-0", "sendmmsg:retval=1000:when=1")?;
        udp.server.send("192.0.2.1:4000".parse()?, b"lost")?;
        strace.expect_injected(1)?;
        drop(strace);
        udp.expect_one_panic("2")?;
        udp.proxy.stop()?.expect_success()
    })
}

/// One line a second, with a count.
#[test]
fn many_of_them_are_few_lines() -> TestResult {
    isolated_with(&[STRACE], || {
        const MANY: usize = 50;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .start()?;
        expect_tcp(&proxy)?;
        let strace = Strace::inject(&proxy, "shard-0", "sendto:retval=70000")?;
        for _ in 0..MANY {
            let header = Header::of("192.0.2.2:4000")?.then(b"ping");
            Balancer::default()
                .connect(&proxy, &header)?
                .expect_reset()?;
        }
        drop(strace);
        let admin = proxy.admin()?;
        admin.wait_for_metric(TCP, &MANY.to_string())?;
        let told = |line: &Value| line["level"] == "ERROR" && line["error"].is_string();
        let counted = |line: &Value| line["level"] == "ERROR" && line["count"].is_u64();
        wait_for(|| {
            let log = proxy.log();
            let kept_back: u64 = log
                .iter()
                .filter(|it| counted(it))
                .filter_map(|it| it["count"].as_u64())
                .sum();
            let lines = log.iter().filter(|it| told(it)).count();
            Ok((lines as u64 + kept_back == MANY as u64).then_some(()))
        })?;
        expect_tcp(&proxy)?;
        admin.wait_for_metric("glommproxy_connections_open", "0")?;
        proxy.stop()?.expect_success()
    })
}

/// What one flow's panic leaves behind does no harm to the flows of the other headers.
#[test]
fn flows_by_first_datagrams_go_on() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = UdpServer::echo("127.0.0.1")?;
        for header_kind in ["spp", "v2-first"] {
            let proxy = Proxy::udp(server)
                .args(ADMIN)
                .args(["--udp-header", header_kind])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            let header = match header_kind {
                "spp" => Header::spp("192.0.2.1:4000", "203.0.113.1:443")?,
                _ => Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?,
            };
            expect_udp(&proxy, &balancer, &header)?;
            let strace = Strace::inject(&proxy, "shard-0", "sendmmsg:retval=1000:when=1")?;
            balancer.send(&proxy, &header, b"lost")?;
            strace.expect_injected(1)?;
            drop(strace);
            expect_line(&proxy, &balancer.addr()?.to_string())?;
            expect_udp(&proxy, &balancer, &header)?;
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}
