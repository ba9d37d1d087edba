//! The server is on another host.

use std::net::{SocketAddr, TcpStream};

use super::by_hand::{MISSING, obey, says};
use super::{expect_service, tables};
use crate::harness::{
    Balancer, Connection, Header, PATIENCE, Proxy, TcpServer, UdpBalancer, UdpServer,
};
use crate::namespace::{TestResult, isolated, run};
use crate::other_host::OtherHost;

const ELSEWHERE: &str = "the server is on another host, which must route its answers to clients to this one: by its \
                         default route, or by these commands there";

const CLIENTS: [(&str, &str); 2] = [
    ("192.0.2.1:4000", "203.0.113.1:443"),
    ("[2001:db8::1]:4000", "[2001:db8::443]:443"),
];

/// A server of each family, on one port.
struct Servers {
    v4: SocketAddr,
    v6: SocketAddr,
}

// === impl Servers ===

impl Servers {
    fn tcp(host: &OtherHost) -> TestResult<Self> {
        let (v4, v6) = (host.v4(), host.v6());
        host.inside(move || {
            Ok(Self {
                v4: TcpServer::echo(&v4)?,
                v6: TcpServer::echo(&v6)?,
            })
        })
    }

    /// On the wildcard address, as most game servers are.
    fn udp(host: &OtherHost) -> TestResult<Self> {
        let (v4, v6) = (host.v4(), host.v6());
        host.inside(move || {
            Ok(Self {
                v4: SocketAddr::new(v4.parse()?, UdpServer::echo("0.0.0.0")?.port()),
                v6: SocketAddr::new(v6.parse()?, UdpServer::echo("::")?.port()),
            })
        })
    }
}

/// A client of either family is answered by a server that echoes.
#[track_caller]
fn expect_udp_service(proxy: &Proxy) -> TestResult {
    for (client, destination) in CLIENTS {
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        balancer.send(proxy, &Header::v2_udp(client, destination)?, b"ping")?;
        balancer.expect(format!("{client} ping").as_bytes())?;
    }
    Ok(())
}

#[test]
fn tcp_servers_on_another_host_see_the_clients() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let (before, bound) = (tables()?, host.v4());
        let server = host.inside(move || TcpServer::bind(&bound))?;
        let proxy = Proxy::tcp(server.addr()?).start()?;
        assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward")?.trim(), "0");
        let header = Header::v1(CLIENTS[0].0, CLIENTS[0].1)?;
        let downstream = Balancer::default().connect(&proxy, &header)?;
        let session = server.accept()?;
        assert_eq!(session.peer()?, CLIENTS[0].0.parse()?);
        downstream.expect_talk(&session)?;
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);

        let servers = Servers::tcp(&host)?;
        let proxy = Proxy::tcp(servers.v4).and(servers.v6).start()?;
        expect_service(&proxy)?;
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn udp_servers_on_another_host_see_the_clients() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let before = tables()?;
        let servers = Servers::udp(&host)?;
        let proxy = Proxy::udp(servers.v4).and(servers.v6).start()?;
        expect_udp_service(&proxy)?;
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// An address of the link means nothing without the interface behind it.
#[test]
fn the_server_may_have_an_address_of_the_link_only() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let ip = host.run("ip -6 -brief address show dev eth0 scope link")?;
        let ip = ip
            .split_whitespace()
            .nth(2)
            .and_then(|it| it.split('/').next());
        let ip = ip.ok_or("no address of the link")?;
        let port = host.inside(|| Ok(TcpServer::echo("::")?.port()))?;
        let target = format!("[{ip}%{}]:{port}", host.interface());
        let proxy = Proxy::builder().args(["-6", &target]).start()?;
        let header = Header::v1(CLIENTS[1].0, CLIENTS[1].1)?;
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_echo(b"hello")?;
        proxy.stop()?.expect_success()
    })
}

