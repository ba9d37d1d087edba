//! `--max-connections-per-client`: by the client's address, over all shards, TCP and UDP apart.

use super::{connect, send_until_received, try_connect, udp_header, wait_dropped};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for};
use crate::namespace::{TestResult, isolated};

const REASON: &str = "the client has 3 open already (--max-connections-per-client)";

#[test]
fn of_tcp_one_more_is_reset_until_another_ends() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--max-connections-per-client", "3", "--listeners", "2"])
            .args(["-v", "1"])
            .start()?;
        let client = |n: u16| format!("192.0.2.1:{}", 4000 + n);
        let mut open = (0..3)
            .map(|n| connect(&proxy, &client(n)))
            .collect::<TestResult<Vec<_>>>()?;
        for n in 3..20 {
            assert!(try_connect(&proxy, &client(n))?.is_none(), "{n}");
        }
        // It was the first on its shard, and so has a line.
        let line = proxy.wait_for_log(|line| line["client_addr"] == client(3))?;
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"DEBUG".into(), &"connection refused".into())
        );
        assert_eq!(line["error"], REASON);
        // Other clients of the same balancer, and the balancer itself, are not held responsible.
        let _others = (2..8)
            .map(|n| connect(&proxy, &format!("192.0.2.{n}:4000")))
            .collect::<TestResult<Vec<_>>>()?;
        let checks = (0..8)
            .map(|_| Balancer::default().connect(&proxy, &Header::v2_local_bare()))
            .collect::<TestResult<Vec<_>>>()?;
        for check in &checks {
            check.expect_echo(b"check")?;
        }
        // A connection that ends makes room, whichever shard it was on.
        open.remove(0);
        let mut tries = 17;
        let again = wait_for(|| {
            tries += 1;
            try_connect(&proxy, &client(100))
        })?;
        again.expect_echo(b"back")?;
        assert!(try_connect(&proxy, &client(101))?.is_none());
        let exit = proxy.stop()?;
        assert_eq!(exit.total("clients_over_count")?, tries);
        assert_eq!(exit.total("clients_over_rate")?, 0);
        exit.expect_success()
    })
}

#[test]
fn ipv6_clients_are_counted_by_64() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("::1")?)
            .args(["--max-connections-per-client", "3", "--listeners", "2"])
            .start()?;
        let client = |n: u16| format!("[2001:db8:0:1::{n:x}:1]:4000");
        let _open = (0..3)
            .map(|n| connect(&proxy, &client(n)))
            .collect::<TestResult<Vec<_>>>()?;
        assert!(try_connect(&proxy, &client(3))?.is_none());
        connect(&proxy, "[2001:db8:0:2::1]:4000")?.expect_echo(b"another subscriber")
    })
}

/// Whatever way a connection ends, it is counted no more.
#[test]
fn connections_that_failed_do_not_count() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let addr = server.addr()?;
        let proxy = Proxy::tcp(addr)
            .args(["--max-connections-per-client", "2", "--listeners", "2"])
            .start()?;
        drop(server);
        for n in 0..20 {
            let header = Header::of(&format!("192.0.2.1:{}", 4000 + n))?;
            let refused = Balancer::default().connect(&proxy, &header)?;
            refused.expect_reset()?;
        }
        let server = TcpServer::bind_to(addr)?;
        let _open = (0..2)
            .map(|n| {
                let header = Header::of(&format!("192.0.2.1:{}", 5000 + n))?;
                let downstream = Balancer::default().connect(&proxy, &header)?;
                let session = server.accept()?;
                downstream.expect_talk(&session)?;
                Ok((downstream, session))
            })
            .collect::<TestResult<Vec<_>>>()?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("dial_errors")?, 20);
        assert_eq!(exit.total("clients_over_count")?, 0);
        exit.expect_success()
    })
}

#[test]
fn of_udp_one_more_flow_is_dropped_until_another_ends() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-connections-per-client", "3", "--listeners", "2"])
            .args(["-v", "1", "--close-after", "3"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let send = |client: &str| balancer.send(&proxy, &udp_header(client)?, b"hello");
        let client = |n: u16| format!("192.0.2.1:{}", 4000 + n);
        for n in 0..3 {
            send(&client(n))?;
            server.expect(&client(n), b"hello")?;
        }
        for n in 3..20 {
            send(&client(n))?;
        }
        wait_dropped(&proxy, "192.0.2.1:", REASON)?;
        // Its flows that are there are not held up, and neither are other clients.
        for other in [client(0), client(2), "192.0.2.2:4000".to_owned()] {
            send(&other)?;
            server.expect(&other, b"hello")?;
        }
        // Idle flows end, and make room.
        send_until_received(&proxy, &balancer, &server, &client(100))?;
        let exit = proxy.stop()?;
        assert!(exit.total("clients_over_count")? >= 17);
        exit.expect_success()
    })
}

/// A flow that makes room for another is counted no more.
#[test]
fn evicted_flows_do_not_count() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-connections-per-client", "2", "--max-flows", "2"])
            .args(["--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
            for port in [4000, 4001] {
                let client = format!("{client}:{port}");
                balancer.send(&proxy, &udp_header(&client)?, b"hello")?;
                server.expect(&client, b"hello")?;
            }
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows_evicted")?, 6);
        assert_eq!(exit.total("clients_over_count")?, 0);
        exit.expect_success()
    })
}

#[test]
fn tcp_and_udp_are_counted_apart() -> TestResult {
    isolated(|| {
        let udp = UdpServer::bind("127.0.0.1")?;
        let tcp = TcpServer::bind_to(udp.addr()?)?;
        let proxy = Proxy::builder()
            .and(udp.addr()?)
            .args(["-p", "both", "--max-connections-per-client", "1"])
            .start()?;
        let client = "192.0.2.1:4000";
        let downstream = Balancer::default().connect(&proxy, &Header::of(client)?)?;
        downstream.expect_talk(&tcp.accept()?)?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &udp_header(client)?, b"hello")?;
        udp.expect(client, b"hello")?;
        Ok(())
    })
}
