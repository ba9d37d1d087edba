//! Servers that are down, out of reach, restarting, or gone as soon as they have come.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::{CLIENT, NEVER, idle_sockets};
use crate::harness::{
    Balancer, Header, PATIENCE, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::{TestResult, isolated};
use crate::other_host::OtherHost;

/// A host without a way back for its answers, and then one that is switched off.
#[test]
fn a_host_that_cannot_be_heard_is_given_up() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        let ip = host.v4();
        let server = host.inside(move || TcpServer::bind(&ip)?.addr())?;
        let proxy = Proxy::tcp(server)
            .args(["-v", "1", "--connect-timeout", "0.5", "--listeners", "1"])
            .start()?;
        let mut sockets = None;
        for down in [false, true] {
            if down {
                host.run("ip link set eth0 down")?;
            }
            for header in [Header::of(CLIENT)?, Header::of(CLIENT)?.then(b"hello")] {
                let downstream = Balancer::default().connect(&proxy, &header)?;
                downstream.expect_reset()?;
                let peer = downstream.local()?.to_string();
                let line = proxy.wait_for_log(|line| line["peer_addr"] == peer.as_str())?;
                let expected = format!("no answer from {server} within 0.5 s");
                assert_eq!(line["error"], expected.as_str());
                // What comes with the first client stays.
                let before = *sockets.get_or_insert(proxy.socket_count()?);
                proxy.wait_for_sockets(before)?;
            }
        }
        assert_eq!(proxy.stop()?.total("dial_errors")?, 4);
        Ok(())
    })
}

/// The flow of a client lives on while its datagrams go nowhere.
#[test]
fn a_flow_survives_a_host_that_was_switched_off() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let ip = host.v4();
        let server = host.inside(move || UdpServer::echo(&ip))?;
        let proxy = Proxy::udp(server).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp(CLIENT, "203.0.113.1:443")?;
        balancer.send(&proxy, &header, b"before")?;
        balancer.expect(b"192.0.2.1:4000 before")?;
        host.run("ip link set eth0 down")?;
        for _ in 0..100 {
            balancer.send(&proxy, &header, b"lost")?;
        }
        host.run("ip link set eth0 up && ip route replace default via 10.77.1.1")?;
        // The neighbour has to be found again; what is sent meanwhile may be lost.
        let socket = balancer.socket();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
        let mut buffer = [0; 100];
        wait_for(|| {
            balancer.send(&proxy, &header, b"after")?;
            let received = socket.recv(&mut buffer);
            Ok(received
                .is_ok_and(|len| buffer[..len].ends_with(b" after"))
                .then_some(()))
        })?;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.total("flows")?, 1);
        Ok(())
    })
}

/// Serves one message a connection until told to stop, and then has nobody listen.
fn serve(addr: SocketAddr, stop: &AtomicBool) -> TestResult {
    let server = TcpServer::bind_to(addr)?;
    while !stop.load(Ordering::SeqCst) {
        let session = server.accept()?;
        let mut byte = [0];
        // Whoever wakes it says nothing.
        if !stop.load(Ordering::SeqCst) && session.stream().peek(&mut byte)? > 0 {
            session.expect(b"hello")?;
            session.send(b"hello")?;
        }
    }
    Ok(())
}

#[test]
fn a_server_that_restarts_under_traffic_is_found_again_each_time() -> TestResult {
    isolated(|| {
        let addr = TcpServer::bind("127.0.0.1")?.addr()?;
        let proxy = Proxy::tcp(addr).args(["--listeners", "2"]).start()?;
        let (over, served, refused) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let visit = |n: usize| -> TestResult {
            let mut port = 10_000;
            while !over.load(Ordering::SeqCst) {
                port = if port == 60_000 { 10_000 } else { port + 1 };
                let header = Header::of(&format!("192.0.2.{n}:{port}"))?.then(b"hello");
                let client = Balancer::default().connect(&proxy, &header)?;
                // An answer, or an end as sudden as the server's: nothing else, and never nothing at all.
                if client.expect(b"hello").is_ok() {
                    served.fetch_add(1, Ordering::SeqCst);
                } else {
                    client.expect_over()?;
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let visitors: Vec<_> = (1..=3).map(|n| scope.spawn(move || visit(n))).collect();
            let ended = || visitors.iter().any(|it| it.is_finished());
            let more = |count: &AtomicUsize| {
                let before = count.load(Ordering::SeqCst);
                wait_for(|| {
                    let enough = count.load(Ordering::SeqCst) > before + 20;
                    Ok((enough || ended()).then_some(()))
                })
            };
            let restarts = || -> TestResult {
                for _ in 0..3 {
                    more(&refused)?;
                    let stop = AtomicBool::new(false);
                    thread::scope(|scope| -> TestResult {
                        let server = scope.spawn(|| serve(addr, &stop));
                        let seen = more(&served);
                        stop.store(true, Ordering::SeqCst);
                        drop(TcpStream::connect_timeout(&addr, PATIENCE));
                        server.join().map_err(|_| "the server panicked")??;
                        seen
                    })?;
                }
                Ok(())
            };
            let result = restarts();
            over.store(true, Ordering::SeqCst);
            for visitor in visitors {
                visitor.join().map_err(|_| "a visitor panicked")??;
            }
            result
        })?;
        proxy.stop()?.expect_success()
    })
}

/// Whether the first bytes are on their way with the header, come later or never: the client hears of the end.
#[test]
fn a_server_that_closes_at_once_leaves_nothing_open() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        let sockets = idle_sockets(&proxy, &server)?;
        for round in 0..150 {
            let header = Header::of(&format!("192.0.2.1:{}", 4000 + round))?;
            let header = match round % 3 {
                0 => header.then(b"hello"),
                _ => header,
            };
            let downstream = Balancer::default().connect(&proxy, &header)?;
            drop(server.accept()?);
            if round % 3 == 1 {
                // It may be too late for that.
                let _ = downstream.send(b"hello");
            }
            downstream.expect_over()?;
        }
        proxy.wait_for_sockets(sockets)?;
        proxy.stop()?.expect_success()
    })
}

/// The drain ends with the deadlines of those that have no header, or no server, yet.
#[test]
fn whoever_waits_for_a_header_or_a_server_keeps_a_drain_no_longer_than_its_deadline() -> TestResult
{
    isolated(|| {
        let host = OtherHost::new(1)?;
        let ip = host.v4();
        let server = host.inside(move || TcpServer::bind(&ip)?.addr())?;
        for (header_timeout, connect_timeout) in [("0.5", NEVER), (NEVER, "0.5")] {
            let proxy = Proxy::tcp(server)
                .args(["--header-timeout", header_timeout])
                .args(["--connect-timeout", connect_timeout])
                .args(["--drain-timeout", NEVER])
                .start()?;
            let header = match header_timeout {
                NEVER => Header::of(CLIENT)?,
                _ => Header::raw("PROXY TCP4"),
            };
            let downstream = Balancer::default().connect(&proxy, &header)?;
            proxy.signal(Signal::TERM)?;
            downstream.expect_over()?;
            proxy.exit()?.expect_success()?;
        }
        Ok(())
    })
}
