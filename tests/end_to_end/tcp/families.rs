//! Hosts and listeners with one family or both.

use std::fs;

use crate::harness::{Balancer, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, isolated, run};

#[test]
fn wildcard_listeners_accept_peers_of_both_families() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        for (number, listen) in ["0.0.0.0:0", "[::]:0"].into_iter().enumerate() {
            let proxy = Proxy::tcp(server.addr()?)
                .listen(listen)
                .args(["-v", "2"])
                .start()?;
            for peer in ["127.0.0.1", "::1"] {
                let client = format!(
                    "192.0.2.{}:4000",
                    2 * number + usize::from(peer == "::1") + 1
                );
                let addr = proxy.addr_at(peer)?;
                let downstream = Balancer::default().connect_to(addr, &Header::of(&client)?)?;
                let session = server.accept()?;
                assert_eq!(session.peer()?, client.parse()?);
                downstream.expect_talk(&session)?;
                // An IPv4 peer is logged as such, not as v4-mapped.
                let addr = downstream.local()?.to_string();
                proxy.wait_for_log(|line| line["peer_addr"] == addr.as_str())?;
            }
        }
        Ok(())
    })
}

#[test]
fn ipv4_peers_of_dual_stack_listeners_match_ipv4_prefixes() -> TestResult {
    isolated(|| {
        let list = tempfile::NamedTempFile::new()?;
        let server = TcpServer::bind("127.0.0.1")?;
        for (number, (prefix, allowed, refused)) in [
            ("127.0.0.0/8", "127.0.0.1", "::1"),
            ("::1", "::1", "127.0.0.1"),
            // To list all of one family is not to list the other.
            ("0.0.0.0/0", "127.0.0.1", "::1"),
            ("::/0", "::1", "127.0.0.1"),
        ]
        .into_iter()
        .enumerate()
        {
            fs::write(&list, prefix)?;
            for (listener, listen) in ["0.0.0.0:0", "[::]:0"].into_iter().enumerate() {
                let proxy = Proxy::tcp(server.addr()?)
                    .listen(listen)
                    .args(["--allowed-subnets".as_ref(), list.path()])
                    .start()?;
                let balancer = Balancer::default();
                balancer
                    .connect_to(proxy.addr_at(refused)?, &Header::none())?
                    .expect_over()?;
                let header = Header::of(&format!("192.0.2.{number}:{}", 4000 + listener))?;
                let downstream = balancer.connect_to(proxy.addr_at(allowed)?, &header)?;
                let session = server.accept()?;
                downstream.expect_talk(&session)?;
                assert_eq!(proxy.stop()?.total("peers_refused")?, 1);
            }
        }
        Ok(())
    })
}

#[test]
fn a_host_without_ipv6_serves_ipv4() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .listen("0.0.0.0:0")
            .args(["-v", "1"])
            .start()?;
        let (downstream, session) = open(&proxy, &server, "192.0.2.1:4000")?;
        downstream.expect_talk(&session)?;

        // The missing family is an error when a client needs it, and only for that client.
        let needy = Balancer::default().connect(&proxy, &Header::of("[2001:db8::1]:4000")?)?;
        needy.expect_reset()?;
        let line = proxy.wait_for_message("connection dropped")?;
        assert_eq!(line["client_addr"], "[2001:db8::1]:4000");
        assert_eq!(line["target_addr"], "[::1]:443");

        let (downstream, session) = open(&proxy, &server, "192.0.2.1:4001")?;
        downstream.expect_talk(&session)?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_host_without_ipv4_serves_ipv6() -> TestResult {
    isolated(|| {
        run("ip address del 127.0.0.1/8 dev lo")?;
        let server = TcpServer::bind("::1")?;
        for listen in ["[::1]:0", "[::]:0"] {
            let proxy = Proxy::tcp(server.addr()?).listen(listen).start()?;
            let (downstream, session) = open(&proxy, &server, "[2001:db8::1]:4000")?;
            downstream.expect_talk(&session)?;
            session.reset()?;
            downstream.expect_reset()?;
            let needy = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
            needy.expect_reset()?;
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}
