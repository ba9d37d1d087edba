//! A kernel without memory, buffers or descriptors, and one that interrupts: whom a refused call concerns is dropped and
//! counted, or served all the same, and everybody else is served.
//!
//! strace refuses the call, so none of these takes an exhausted host.

use std::net::SocketAddr;

use super::strace::{STRACE, Strace};
use super::{ADMIN, count, expect_tcp};
use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::TestResult;
use crate::tool::isolated_with;

/// What becomes of whom a refused call concerns.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// As if nothing had happened.
    Served,
    /// Served, and counted by this metric.
    Delayed(&'static str),
    /// Dropped, and counted by this metric.
    Dropped(&'static str),
}

use Outcome::{Delayed, Dropped, Served};

const TCP_DIAL: Outcome = Dropped("glommproxy_dropped_total{protocol=\"tcp\",reason=\"dial\"}");
const UDP_DIAL: Outcome = Dropped("glommproxy_dropped_total{protocol=\"udp\",reason=\"dial\"}");
const TO_SERVER: &str = "glommproxy_datagram_errors_total{direction=\"upstream\"}";
const TO_BALANCER: Outcome = Dropped("glommproxy_datagram_errors_total{direction=\"downstream\"}");

// === impl Outcome ===

impl Outcome {
    fn metric(self) -> Option<&'static str> {
        match self {
            Served => None,
            Delayed(metric) | Dropped(metric) => Some(metric),
        }
    }

    fn is_served(self) -> bool {
        !matches!(self, Dropped(_))
    }

    /// Tampers with a call, does something, and compares what was counted.
    #[track_caller]
    fn expect(
        self,
        proxy: &Proxy,
        tamper: impl FnOnce() -> TestResult<Strace>,
        work: impl FnOnce() -> TestResult,
    ) -> TestResult {
        let admin = proxy.admin()?;
        let before = admin.get("/metrics")?.body;
        let strace = tamper()?;
        work()?;
        strace.expect_injected(1)?;
        drop(strace);
        match self.metric() {
            None => Ok(()),
            Some(metric) => {
                admin.wait_for_metric(metric, &(count(&before, metric) + 1).to_string())
            }
        }
    }
}

/// The server's answer, or the end.
#[track_caller]
fn expect(outcome: Outcome, connection: &Connection) -> TestResult {
    if outcome.is_served() {
        connection.expect(b"ping")
    } else {
        connection.expect_over()
    }
}

fn tcp_proxy() -> TestResult<Proxy> {
    let server = TcpServer::echo("127.0.0.1")?;
    let proxy = Proxy::tcp(server).args(ADMIN).start()?;
    expect_tcp(&proxy)?;
    Ok(proxy)
}

/// Refuses a call of a new connection, in each of these manners.
#[track_caller]
fn expect_connections(cases: &[(&str, &[&str], usize, Outcome)]) -> TestResult {
    let proxy = tcp_proxy()?;
    let pid = proxy.pid();
    for &(call, errors, nth, outcome) in cases {
        for error in errors {
            let what = format!("{call}:error={error}:when={nth}");
            eprintln!("{what}: {outcome:?}");
            let work = || {
                let header = Header::of("192.0.2.1:4000")?.then(b"ping");
                let connection = Balancer::default().connect(&proxy, &header)?;
                expect(outcome, &connection)?;
                connection.reset()
            };
            outcome.expect(&proxy, || Strace::inject(&proxy, "shard-0", &what), work)?;
            expect_tcp(&proxy)?;
        }
    }
    assert_eq!(proxy.pid(), pid);
    let admin = proxy.admin()?;
    admin.wait_for_metric("glommproxy_connections_open", "0")?;
    proxy.stop()?.expect_success()
}

#[test]
fn a_connection_is_accepted() -> TestResult {
    isolated_with(&[STRACE], || {
        let paused = Delayed("glommproxy_accept_pauses_total{reason=\"exhausted\"}");
        expect_connections(&[
            (
                "accept4",
                &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"],
                1,
                paused,
            ),
            ("accept4", &["EINTR", "ECONNABORTED", "EPROTO"], 1, Served),
            // The balancer's side …
            ("epoll_ctl", &["ENOMEM", "ENOSPC"], 1, TCP_DIAL),
            // … and the server's.
            ("epoll_ctl", &["ENOMEM", "ENOSPC"], 2, TCP_DIAL),
        ])
    })
}

