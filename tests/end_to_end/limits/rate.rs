//! `--new-connections-per-second`: a token bucket a client, over all shards, TCP and UDP apart.

use super::{connect, send_until_received, try_connect, udp_header};
use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for};
use crate::namespace::{TestResult, isolated};

const PER_SECOND: u16 = 20;

const REASON: &str = "the client has begun 20 within a second (--new-connections-per-second)";

#[test]
fn of_tcp_a_burst_gets_in_and_then_what_the_rate_allows() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--new-connections-per-second", &PER_SECOND.to_string()])
            .args(["--listeners", "2", "-v", "1"])
            .start()?;
        let client = |n: u16| format!("192.0.2.1:{}", 4000 + n);
        // However fast they come, a second's worth of them is let in.
        for n in 0..PER_SECOND {
            connect(&proxy, &client(n))?;
        }
        // Only so many more come in a second; sooner or later one is too fast. Then it has to wait.
        let (mut tries, mut refused) = (PER_SECOND, 0);
        for wanted in [false, true] {
            wait_for(|| {
                tries += 1;
                let is_in = try_connect(&proxy, &client(tries))?.is_some();
                refused += u64::from(!is_in);
                Ok((is_in == wanted).then_some(()))
            })?;
            // Another client is not held up.
            connect(&proxy, &format!("192.0.2.2:{}", 4000 + tries))?;
        }
        let line = proxy.wait_for_message("connection refused")?;
        assert_eq!(
            (&line["level"], &line["error"]),
            (&"DEBUG".into(), &REASON.into())
        );
        // The balancer itself may check as often as it likes.
        for _ in 0..2 * PER_SECOND {
            let check = Balancer::default().connect(&proxy, &Header::v2_local_bare())?;
            check.expect_echo(b"check")?;
        }
        let exit = proxy.stop()?;
        assert!(refused > 0);
        assert_eq!(exit.total("clients_over_rate")?, refused);
        exit.expect_success()
    })
}

#[test]
fn of_udp_it_holds_for_new_flows_only() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--new-connections-per-second", &PER_SECOND.to_string()])
            .args(["--listeners", "2", "-v", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let send = |client: &str| balancer.send(&proxy, &udp_header(client)?, b"hello");
        let client = |n: u16| format!("192.0.2.1:{}", 4000 + n);
        for n in 0..PER_SECOND {
            send(&client(n))?;
            server.expect(&client(n), b"hello")?;
        }
        let mut tries = PER_SECOND;
        let line = wait_for(|| {
            tries += 1;
            send(&client(tries))?;
            let mut log = proxy.log().into_iter();
            Ok(log.find(|line| line["message"] == "datagram dropped"))
        })?;
        assert_eq!(
            (&line["level"], &line["error"]),
            (&"DEBUG".into(), &REASON.into())
        );
        // Datagrams of a flow are no new flow, however many they are, and other clients are not held up.
        server.drain()?;
        let other = UdpBalancer::bind("127.0.0.1")?;
        for round in 0..2 * PER_SECOND {
            let payload = format!("round {round}");
            other.send(&proxy, &udp_header(&client(3))?, payload.as_bytes())?;
            while server.receive()?.payload != payload.as_bytes() {}
        }
        other.send(&proxy, &udp_header("192.0.2.2:4000")?, b"another")?;
        while server.receive()?.payload != b"another" {}
        send_until_received(&proxy, &balancer, &server, &client(10_000))?;
        let exit = proxy.stop()?;
        assert!(exit.total("clients_over_rate")? > 0);
        exit.expect_success()
    })
}
