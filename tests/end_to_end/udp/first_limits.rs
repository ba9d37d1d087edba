//! How long a binding of `--udp-header v2-first` lasts, and how many there are.

use std::thread;
use std::time::Duration;

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

fn client(n: usize) -> String {
    format!("192.0.2.{n}:4000")
}

#[test]
fn a_binding_ends_with_the_silence_of_its_flow() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "v2-first", "--close-after", "1"])
            .args(["-v", "2", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let silent = client(1);
        balancer.send(&proxy, &header_of(&silent)?, b"first")?;
        server.expect(&silent, b"first")?;
        let line = proxy.wait_for_message("closed")?;
        assert_eq!(line["reason"], "idle");
        balancer.send(&proxy, &Header::none(), b"too late")?;
        proxy.wait_for_message("datagram dropped")?;
        // The next session.
        balancer.send(&proxy, &header_of(&silent)?, b"back")?;
        server.expect(&silent, b"back")?;
        balancer.send(&proxy, &Header::none(), b"again")?;
        server.expect(&silent, b"again")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, 1);
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

/// A binding without a flow, such as a header alone makes, has no flow to end with.
#[test]
fn a_binding_without_a_flow_ends_by_itself() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "v2-first", "--close-after", "1"])
            .args(["-v", "2", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(&client(1))?, b"")?;
        // Whoever asks keeps it alive. So a flow that begins later tells when it is over.
        let later = UdpBalancer::bind("127.0.0.1")?;
        later.send(&proxy, &header_of(&client(2))?, b"hello")?;
        server.expect(&client(2), b"hello")?;
        proxy.wait_for_message("closed")?;
        balancer.send(&proxy, &Header::none(), b"too late")?;
        proxy.wait_for_message("datagram dropped")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, 1);
        assert_eq!(exit.total("flows")?, 1);
        exit.expect_success()
    })
}

/// Clients that only listen: their balancer keeps its session, too, as long as replies pass.
#[test]
fn datagrams_of_either_direction_keep_a_binding() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "v2-first", "--close-after", "2"])
            .args(["-v", "2", "--listeners", "1"])
            .start()?;
        let balancers = (0..3)
            .map(|_| UdpBalancer::bind("127.0.0.1"))
            .collect::<TestResult<Vec<_>>>()?;
        let (asking, listening, silent) = (client(1), client(2), client(3));
        for (balancer, client) in balancers.iter().zip([&asking, &listening, &silent]) {
            balancer.send(&proxy, &header_of(client)?, b"hello")?;
            server.expect(client, b"hello")?;
        }
        // Begun last, so that the others would have ended before it.
        let is_over = |line: &serde_json::Value| {
            line["message"] == "closed" && line["client_addr"] == silent.as_str()
        };
        while !proxy.log().iter().any(is_over) {
            balancers[0].send(&proxy, &Header::none(), b"question")?;
            server.expect(&asking, b"question")?;
            server.send(listening.parse()?, b"push")?;
            balancers[1].expect(b"push")?;
            // Far less than bindings may be idle.
            thread::sleep(Duration::from_millis(50));
        }
        for (balancer, client) in balancers.iter().zip([&asking, &listening]) {
            balancer.send(&proxy, &Header::none(), b"still here")?;
            server.expect(client, b"still here")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, 0);
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// The players stay, whom the server answers; a flood of made-up sessions displaces itself.
#[test]
fn a_flood_of_headers_displaces_itself() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--udp-header", "v2-first", "--max-flows", "3"])
            .args(["-v", "2", "--listeners", "1"])
            .start()?;
        let (player, balancer) = (client(1), UdpBalancer::bind("127.0.0.1")?);
        balancer.send(&proxy, &header_of(&player)?, b"question")?;
        server.expect(&player, b"question")?;
        server.send(player.parse()?, b"answer")?;
        balancer.expect(b"answer")?;

        let flood = (2..=20)
            .map(|n| Ok((client(n), UdpBalancer::bind("127.0.0.1")?)))
            .collect::<TestResult<Vec<_>>>()?;
        for (n, (client, balancer)) in flood.iter().enumerate() {
            // Headers alone count, too: they make bindings, and no flows.
            let payload: &[u8] = if n % 2 == 0 { b"flood" } else { b"" };
            balancer.send(&proxy, &header_of(client)?, payload)?;
            if !payload.is_empty() {
                server.expect(client, payload)?;
            }
        }
        for (_, balancer) in &flood[..flood.len() - 2] {
            balancer.send(&proxy, &Header::none(), b"displaced")?;
        }
        balancer.send(&proxy, &Header::none(), b"still here")?;
        server.expect(&player, b"still here")?;
        for (client, balancer) in &flood[flood.len() - 2..] {
            balancer.send(&proxy, &Header::none(), b"the latest")?;
            server.expect(client, b"the latest")?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("unbound")?, flood.len() as u64 - 2);
        exit.expect_success()
    })
}
