//! Hosts that lack something.

use crate::harness::{Balancer, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated, run};

const V4: (&str, &str) = ("192.0.2.1:4000", "203.0.113.1:443");
const V6: (&str, &str) = ("[2001:db8::1]:4000", "[2001:db8::443]:443");

#[test]
fn without_ipv6_it_serves_ipv4() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .listen("0.0.0.0:0")
            .args(["-v", "1"])
            .start()?;
        let connect = |(client, destination)| -> TestResult<_> {
            Balancer::default().connect(&proxy, &Header::v2(client, destination)?)
        };
        connect(V4)?.expect_echo(b"hello")?;
        connect(V6)?.expect_over()?;
        let line = proxy.wait_for_message("connection dropped")?;
        assert_eq!(line["client_addr"], V6.0);
        assert!(line["error"].is_string());
        connect(V4)?.expect_echo(b"still here")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn without_ipv6_it_serves_ipv4_over_udp() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
        let proxy = Proxy::udp(UdpServer::echo("127.0.0.1")?)
            .listen("0.0.0.0:0")
            .args(["-v", "1"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(&proxy, &Header::v2_udp(V6.0, V6.1)?, b"lost")?;
        let line = proxy.wait_for_message("datagram dropped")?;
        assert_eq!(line["client_addr"], V6.0);
        balancer.send(&proxy, &Header::v2_udp(V4.0, V4.1)?, b"ping")?;
        balancer.expect(b"192.0.2.1:4000 ping")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn without_ipv4_it_serves_ipv6() -> TestResult {
    isolated(|| {
        run("ip address del 127.0.0.1/8 dev lo")?;
        let proxy = Proxy::tcp(TcpServer::echo("::1")?)
            .listen("[::1]:0")
            .args(["-v", "1"])
            .start()?;
        let connect = |(client, destination)| -> TestResult<_> {
            Balancer::default().connect(&proxy, &Header::v2(client, destination)?)
        };
        connect(V6)?.expect_echo(b"hello")?;
        connect(V4)?.expect_over()?;
        assert_eq!(
            proxy.wait_for_message("connection dropped")?["client_addr"],
            V4.0
        );
        connect(V6)?.expect_echo(b"still here")?;
        proxy.stop()?.expect_success()
    })
}