#[test]
fn the_server_is_dialled() -> TestResult {
    isolated_with(&[STRACE], || {
        expect_connections(&[
            (
                "socket",
                &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"],
                1,
                TCP_DIAL,
            ),
            ("bind", &["ENOBUFS", "ENOMEM"], 1, TCP_DIAL),
            // The first call looks for broadcast addresses.
            ("connect", &["ENOBUFS", "ENOMEM", "EAGAIN"], 2, TCP_DIAL),
            ("sendto", &["ENOBUFS", "ENOMEM"], 1, TCP_DIAL),
            ("sendto", &["EINTR", "EAGAIN"], 1, Served),
        ])
    })
}

#[test]
fn a_header_is_read() -> TestResult {
    isolated_with(&[STRACE], || {
        let proxy = tcp_proxy()?;
        let unreadable =
            Dropped("glommproxy_header_errors_total{protocol=\"tcp\",kind=\"unreadable\"}");
        for (error, outcome) in [
            ("ENOBUFS", unreadable),
            ("ENOMEM", unreadable),
            ("EINTR", Served),
        ] {
            let connection = Balancer::default().connect(&proxy, &Header::none())?;
            let what = format!("recvfrom:error={error}:when=1");
            let tamper = || Strace::inject_at(&proxy, &connection, "shard-0", &what);
            let work = || {
                let header = Header::of("192.0.2.1:4000")?.then(b"ping");
                connection.send(header.bytes())?;
                expect(outcome, &connection)
            };
            outcome.expect(&proxy, tamper, work)?;
            drop(connection.reset());
            expect_tcp(&proxy)?;
        }
        proxy.stop()?.expect_success()
    })
}

/// Both sides learn of it, and nobody else.
#[test]
fn bytes_are_relayed() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(ADMIN).start()?;
        let connect = |client| -> TestResult<[Connection; 2]> {
            let downstream = Balancer::default().connect(&proxy, &Header::of(client)?)?;
            let upstream = server.accept()?;
            downstream.expect_talk(&upstream)?;
            Ok([downstream, upstream])
        };
        let [other, other_upstream] = connect("192.0.2.2:4000")?;
        for call in ["recvfrom", "sendto"] {
            for error in ["ENOBUFS", "ENOMEM", "EINTR"] {
                let [client, upstream] = connect("192.0.2.1:4000")?;
                let what = format!("{call}:error={error}:when=1");
                let strace = match call {
                    "recvfrom" => Strace::inject_at(&proxy, &client, "shard-0", &what)?,
                    _ => Strace::inject_at(&proxy, &upstream, "shard-0", &what)?,
                };
                client.send(b"question")?;
                strace.expect_injected(1)?;
                drop(strace);
                if error == "EINTR" {
                    upstream.expect(b"question")?;
                    client.expect_talk(&upstream)?;
                    client.reset()?;
                } else {
                    client.expect_over()?;
                    upstream.expect_over()?;
                }
                other.expect_talk(&other_upstream)?;
            }
        }
        proxy.stop()?.expect_success()
    })
}

/// Bulk goes through pipes, and without them.
#[test]
fn bulk_is_relayed() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(ADMIN).start()?;
        let bulk: Vec<u8> = (0..4 << 20).map(|at: usize| (at % 251) as u8).collect();
        let mut port = 4000;
        let mut expect_bulk = |what: Option<&str>, is_served: bool| -> TestResult {
            port += 1;
            let header = Header::of(&format!("192.0.2.1:{port}"))?;
            let client = Balancer::default().connect(&proxy, &header)?;
            let upstream = server.accept()?;
            let strace = what.map(|what| Strace::inject(&proxy, "shard-0", what));
            let strace = strace.transpose()?;
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| client.send(&bulk));
                if is_served {
                    upstream.expect(&bulk)?;
                    sent.join().map_err(|_| "the sender panicked")?
                } else {
                    upstream.expect_reset_in_time()
                }
            })?;
            strace.map_or(Ok(()), |strace| strace.expect_injected(1))
        };
        for error in ["EMFILE", "ENFILE", "ENOMEM"] {
            expect_bulk(Some(&format!("pipe2:error={error}")), true)?;
        }
        for nth in [1, 2] {
            expect_bulk(Some(&format!("splice:error=ENOMEM:when={nth}")), false)?;
            expect_bulk(None, true)?;
        }
        expect_bulk(Some("splice:error=EINTR:when=1"), true)?;
        expect_bulk(None, true)?;
        proxy.stop()?.expect_success()
    })
}

struct Udp {
    proxy: Proxy,
    server: UdpServer,
    balancer: UdpBalancer,
    /// A client that is there all the time.
    witness: Header,
}

const WITNESS: &str = "192.0.2.250:4000";

