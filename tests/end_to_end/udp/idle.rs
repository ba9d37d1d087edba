//! `--close-after`: a flow ends with the silence, not before.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::header_of;
use crate::harness::{Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";

fn closed(line: &Value, client: &str) -> bool {
    line["message"] == "closed" && line["client_addr"] == client
}

#[test]
fn a_silent_flow_ends_and_its_client_may_come_back() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--close-after", "1", "-v", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"question")?;
        server.expect(CLIENT, b"question")?;
        server.send(CLIENT.parse()?, b"the answer")?;
        balancer.expect(b"the answer")?;

        let line = proxy.wait_for_log(|line| closed(line, CLIENT))?;
        assert_eq!(line["reason"], "idle");
        assert_eq!(line["bytes_upstream"], 8);
        assert_eq!(line["bytes_downstream"], 10);
        // Its socket is gone: nobody takes what the server sends now.
        server.send(CLIENT.parse()?, b"too late")?;

        balancer.send(&proxy, &header_of(CLIENT)?, b"back")?;
        server.expect(CLIENT, b"back")?;
        server.send(CLIENT.parse()?, b"welcome")?;
        balancer.expect(b"welcome")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("flows")?, 2);
        exit.expect_success()
    })
}

#[test]
fn datagrams_of_either_direction_keep_a_flow() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--close-after", "2", "-v", "2", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let (silent, asking, listening) = (CLIENT, "192.0.2.2:4000", "192.0.2.3:4000");
        for client in [asking, listening, silent] {
            balancer.send(&proxy, &header_of(client)?, b"hello")?;
            server.expect(client, b"hello")?;
        }
        // Begun last, so that the others would have ended before it.
        while !proxy.log().iter().any(|line| closed(line, silent)) {
            balancer.send(&proxy, &header_of(asking)?, b"question")?;
            server.expect(asking, b"question")?;
            server.send(listening.parse()?, b"push")?;
            balancer.expect(b"push")?;
            // Far less than the flows may be idle.
            thread::sleep(Duration::from_millis(50));
        }
        for client in [asking, listening] {
            server.send(client.parse()?, client.as_bytes())?;
            balancer.expect(client.as_bytes())?;
        }
        let exit = proxy.stop()?;
        let ended = exit.log.iter().filter(|line| line["message"] == "closed");
        assert_eq!(ended.count(), 1);
        assert_eq!(exit.total("flows")?, 3);
        exit.expect_success()
    })
}

/// Many at once, so that one turn has to end more than one.
#[test]
fn all_that_are_silent_end() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--close-after", "1", "-v", "2", "--listeners", "2"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let clients: Vec<_> = (1..=200).map(|n| format!("192.0.2.{n}:4000")).collect();
        for client in &clients {
            balancer.send(&proxy, &header_of(client)?, b"hello")?;
            server.expect(client, b"hello")?;
        }
        let lines = proxy.wait_for_logs(clients.len(), |line| line["message"] == "closed")?;
        assert!(lines.iter().all(|line| line["reason"] == "idle"));
        proxy.stop()?.expect_success()
    })
}
