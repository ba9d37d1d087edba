//! Sources that are no ordinary client's, over both protocols: who is believed, and what the server would see.

use std::net::SocketAddr;

use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated, run};

const ORDINARY: &str = "192.0.2.1:4000";

/// The address of a balancer on another host; here it is on the same, but the proxy does not know that.
const ELSEWHERE: &str = "198.51.100.7";

/// Servers of both protocols and families, and a proxy in front of them.
struct Host {
    tcp: [TcpServer; 2],
    udp: [UdpServer; 2],
    proxy: Proxy,
}

// === impl Host ===

impl Host {
    #[track_caller]
    fn start(args: &[&str]) -> TestResult<Self> {
        let tcp = [TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?];
        let udp = [
            UdpServer::bind_to(tcp[0].addr()?)?,
            UdpServer::bind_to(tcp[1].addr()?)?,
        ];
        let proxy = Proxy::builder()
            .args(["-p", "both", "-v", "1", "--listeners", "1"])
            .args(args)
            .listen("[::]:0")
            .and(tcp[0].addr()?)
            .and(tcp[1].addr()?)
            .start()?;
        Ok(Self { tcp, udp, proxy })
    }

    /// A connection with this header from the balancer at this address.
    #[track_caller]
    fn connect(&self, balancer: &str, header: &Header) -> TestResult<Connection> {
        let addr = self.proxy.addr_at(balancer)?;
        Balancer::at(balancer)?.connect_to(addr, header)
    }

    /// A datagram with this header from the balancer at this address.
    #[track_caller]
    fn send(&self, balancer: &str, header: &Header, payload: &[u8]) -> TestResult<UdpBalancer> {
        let socket = UdpBalancer::bind(balancer)?;
        socket.send_to(self.proxy.addr_at(balancer)?, header, payload)?;
        Ok(socket)
    }

    /// The server sees this client over both protocols, and is heard.
    #[track_caller]
    fn expect_served(&self, balancer: &str, source: &str) -> TestResult {
        self.expect_seen(balancer, source, source.parse()?)
    }

    /// The server sees this client, however its header tells it.
    #[track_caller]
    fn expect_seen(&self, balancer: &str, source: &str, client: SocketAddr) -> TestResult {
        let family = usize::from(client.is_ipv6());
        let downstream = self.connect(balancer, &tcp_header_of(source)?)?;
        let session = self.tcp[family].accept()?;
        assert_eq!(session.peer()?, client, "{source}");
        downstream.expect_talk(&session)?;
        let datagrams = self.send(balancer, &udp_header_of(source)?, b"question")?;
        let question = self.udp[family].expect(&client.to_string(), b"question")?;
        self.udp[family].send(question.from, b"answer")?;
        datagrams.expect(b"answer")?;
        // The server closes last, so that the address pair is free for the next connection at once.
        session.reset()?;
        downstream.expect_reset()
    }

    /// Neither protocol's server hears of this client.
    #[track_caller]
    fn expect_refused(&self, balancer: &str, source: &str) -> TestResult {
        let refused = self.connect(balancer, &tcp_header_of(source)?.then(b"hello"))?;
        refused.expect_over()?;
        self.send(balancer, &udp_header_of(source)?, b"hello")?;
        // One that is served behind it: the one before has been looked at.
        self.send(balancer, &udp_header_of(ORDINARY)?, b"behind it")?;
        self.udp[0].expect(ORDINARY, b"behind it")?;
        for server in &self.udp {
            server.expect_nothing()?;
        }
        for server in &self.tcp {
            server.expect_nobody()?;
        }
        Ok(())
    }
}

fn tcp_header_of(source: &str) -> TestResult<Header> {
    Header::v2(source, destination_for(source))
}

fn udp_header_of(source: &str) -> TestResult<Header> {
    Header::v2_udp(source, destination_for(source))
}

fn destination_for(source: &str) -> &'static str {
    if source.starts_with('[') {
        "[2001:db8::443]:443"
    } else {
        "203.0.113.1:443"
    }
}

/// Gives this host a network interface with this address, other than the loopback device.
#[track_caller]
fn add_interface(name: &str, address: &str) -> TestResult {
    run(&format!(
        "set -e; ip link add {name} type veth peer name {name}-peer; ip link set {name} up; ip link set {name}-peer up; \
         ip address add {address} dev {name}"
    ))?;
    Ok(())
}