impl Udp {
    fn start() -> TestResult<Self> {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?).args(ADMIN).start()?;
        let udp = Self {
            proxy,
            server,
            balancer: UdpBalancer::bind("127.0.0.1")?,
            witness: Header::v2_udp(WITNESS, "203.0.113.1:443")?,
        };
        udp.expect_talk(&udp.witness, WITNESS)?;
        Ok(udp)
    }

    #[track_caller]
    fn expect_talk(&self, header: &Header, client: &str) -> TestResult {
        self.balancer.send(&self.proxy, header, b"question")?;
        self.server.expect(client, b"question")?;
        self.server.send(client.parse()?, b"answer")?;
        self.balancer.expect(b"answer")?;
        Ok(())
    }

    fn tamper(&self, what: &str) -> TestResult<Strace> {
        Strace::inject(&self.proxy, "shard-0", what)
    }
}

#[test]
fn a_flow_begins() -> TestResult {
    isolated_with(&[STRACE], || {
        let udp = Udp::start()?;
        let evicted = Delayed("glommproxy_ended_total{protocol=\"udp\",reason=\"evicted\"}");
        let mut port = 4000;
        for (call, errors, outcome) in [
            (
                "recvmmsg",
                ["ENOBUFS", "ENOMEM", "EINTR"].as_slice(),
                Served,
            ),
            ("socket", &["EMFILE", "ENFILE"], evicted),
            ("socket", &["ENOBUFS", "ENOMEM"], UDP_DIAL),
            ("bind", &["ENOBUFS", "ENOMEM"], UDP_DIAL),
            ("connect", &["ENOBUFS", "ENOMEM"], UDP_DIAL),
            ("epoll_ctl", &["ENOMEM", "ENOSPC"], UDP_DIAL),
            (
                "sendmmsg",
                &["ENOBUFS", "ENOMEM", "EAGAIN"],
                Dropped(TO_SERVER),
            ),
        ] {
            for error in errors {
                port += 1;
                let client = format!("192.0.2.1:{port}");
                let header = Header::v2_udp(&client, "203.0.113.1:443")?;
                // The first call looks for broadcast addresses.
                let nth = if call == "connect" { 2 } else { 1 };
                let what = format!("{call}:error={error}:when={nth}");
                let work = || {
                    udp.balancer.send(&udp.proxy, &header, b"first")?;
                    if outcome.is_served() {
                        udp.server.expect(&client, b"first")?;
                    }
                    Ok(())
                };
                outcome.expect(&udp.proxy, || udp.tamper(&what), work)?;
                udp.expect_talk(&header, &client)?;
                udp.expect_talk(&udp.witness, WITNESS)?;
            }
        }
        udp.proxy.stop()?.expect_success()
    })
}

#[test]
fn answers_go_back() -> TestResult {
    isolated_with(&[STRACE], || {
        let udp = Udp::start()?;
        let witness: SocketAddr = WITNESS.parse()?;
        for (call, outcome) in [("recvmmsg", Delayed(TO_SERVER)), ("sendmmsg", TO_BALANCER)] {
            for error in ["ENOBUFS", "ENOMEM"] {
                let what = format!("{call}:error={error}:when=1");
                let work = || {
                    udp.server.send(witness, b"answer")?;
                    if outcome.is_served() {
                        udp.balancer.expect(b"answer")?;
                    }
                    Ok(())
                };
                outcome.expect(&udp.proxy, || udp.tamper(&what), work)?;
                udp.expect_talk(&udp.witness, WITNESS)?;
            }
        }
        udp.proxy.stop()?.expect_success()
    })
}

/// Signals come at any time: no thread takes an interrupted call for a failure.
#[test]
fn every_wait_is_interrupted() -> TestResult {
    isolated_with(&[STRACE], || {
        let proxy = tcp_proxy()?;
        for (thread, call) in [
            ("shard-0", "epoll_wait,epoll_pwait,epoll_pwait2"),
            ("shard-0", "io_uring_enter"),
            ("", "epoll_wait,epoll_pwait,epoll_pwait2"),
            ("", "io_uring_enter"),
            ("admin", "epoll_wait,epoll_pwait,epoll_pwait2"),
        ] {
            // Three of them, so that all are over when strace leaves: it would leave one half done.
            let what = format!("{call}:error=EINTR:when=1..5+2");
            let strace = Strace::inject(&proxy, thread, &what)?;
            wait_for(|| {
                expect_tcp(&proxy)?;
                assert_eq!(proxy.admin()?.get("/livez")?.status, 200);
                proxy.signal(rustix::process::Signal::HUP)?;
                Ok((strace.count("INJECTED") >= 3).then_some(()))
            })?;
        }
        expect_tcp(&proxy)?;
        proxy.stop()?.expect_success()
    })
}
