//! What is logged of flows and datagrams, and what is not.

use super::header_of;
use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

const CLIENT: &str = "192.0.2.1:4000";

#[test]
fn by_default_flows_and_datagrams_log_nothing() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .args(["--max-flows", "1", "--listeners", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &Header::none(), b"no header")?;
        balancer.send(&proxy, &header_of("224.0.0.1:4000")?, b"no client")?;
        // The second displaces the first.
        for client in ["192.0.2.2:4000", CLIENT] {
            balancer.send(&proxy, &header_of(client)?, b"question")?;
            server.expect(client, b"question")?;
        }
        server.send(CLIENT.parse()?, b"answer")?;
        balancer.expect(b"answer")?;
        let addr = server.addr()?;
        drop(server);
        balancer.send(&proxy, &header_of(CLIENT)?, b"refused")?;
        let server = UdpServer::bind_to(addr)?;
        balancer.send(&proxy, &header_of(CLIENT)?, b"the last")?;
        while server.receive()?.payload != b"the last" {}

        let exit = proxy.stop()?;
        let log = exit.log_since_ready();
        assert!(log.is_empty(), "at -v 0 it says {log:?}");
        assert_eq!(exit.total("header_errors")?, 1);
        assert_eq!(exit.total("sources_refused")?, 1);
        assert_eq!(exit.total("flows_evicted")?, 1);
        exit.expect_success()
    })
}

#[test]
fn errors_are_told_at_1_and_good_flows_only_at_2() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        for verbosity in ["1", "2"] {
            let proxy = Proxy::udp(server.addr()?)
                .args(["-v", verbosity, "--listeners", "1"])
                .start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &header_of(CLIENT)?, b"question")?;
            server.expect(CLIENT, b"question")?;
            balancer.send(&proxy, &header_of("224.0.0.1:4000")?, b"no client")?;
            let dropped = proxy.wait_for_message("datagram dropped")?;
            let (listen_addr, peer_addr) = (proxy.addr().to_string(), balancer.addr()?.to_string());
            assert_eq!(dropped["level"], "DEBUG");
            assert_eq!(dropped["listener"], 0);
            assert_eq!(dropped["protocol"], "udp");
            assert_eq!(dropped["listen_addr"], listen_addr);
            assert_eq!(dropped["peer_addr"], peer_addr);
            assert!(
                dropped["error"]
                    .as_str()
                    .is_some_and(|error| error.contains("224.0.0.1"))
            );
            assert!(dropped["timestamp"].is_string());

            let exit = proxy.stop()?;
            let log = exit.log_since_ready();
            let opened = log.iter().find(|line| line["message"] == "flow opened");
            if verbosity == "1" {
                assert_eq!(opened, None);
                assert_eq!(log.len(), 1);
            } else {
                let opened = opened.ok_or("the flow is not logged")?;
                assert_eq!(opened["level"], "TRACE");
                assert_eq!(opened["listener"], 0);
                assert_eq!(opened["protocol"], "udp");
                assert_eq!(opened["listen_addr"], listen_addr);
                assert_eq!(opened["peer_addr"], peer_addr);
                assert_eq!(opened["client_addr"], CLIENT);
                assert_eq!(opened["target_addr"], server.addr()?.to_string());
            }
            exit.expect_success()?;
        }
        Ok(())
    })
}
