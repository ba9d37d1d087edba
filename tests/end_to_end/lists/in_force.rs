//! The list at start.

use super::{ListFile, WITH_US, WITHOUT_US, expect_allowed, proxy_with};
use crate::harness::{Balancer, Header, Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn peers_of_the_list_are_served_silently() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITH_US)?;
        let proxy = proxy_with(&list.path)?;
        expect_allowed(&proxy, true)?;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert!(exit.log.iter().all(|line| line["level"] == "INFO"));
        Ok(())
    })
}

#[test]
fn others_are_turned_away_and_never_reach_the_server() -> TestResult {
    isolated(|| {
        let list = ListFile::new(WITHOUT_US)?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1", "--allowed-subnets"])
            .args([&list.path])
            .start()?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        let refused = Balancer::default().connect(&proxy, &header)?;
        refused.expect_over()?;
        let line =
            proxy.wait_for_message("connection refused: the peer is not in the allow list")?;
        assert_eq!(line["peer_addr"], refused.local()?.to_string());
        // Nothing that the refused one sent was looked at.
        assert_eq!(line.get("client_addr"), None);
        server.expect_nobody()?;
        let exit = proxy.stop()?;
        let totals = exit.log.last().ok_or("no log")?;
        assert_eq!(
            (&totals["peers_refused"], &totals["connections"]),
            (&1.into(), &0.into())
        );
        exit.expect_success()
    })
}

#[test]
fn an_empty_list_allows_nobody_and_says_so() -> TestResult {
    isolated(|| {
        let list = ListFile::new("# not yet\n")?;
        let proxy = proxy_with(&list.path)?;
        let warning =
            proxy.wait_for_message("the list of allowed subnets is empty: nobody is allowed")?;
        assert_eq!(warning["level"], "WARN");
        expect_allowed(&proxy, false)
    })
}

#[test]
fn no_list_allows_everybody_and_says_so() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).start()?;
        let warns = |text: &str| {
            let mut lines = proxy.log().into_iter();
            lines.any(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                line["level"] == "WARN" && message.starts_with(text)
            })
        };
        assert!(warns("no --allowed-subnets: everybody "));
        expect_allowed(&proxy, true)
    })
}

/// IPv4 peers of a listener on `[::]` have v4-mapped addresses.
#[test]
fn mapped_peers_match_ipv4_prefixes() -> TestResult {
    isolated(|| {
        for list in ["127.0.0.0/8\n", "::ffff:127.0.0.1\n"] {
            let list = ListFile::new(list)?;
            for listen in ["[::]:0", "0.0.0.0:0"] {
                let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
                    .listen(listen)
                    .args(["--allowed-subnets"])
                    .args([&list.path])
                    .start()?;
                let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
                let allowed =
                    Balancer::default().connect_to(proxy.addr_at("127.0.0.1")?, &header)?;
                allowed.expect_echo(b"hello")?;
                let refused = Balancer::default().connect_to(proxy.addr_at("::1")?, &header)?;
                refused.expect_over()?;
            }
        }
        Ok(())
    })
}
