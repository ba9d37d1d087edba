//! `--mark`, for a server on another host: the packet filter tells the answers to our packets from all others.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;

use crate::harness::{
    Balancer, Connection, Header, PATIENCE, Proxy, TcpServer, UdpBalancer, UdpServer,
};
use crate::namespace::{TestResult, run};
use crate::other_host::OtherHost;
use crate::tool::{NFT, isolated_with};

const CLIENTS: [(&str, &str); 2] = [
    ("192.0.2.1:4000", "203.0.113.1:443"),
    ("[2001:db8::1]:4000", "[2001:db8::443]:443"),
];

/// More than a packet of an Ethernet holds.
const LARGE: [u8; 4000] = [b'x'; 4000];

/// The commands that the manual gives.
fn commands() -> TestResult<String> {
    let manual = include_str!("../../README.md");
    let mut blocks = manual.split("```sh\n").skip(1);
    let block = blocks.find(|block| block.contains("ct mark set meta mark"));
    let (commands, _) = block
        .and_then(|block| block.split_once("```"))
        .ok_or("the manual does not say how")?;
    Ok(format!("set -e\n{commands}"))
}

/// A host for which this one is the router, with the manual's commands run here.
fn host() -> TestResult<OtherHost> {
    let host = OtherHost::new(1)?;
    host.use_us_as_router()?;
    run(&commands()?.replace("eth1", &host.interface()))?;
    Ok(host)
}

fn marking(protocol: &str, v4: SocketAddr, v6: SocketAddr) -> TestResult<Proxy> {
    let proxy = Proxy::builder().args(["-p", protocol, "--mark", "5"]);
    let proxy = proxy.and(v4).and(v6).without_routes().start()?;
    // Complete as they are, as far as it can be seen.
    let complaints = proxy.log().into_iter();
    let complaints: Vec<_> = complaints
        .filter(|line| line["commands"].is_string())
        .collect();
    assert!(
        complaints.iter().all(|line| line["server"].is_string()),
        "{complaints:?}"
    );
    Ok(proxy)
}

/// Even those that reach the same port, through this host.
#[test]
fn clients_that_come_directly_keep_their_way() -> TestResult {
    isolated_with(&[NFT], || {
        let (host, player) = (host()?, OtherHost::new(2)?);
        player.use_us_as_router()?;
        run("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        run("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")?;
        let (v4, v6) = (host.v4(), host.v6());
        let (v4, v6) = host.inside(move || Ok((TcpServer::echo(&v4)?, TcpServer::echo(&v6)?)))?;
        let proxy = marking("tcp", v4, v6)?;
        for ((client, destination), server) in CLIENTS.into_iter().zip([v4, v6]) {
            let header = Header::v2(client, destination)?;
            let proxied = Balancer::default().connect(&proxy, &header)?;
            let direct = player
                .inside(move || Connection::new(TcpStream::connect_timeout(&server, PATIENCE)?))?;
            proxied.expect_echo(b"through the proxy")?;
            direct.expect_echo(b"directly")?;
        }
        proxy.stop()?.expect_success()
    })
}

/// Connection tracking puts fragments together before they are routed.
#[test]
fn large_datagrams_come_back() -> TestResult {
    isolated_with(&[NFT], || {
        let host = host()?;
        let large = |ip: String| {
            host.inside(move || {
                let socket = UdpSocket::bind((ip.parse::<IpAddr>()?, 0))?;
                let addr = socket.local_addr()?;
                thread::spawn(move || {
                    while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                        let _ = socket.send_to(&LARGE, from);
                    }
                });
                Ok(addr)
            })
        };
        let proxy = marking("udp", large(host.v4())?, large(host.v6())?)?;
        for (client, destination) in CLIENTS {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &Header::v2_udp(client, destination)?, b"how much?")?;
            balancer.expect(&LARGE)?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn udp_servers_on_the_wildcard_address_work() -> TestResult {
    isolated_with(&[NFT], || {
        let host = host()?;
        let ports = host.inside(|| {
            Ok((
                UdpServer::echo("0.0.0.0")?.port(),
                UdpServer::echo("::")?.port(),
            ))
        })?;
        let v4 = SocketAddr::new(host.v4().parse()?, ports.0);
        let v6 = SocketAddr::new(host.v6().parse()?, ports.1);
        let proxy = marking("udp", v4, v6)?;
        for (client, destination) in CLIENTS {
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            balancer.send(&proxy, &Header::v2_udp(client, destination)?, b"ping")?;
            balancer.expect(format!("{client} ping").as_bytes())?;
        }
        proxy.stop()?.expect_success()
    })
}