/// The other host keeps its own default route, or has none, as here.
/// Each has ports in a row, which share a rule.
#[test]
fn servers_here_and_on_two_hosts_are_served_by_one_process() -> TestResult {
    isolated(|| {
        let (one, two) = (OtherHost::new(1)?, OtherHost::new(2)?);
        let before = tables()?;
        for host in [&one, &two] {
            host.use_us_as_router()?;
        }
        let proxy = Proxy::builder()
            .listen("127.0.0.1:2000-2001,127.0.0.1:2010-2011,127.0.0.1:2020-2021")
            .args(["-4", &format!("{}:3000-3001", one.v4())])
            .args(["-4", "127.0.0.1:3010-3011"])
            .args(["-4", &format!("{}:3020-3021", two.v4())])
            .args(["-p", "both"])
            .start()?;
        let rules = run("ip rule")?;
        for rule in [
            "from 10.77.1.2 iif link1 ipproto tcp sport 3000-3001",
            "from 10.77.2.2 iif link2 ipproto udp sport 3020-3021",
            "from 0.0.0.0 iif lo ipproto udp sport 3010-3011",
        ] {
            assert!(rules.contains(rule), "{rules}");
        }
        let (client, destination) = CLIENTS[0];
        for (host, ip, first) in [
            (Some(&one), one.v4(), 3000),
            (None, "127.0.0.1".to_owned(), 3010),
            (Some(&two), two.v4(), 3020),
        ] {
            for port in [first, first + 1] {
                let at = SocketAddr::new(ip.parse()?, port);
                // As most game servers are bound.
                let any = SocketAddr::from(([0; 4], port));
                let bind = move || Ok((TcpServer::bind_to(at)?, UdpServer::bind_to(any)?));
                let (tcp, udp) = host.map_or_else(bind, |host| host.inside(bind))?;
                let listen_addr = proxy.addr_on(port - 1000);
                let header = Header::v1(client, destination)?;
                let downstream = Balancer::default().connect_to(listen_addr, &header)?;
                downstream.expect_talk(&tcp.accept()?)?;

                let balancer = UdpBalancer::bind("127.0.0.1")?;
                let header = Header::v2_udp(client, destination)?;
                balancer.send_to(listen_addr, &header, b"question")?;
                udp.expect(client, b"question")?;
                udp.send(client.parse()?, b"answer")?;
                balancer.expect(b"answer")?;
            }
        }
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

#[test]
fn the_commands_it_prints_for_the_other_host_suffice_there() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        for protocol in ["tcp", "udp"] {
            let servers = if protocol == "tcp" {
                Servers::tcp(&host)?
            } else {
                Servers::udp(&host)?
            };
            let proxy = Proxy::builder()
                .args(["-p", protocol])
                .and(servers.v4)
                .and(servers.v6)
                .start()?;
            for ip in [host.v4(), host.v6()] {
                let line = proxy
                    .wait_for_log(|line| line["message"] == ELSEWHERE && line["server"] == ip)?;
                let commands = line["commands"].as_str().ok_or("no commands")?;
                // For the second protocol, the route is there.
                let commands = commands.replace("route add", "route replace");
                host.run(&format!("set -e; {commands}"))?;
            }
            if protocol == "tcp" {
                expect_service(&proxy)?;
            } else {
                expect_udp_service(&proxy)?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn the_commands_it_prints_for_this_host_make_it_work() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        host.use_us_as_router()?;
        let servers = Servers::tcp(&host)?;
        let start = || {
            let proxy = Proxy::tcp(servers.v4).and(servers.v6).without_routes();
            proxy.args(["-v", "1", "--connect-timeout", "0.2"]).start()
        };
        let proxy = start()?;
        let header = Header::v1(CLIENTS[0].0, CLIENTS[0].1)?;
        Balancer::default()
            .connect(&proxy, &header)?
            .expect_over()?;
        obey(&proxy.wait_for_message(MISSING)?)?;
        expect_service(&proxy)?;
        proxy.stop()?.expect_success()?;
        assert!(!says(&start()?.log(), MISSING));
        Ok(())
    })
}

/// This host is the other one's router, so everything that one sends comes by.
#[test]
fn other_traffic_of_that_host_is_forwarded_as_before() -> TestResult {
    isolated(|| {
        let (host, player) = (OtherHost::new(1)?, OtherHost::new(2)?);
        host.use_us_as_router()?;
        player.use_us_as_router()?;
        run("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        run("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")?;
        let servers = Servers::tcp(&host)?;
        let others = Servers::tcp(&host)?;
        let proxy = Proxy::tcp(servers.v4).and(servers.v6).start()?;
        expect_service(&proxy)?;
        for other in [others.v4, others.v6] {
            let player = player
                .inside(move || Connection::new(TcpStream::connect_timeout(&other, PATIENCE)?))?;
            player.expect_echo(b"directly")?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_server_behind_a_router_is_told_so() -> TestResult {
    isolated(|| {
        let host = OtherHost::new(1)?;
        run(&format!("ip route add 198.51.100.0/24 via {}", host.v4()))?;
        let proxy = Proxy::tcp("198.51.100.7:25565".parse()?).start()?;
        let line = proxy.wait_for_log(|line| line["server"] == "198.51.100.7")?;
        assert_eq!(line["router"], host.v4());
        assert!(run("ip rule")?.contains("from 198.51.100.7 iif link1"));
        proxy.stop()?.expect_success()
    })
}