/// The kernel is asked what is a broadcast address, with a socket. What it has been asked before must not matter: the
/// source address that a connected socket once got stays with it.
#[test]
fn broadcast_addresses_of_own_networks_are_refused_whoever_came_before() -> TestResult {
    isolated(|| {
        add_interface("game0", "198.51.100.7/24 broadcast 198.51.100.255")?;
        add_interface("game1", "10.1.2.3/16 broadcast 10.1.255.255")?;
        for before in [
            &[][..],
            // A client on this host: its proxy is on it, too.
            &["127.0.0.1:5000"],
            &[ORDINARY],
            &["198.51.100.200:5000"],
            &["198.51.100.200:5000", "127.0.0.1:5000", "10.1.0.9:5000"],
        ] {
            let host = Host::start(&[])?;
            for client in before {
                host.expect_served("127.0.0.1", client)?;
            }
            for broadcast in [
                "198.51.100.255:4000",
                "10.1.255.255:4000",
                "127.255.255.255:4000",
                "[::ffff:198.51.100.255]:4000",
                "[::ffff:10.1.255.255]:4000",
                "[::ffff:127.255.255.255]:4000",
            ] {
                host.expect_refused("127.0.0.1", broadcast)
                    .map_err(|error| format!("{broadcast} after {before:?}: {error:?}"))?;
            }
            let exit = host.proxy.stop()?;
            assert_eq!(exit.total("dial_errors")?, 12, "after {before:?}");
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// A source address that the kernel once chose may be gone.
#[test]
fn broadcast_addresses_are_refused_when_our_own_address_has_changed() -> TestResult {
    isolated(|| {
        add_interface("game0", "198.51.100.7/24 broadcast 198.51.100.255")?;
        let host = Host::start(&[])?;
        host.expect_served("127.0.0.1", "198.51.100.200:5000")?;
        run("ip address del 198.51.100.7/24 dev game0")?;
        run("ip address add 198.51.100.8/24 broadcast 198.51.100.255 dev game0")?;
        host.expect_refused("127.0.0.1", "198.51.100.255:4000")?;
        host.expect_served("127.0.0.1", "198.51.100.200:5001")?;
        host.proxy.stop()?.expect_success()
    })
}

#[test]
fn sources_that_no_client_has_are_refused_in_every_form() -> TestResult {
    isolated(|| {
        add_address(ELSEWHERE)?;
        // Nothing of this is a matter of loopback clients.
        for args in [&[][..], &["--allow-loopback-clients"]] {
            let host = Host::start(args)?;
            let refused = [
                "0.0.0.0:4000",
                "0.0.0.1:4000",
                "0.255.255.255:4000",
                "[::ffff:0.0.0.0]:4000",
                "[::ffff:0.255.255.255]:4000",
                "224.0.0.1:4000",
                "239.255.255.255:4000",
                "[::ffff:224.0.0.1]:4000",
                "[::ffff:239.255.255.255]:4000",
                "255.255.255.255:4000",
                "[::ffff:255.255.255.255]:4000",
                "[::]:4000",
                "[::2]:4000",
                "[::127.0.0.1]:4000",
                "[::203.0.113.7]:4000",
                "[::224.0.0.1]:4000",
                "[ff02::1]:4000",
                "[fe80::1]:4000",
                "[febf::1]:4000",
                "192.0.2.1:0",
                "[::ffff:192.0.2.1]:0",
                "[2001:db8::1]:0",
            ];
            for source in refused {
                host.expect_refused(ELSEWHERE, source)
                    .map_err(|error| format!("{source}: {error:?}"))?;
            }
            let exit = host.proxy.stop()?;
            assert_eq!(
                exit.total("sources_refused")?,
                2 * refused.len() as u64,
                "{args:?}"
            );
            exit.expect_success()?;
        }
        Ok(())
    })
}

/// Addresses that look special and are some client's: 240/4, which Cloudflare's "Pseudo IPv4" gives to IPv6 clients,
/// link-local IPv4, private networks, and what comes next to a broadcast address.
#[test]
fn unusual_clients_are_served() -> TestResult {
    isolated(|| {
        add_address(ELSEWHERE)?;
        let host = Host::start(&[])?;
        for client in [
            "240.0.0.1:4000",
            "255.255.255.254:4000",
            "1.0.0.0:4000",
            "169.254.1.1:4000",
            "10.0.0.255:4000",
            "192.0.2.255:4000",
            "[fd00::1]:4000",
            "[fec0::1]:4000",
            "[64:ff9b::7f00:1]:4000",
            "[::1:0:0]:4000",
        ] {
            host.expect_served(ELSEWHERE, client)
                .map_err(|error| format!("{client}: {error:?}"))?;
        }
        host.expect_seen(
            ELSEWHERE,
            "[::ffff:240.0.0.2]:4000",
            "240.0.0.2:4000".parse()?,
        )?;
        host.proxy.stop()?.expect_success()
    })
}

#[test]
fn loopback_clients_of_a_balancer_elsewhere_are_served_only_where_that_is_allowed() -> TestResult {
    isolated(|| {
        add_address(ELSEWHERE)?;
        add_address("2001:db8:7::7")?;
        let clients = ["127.0.0.1:4000", "127.9.9.9:4000", "[::1]:4000"];
        let host = Host::start(&[])?;
        for balancer in [ELSEWHERE, "2001:db8:7::7"] {
            for client in clients {
                host.expect_refused(balancer, client)?;
            }
            host.expect_refused(balancer, "[::ffff:127.0.0.1]:4000")?;
        }
        assert_eq!(host.proxy.stop()?.total("sources_refused")?, 16);

        let host = Host::start(&["--allow-loopback-clients"])?;
        let warning = host.proxy.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("--allow-loopback-clients without --allowed-subnets")
        })?;
        assert_eq!(warning["level"], "WARN");
        for balancer in [ELSEWHERE, "2001:db8:7::7"] {
            for client in clients {
                host.expect_served(balancer, client)?;
            }
            let mapped = "[::ffff:127.0.0.1]:4001";
            host.expect_seen(balancer, mapped, "127.0.0.1:4001".parse()?)?;
            // The network's broadcast address is no client even so.
            host.expect_refused(balancer, "127.255.255.255:4000")?;
        }
        host.proxy.stop()?.expect_success()
    })
}

#[test]
fn with_a_list_loopback_clients_are_no_reason_to_warn() -> TestResult {
    isolated(|| {
        let list = tempfile::NamedTempFile::new()?;
        std::fs::write(&list, ELSEWHERE)?;
        let path = list.path().display().to_string();
        let host = Host::start(&["--allow-loopback-clients", "--allowed-subnets", &path])?;
        let exit = host.proxy.stop()?;
        let warned = |line: &serde_json::Value| line["level"] == "WARN";
        assert!(!exit.log.iter().any(warned), "{:?}", exit.log);
        exit.expect_success()
    })
}
