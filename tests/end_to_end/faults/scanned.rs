//! The admin port, found by those who look for open ports: thousands of connections of all kinds at once, while the proxy
//! works.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::SockRef;

use super::{ADMIN, expect_tcp, expect_udp};
use crate::harness::{Balancer, Header, PATIENCE, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const SCANNERS: usize = 4;
const CONNECTIONS: usize = 3000;

/// What a connection does.
fn scan(addr: SocketAddr, n: usize) -> TestResult {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n", "x".repeat(100_000));
    let said = match n % 8 {
        // Nothing, and gone; the same with a reset.
        0 => return Ok(()),
        1 => return Ok(SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?),
        2 => b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03\xFF\xFF\xFF".as_slice(),
        3 => b"\0\xFF\x80garbage\r\n\r\n\0",
        4 => b"GET /metrics HT",
        5 => long.as_bytes(),
        6 => b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.0\r\n\r\n",
        _ => b"GET /status HTTP/1.1\r\nHost: admin\r\n\r\n",
    };
    // It may be turned away before it has said it all.
    let _ = stream.write_all(said);
    if n.is_multiple_of(2) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    if n.is_multiple_of(3) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.read(&mut [0; 1024]);
    }
    Ok(())
}

#[test]
fn scans_of_all_kinds_leave_the_traffic_alone() -> TestResult {
    isolated(|| {
        let tcp = TcpServer::echo("127.0.0.1")?;
        let udp = UdpServer::echo("127.0.0.1")?;
        // One port for both.
        let proxy = Proxy::tcp(tcp).args(ADMIN).start()?;
        let datagrams = Proxy::udp(udp).without_routes().args(ADMIN).start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
        expect_tcp(&proxy)?;
        expect_udp(&datagrams, &balancer, &header)?;
        let sockets = [proxy.socket_count()?, datagrams.socket_count()?];
        let connection = Balancer::default().connect(&proxy, &Header::of("192.0.2.2:4000")?)?;
        let addrs = [proxy.admin()?.addr(), datagrams.admin()?.addr()];
        let left = AtomicUsize::new(SCANNERS);
        thread::scope(|scope| {
            let scanners: Vec<_> = (0..SCANNERS)
                .map(|scanner| {
                    let left = &left;
                    scope.spawn(move || {
                        let scanned = (0..CONNECTIONS / SCANNERS)
                            .try_for_each(|n| scan(addrs[scanner % 2], n + scanner));
                        left.fetch_sub(1, Ordering::SeqCst);
                        scanned.map_err(|error| format!("{error:?}"))
                    })
                })
                .collect();
            let mut rounds = 0;
            while left.load(Ordering::SeqCst) > 0 || rounds == 0 {
                connection.expect_echo(b"while scanned")?;
                expect_tcp(&proxy)?;
                expect_udp(&datagrams, &balancer, &header)?;
                rounds += 1;
            }
            for scanner in scanners {
                scanner.join().map_err(|_| "a scanner panicked")??;
            }
            TestResult::Ok(())
        })?;
        drop(connection);
        for (proxy, sockets) in [&proxy, &datagrams].into_iter().zip(sockets) {
            assert_eq!(proxy.admin()?.get("/livez")?.body, "alive\n");
            assert_eq!(proxy.admin()?.get("/readyz")?.status, 200);
            // Those who neither finish nor leave time out.
            proxy.wait_for_sockets(sockets)?;
            assert!(!proxy.log().iter().any(|line| line["level"] == "ERROR"));
        }
        proxy.stop()?.expect_success()?;
        datagrams.stop()?.expect_success()
    })
}
