//! Names that have an address.

use super::{CLIENT, NAME, connect, tcp_proxy};
use crate::harness::{Balancer, Header};
use crate::harness::{NameServer, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// Each family has a name of its own, and the other family's address behind it is none of its business.
#[test]
fn in_the_dns() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let (v4, v6) = (TcpServer::echo("127.0.0.7")?, TcpServer::echo("::1")?);
        names.set(NAME, &["127.0.0.7", "::2"])?;
        names.set("game6.internal", &["127.0.0.9", "::1"])?;
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .args(["-4", &format!("{NAME}:{}", v4.port())])
            .args(["-6", &format!("game6.internal:{}", v6.port())])
            .start()?;
        for (client, destination) in [CLIENT, ("[2001:db8::1]:4000", "[2001:db8::443]:443")] {
            let header = Header::v1(client, destination)?;
            let client = Balancer::default().connect(&proxy, &header)?;
            client.expect_echo(b"hello")?;
        }
        let line = proxy.wait_for_log(|line| line["name"] == format!("{NAME}:{}", v4.port()))?;
        assert_eq!(line["message"], "host name looked up");
        assert_eq!(
            (&line["address"], &line["others"]),
            (&"127.0.0.7".into(), &0.into())
        );
        let ready = proxy.wait_for_message("ready")?;
        assert_eq!(ready["target_v4"], v4.to_string());
        proxy.stop()?.expect_success()
    })
}

#[test]
fn in_the_hosts_file() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        names.write_hosts(&format!("127.0.0.7 {NAME}\n::1 game6.internal\n"))?;
        let server = UdpServer::echo("127.0.0.7")?;
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .args(["-p", "udp", "-4", &format!("{NAME}:{}", server.port())])
            .args(["-6", "game6.internal:443"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &Header::v2_udp(CLIENT.0, CLIENT.1)?, b"ping")?;
        balancer.expect(b"192.0.2.1:4000 ping")?;
        proxy.stop()?.expect_success()
    })
}

/// A host of several addresses has them in another order each time. Which one it is must not change for that.
#[test]
fn with_several_addresses() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let server = TcpServer::bind("127.0.0.8")?;
        let port = server.addr()?.port();
        // What blocks names answers so; that is this host itself.
        names.set(NAME, &["0.0.0.0", "127.0.0.8", "127.0.0.7"])?;
        names.write_hosts("")?;
        let proxy = tcp_proxy(&names, port)?;
        let line = proxy.wait_for_message("host name looked up")?;
        assert_eq!(line["others"], 1);
        let first = line["address"].as_str().ok_or("no address")?;
        // The resolver may sort them (RFC 6724), so either may be the first.
        names.set(NAME, &["127.0.0.7", "127.0.0.8"])?;
        proxy.signal(rustix::process::Signal::HUP)?;
        let again = proxy.wait_for_message("the host name has the address it had")?;
        assert_eq!(again["address"], first);
        if first == "127.0.0.8" {
            connect(&proxy, CLIENT.0)?.expect_talk(&server.accept()?)?;
        }
        proxy.stop()?.expect_success()
    })
}
