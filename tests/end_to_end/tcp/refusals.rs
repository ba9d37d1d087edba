//! Who is turned away: peers that are not in the list, and sources that no client can have.

use std::fs;

use super::NO_HEADER_TIMEOUT;
use crate::harness::{Balancer, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, add_address, isolated};

#[test]
fn a_refused_peer_costs_no_header_read() -> TestResult {
    isolated(|| {
        add_address("198.51.100.7")?;
        let list = tempfile::NamedTempFile::new()?;
        fs::write(&list, "# balancers\n198.51.100.0/24\n")?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["-v", "1", "--allowed-subnets"])
            .args([list.path()])
            .args(NO_HEADER_TIMEOUT)
            .start()?;
        // It sends nothing, and is turned away all the same.
        let refused = Balancer::default().connect(&proxy, &Header::none())?;
        refused.expect_over()?;
        let addr = refused.local()?.to_string();
        let line = proxy.wait_for_log(|line| line["peer_addr"] == addr.as_str())?;
        assert_eq!(
            line["message"],
            "connection refused: the peer is not in the allow list"
        );
        // Nor does a header help.
        let refused = Balancer::default().connect(&proxy, &Header::of("192.0.2.1:4000")?)?;
        refused.expect_over()?;

        let allowed = Balancer::at("198.51.100.7")?;
        let downstream = allowed.connect(&proxy, &Header::of("192.0.2.1:4001")?)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, "192.0.2.1:4001".parse()?);
        downstream.expect_talk(&session)?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("peers_refused")?, 2);
        assert_eq!(exit.total("connections")?, 1);
        server.expect_nobody()
    })
}

/// Linux binds to 0.0.0.0 and to multicast addresses, and the server then sees 127.0.0.1.
#[test]
fn sources_that_no_client_can_have_are_refused() -> TestResult {
    isolated(|| {
        add_address("198.51.100.7")?;
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?)
            .and(server_v6.addr()?)
            .listen("0.0.0.0:0")
            .args(["-v", "1"])
            .start()?;
        let (v4, v6) = ("203.0.113.1:443", "[2001:db8::443]:443");
        let cases = [
            ("0.0.0.0:4000", v4, "stands for no host"),
            ("0.1.2.3:4000", v4, "stands for no host"),
            ("224.0.0.1:4000", v4, "is a multicast address"),
            ("255.255.255.255:4000", v4, "is the broadcast address"),
            ("192.0.2.1:0", v4, "has port 0"),
            ("127.0.0.1:4000", v4, "is a loopback address"),
            ("127.9.9.9:4000", v4, "is a loopback address"),
            ("[::]:4000", v6, "stands for no host"),
            ("[ff02::1]:4000", v6, "is a multicast address"),
            ("[fe80::1]:4000", v6, "is link-local"),
            ("[2001:db8::1]:0", v6, "has port 0"),
            ("[::1]:4000", v6, "is a loopback address"),
            ("[::ffff:0.0.0.0]:4000", v6, "stands for no host"),
            ("[::ffff:127.0.0.1]:4000", v6, "is a loopback address"),
        ];
        let elsewhere = Balancer::at("198.51.100.7")?;
        for (source, destination, reason) in cases {
            for header in [
                Header::v1(source, destination)?,
                Header::v2(source, destination)?,
            ] {
                let addr = proxy.addr_at("198.51.100.7")?;
                let refused = elsewhere.connect_to(addr, &header.then(b"hello"))?;
                refused.expect_over()?;
                let addr = refused.local()?.to_string();
                // The kernel may give a port again.
                let told = proxy.wait_for_log(|line| {
                    let error = line["error"].as_str().unwrap_or_default();
                    line["peer_addr"] == addr.as_str() && error.contains(reason)
                });
                told.map_err(|error| format!("{source}, {reason}: {error:?}"))?;
            }
        }
        assert_eq!(
            proxy.stop()?.total("sources_refused")?,
            2 * cases.len() as u64
        );
        server.expect_nobody()?;
        server_v6.expect_nobody()
    })
}

/// A proxy on this host may have clients on it.
#[test]
fn a_loopback_peer_may_speak_for_loopback_clients() -> TestResult {
    isolated(|| {
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        let proxy = Proxy::tcp(server.addr()?).and(server_v6.addr()?).start()?;
        for (server, client) in [
            (&server, "127.0.0.1:4000"),
            (&server, "127.9.9.9:4000"),
            (&server_v6, "[::1]:4000"),
        ] {
            let (downstream, session) = open(&proxy, server, client)?;
            downstream.expect_talk(&session)?;
        }
        Ok(())
    })
}

/// A connection from an address to itself would be the server talking to itself.
#[test]
fn a_client_with_the_servers_own_address_is_refused() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?).args(["-v", "1"]).start()?;
        let header = Header::of(&server.addr()?.to_string())?;
        let refused = Balancer::default().connect(&proxy, &header)?;
        refused.expect_reset()?;
        let line = proxy.wait_for_message("connection dropped")?;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains("is the server's own"), "{error}");
        proxy.stop()?;
        server.expect_nobody()
    })
}
