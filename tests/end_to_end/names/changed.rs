//! Names that have another address by and by.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use rustix::process::Signal;

use super::{CLIENT, NAME, at, connect, tcp_proxy};
use crate::harness::{Balancer, Connection, Header, NameServer, Proxy, UdpBalancer, wait_for};
use crate::namespace::{TestResult, add_address, isolated, run};
use crate::other_host::OtherHost;
use crate::routes::by_hand::{MISSING, obey, says};
use crate::routes::tables;

pub(super) const CHANGED: &str = "new connections go to the new address";

/// A server that says first where it is, and sends everything back from then on.
pub(super) fn greeter(addr: SocketAddr) -> TestResult<SocketAddr> {
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || greet(&stream, addr).ok());
        }
    });
    Ok(addr)
}

fn greet(mut stream: &TcpStream, addr: SocketAddr) -> io::Result<()> {
    stream.write_all(&octets(addr))?;
    io::copy(&mut &*stream, &mut stream).map(|_| ())
}

/// An IPv4 address and its port.
fn octets(addr: SocketAddr) -> Vec<u8> {
    let ip = match addr {
        SocketAddr::V4(addr) => addr.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    };
    [&ip[..], &addr.port().to_be_bytes()].concat()
}

/// A UDP server that answers with who asked and where it is.
fn udp_greeter(addr: SocketAddr) -> TestResult<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    let (same, addr) = (socket.try_clone()?, socket.local_addr()?);
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(format!("{from} at {addr}").as_bytes(), from);
        }
    });
    Ok(same)
}

/// Where a connection has come to.
#[track_caller]
fn whereabouts(connection: &Connection) -> TestResult<SocketAddr> {
    let mut octets = [0; 6];
    connection.stream().read_exact(&mut octets)?;
    let [a, b, c, d, high, low] = octets;
    Ok(([a, b, c, d], u16::from_be_bytes([high, low])).into())
}

/// Gives the name an address and has the proxy notice, for the so-manieth time.
#[track_caller]
fn move_to(names: &NameServer, proxy: &Proxy, addr: SocketAddr, count: usize) -> TestResult {
    names.set(NAME, &[&addr.ip().to_string()])?;
    proxy.signal(Signal::HUP)?;
    let lines = proxy.wait_for_logs(count, |line| line["message"] == CHANGED)?;
    assert_eq!(lines[count - 1]["target_v4"], addr.to_string());
    Ok(())
}

/// All new connections come there: at once, or a little later, as each shard has to be told.
#[track_caller]
fn wait_until_at(proxy: &Proxy, addr: SocketAddr) -> TestResult {
    wait_until_leads_to(proxy.addr(), addr)
}

/// The same for one of several ports.
#[track_caller]
pub(super) fn wait_until_leads_to(listen_addr: SocketAddr, addr: SocketAddr) -> TestResult {
    // More than go to one shard by chance.
    const IN_A_ROW: usize = 20;
    let header = Header::v1(CLIENT.0, CLIENT.1)?;
    let mut count = 0;
    wait_for(|| {
        let client = Balancer::default().connect_to(listen_addr, &header)?;
        count = if whereabouts(&client)? == addr {
            count + 1
        } else {
            0
        };
        Ok((count == IN_A_ROW).then_some(()))
    })
}

#[test]
fn new_connections_go_there_and_open_ones_stay() -> TestResult {
    isolated(|| {
        // The routes of the two differ.
        add_address("198.51.100.7")?;
        let before = tables()?;
        let names = NameServer::start()?;
        let old = greeter(at("127.0.0.7", 0)?)?;
        let new = greeter(at("198.51.100.7", old.port())?)?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = tcp_proxy(&names, old.port())?;
        let open = connect(&proxy, CLIENT.0)?;
        assert_eq!(whereabouts(&open)?, old);

        move_to(&names, &proxy, new, 1)?;
        wait_until_at(&proxy, new)?;
        open.expect_echo(b"still where it was")?;
        let rules = run("ip rule")?;
        for rule in [
            "from 127.0.0.1/8 iif lo",
            "from 198.51.100.7 iif lo ipproto tcp",
        ] {
            assert!(rules.contains(rule), "{rules}");
        }
        let routes = run("ip route show table 123")?;
        assert!(
            routes.contains("src 198.51.100.7") && routes.lines().count() == 1,
            "{routes}"
        );

        move_to(&names, &proxy, old, 2)?;
        wait_until_at(&proxy, old)?;
        open.expect_echo(b"and again")?;
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// A client's port stays what it was, and what the old server still has to say is passed on.
#[test]
fn flows_move_with_the_next_datagram() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let old = udp_greeter(at("127.0.0.7", 0)?)?;
        let old_addr = old.local_addr()?;
        let new_addr = at("127.0.0.8", old_addr.port())?;
        udp_greeter(new_addr)?;
        names.set(NAME, &["127.0.0.7"])?;
        let target = format!("{NAME}:{}", old_addr.port());
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .args(["-p", "udp", "-4", &target, "--source-port", "strict"])
            .start()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let ask = |client: &str| -> TestResult<String> {
            balancer.send(&proxy, &Header::v2_udp(client, CLIENT.1)?, b"where?")?;
            Ok(String::from_utf8(balancer.receive()?.payload)?)
        };
        assert_eq!(ask(CLIENT.0)?, format!("{} at {old_addr}", CLIENT.0));
        move_to(&names, &proxy, new_addr, 1)?;
        wait_for(|| {
            let there = ask(CLIENT.0)? == format!("{} at {new_addr}", CLIENT.0);
            Ok(there.then_some(()))
        })?;
        old.send_to(b"farewell", CLIENT.0)?;
        balancer.expect(b"farewell")?;
        assert_eq!(ask(CLIENT.0)?, format!("{} at {new_addr}", CLIENT.0));
        proxy.stop()?.expect_success()
    })
}

/// One name for a range of ports and for another port, another name, and a server without one.
#[test]
fn servers_of_several_ports_move_at_once() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let move_to = |game: &[&str], other: &[&str]| -> TestResult {
            names.set(NAME, game)?;
            names.set("other.internal", other)
        };
        for ip in ["127.0.0.7", "127.0.0.8", "127.0.0.17", "127.0.0.18"] {
            for port in 3000..3003 {
                greeter(at(ip, port)?)?;
            }
        }
        greeter(at("127.0.0.1", 3009)?)?;
        move_to(&["127.0.0.7"], &["127.0.0.17"])?;
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .listen("127.0.0.1:2000-2001,127.0.0.1:2002-2004")
            .args(["-l", "127.0.0.1:2005,127.0.0.1:2006"])
            .args(["-4", "game.internal:3000-3001,other.internal:3002"])
            .args(["-4", "game.internal:3002,127.0.0.1:3009"])
            .start()?;
        let expect = |game: &str, other: &str| -> TestResult {
            for (listen, ip, port) in [
                (2000, game, 3000),
                (2001, game, 3001),
                (2002, other, 3002),
                (2004, other, 3002),
                (2005, game, 3002),
                (2006, "127.0.0.1", 3009),
            ] {
                wait_until_leads_to(proxy.addr_on(listen), at(ip, port)?)?;
            }
            Ok(())
        };
        let changes = |count: usize| -> TestResult<String> {
            proxy.signal(Signal::HUP)?;
            let lines = proxy.wait_for_logs(count, |line| line["message"] == CHANGED)?;
            assert_eq!(lines.len(), count);
            Ok(lines[count - 1]["target_v4"]
                .as_str()
                .ok_or("no targets")?
                .to_owned())
        };
        expect("127.0.0.7", "127.0.0.17")?;
        let lookups = proxy.log();
        let lookups = lookups
            .iter()
            .filter(|line| line["message"] == "host name looked up");
        assert_eq!(lookups.count(), 2, "each name is looked up once");

        move_to(&["127.0.0.8"], &["127.0.0.18"])?;
        assert_eq!(
            changes(1)?,
            "127.0.0.8:3000-3001,127.0.0.18:3002,127.0.0.8:3002,127.0.0.1:3009"
        );
        expect("127.0.0.8", "127.0.0.18")?;

        // What becomes of one name is nothing to the other.
        move_to(&["127.0.0.7"], &[])?;
        assert_eq!(
            changes(2)?,
            "127.0.0.7:3000-3001,127.0.0.18:3002,127.0.0.7:3002,127.0.0.1:3009"
        );
        expect("127.0.0.7", "127.0.0.18")?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn under_traffic_no_connection_is_lost() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let one = greeter(at("127.0.0.7", 0)?)?;
        let other = greeter(at("127.0.0.8", one.port())?)?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = tcp_proxy(&names, one.port())?;
        let open = connect(&proxy, CLIENT.0)?;
        assert_eq!(whereabouts(&open)?, one);
        for round in 1..=20 {
            let to = if round % 2 == 0 { one } else { other };
            names.set(NAME, &[&to.ip().to_string()])?;
            proxy.signal(Signal::HUP)?;
            let mut connections = 0;
            // As long as it takes the proxy to notice.
            while proxy
                .log()
                .iter()
                .filter(|line| line["message"] == CHANGED)
                .count()
                < round
            {
                connections += 1;
                let client = connect(&proxy, CLIENT.0)?;
                let at = whereabouts(&client)?;
                assert!(at == one || at == other, "{at}");
                client.expect_echo(b"hello")?;
                open.expect_echo(b"still here")?;
            }
            assert!(connections < 10_000, "it does not notice");
        }
        wait_until_at(&proxy, one)?;
        proxy.stop()?.expect_success()
    })
}

/// From one container to another, as it were: the answers come in by another interface.
#[test]
fn the_server_may_move_from_host_to_host() -> TestResult {
    isolated(|| {
        let names = NameServer::start()?;
        let (first, second) = (OtherHost::new(1)?, OtherHost::new(2)?);
        let before = tables()?;
        let mut port = 0;
        let mut addrs = Vec::new();
        for host in [&first, &second] {
            host.use_us_as_router()?;
            let addr = at(&host.v4(), port)?;
            addrs.push(host.inside(move || greeter(addr))?);
            port = addrs[0].port();
        }
        names.set(NAME, &[&first.v4()])?;
        let proxy = tcp_proxy(&names, port)?;
        let open = connect(&proxy, CLIENT.0)?;
        assert_eq!(whereabouts(&open)?, addrs[0]);
        move_to(&names, &proxy, addrs[1], 1)?;
        wait_until_at(&proxy, addrs[1])?;
        open.expect_echo(b"still where it was")?;
        let rules = run("ip rule")?;
        for rule in [
            "from 10.77.1.2 iif link1 ipproto tcp",
            "from 10.77.2.2 iif link2 ipproto tcp",
        ] {
            assert!(rules.contains(rule), "{rules}");
        }
        proxy.stop()?.expect_success()?;
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// Without `--setup-routes`, what is missing for the new address is said.
#[test]
fn the_routes_by_hand_are_checked_again() -> TestResult {
    isolated(|| {
        add_address("198.51.100.7")?;
        run(
            "ip rule add from 127.0.0.1/8 iif lo table 123 && ip route add local default dev lo table 123",
        )?;
        let names = NameServer::start()?;
        let old = greeter(at("127.0.0.7", 0)?)?;
        let new = greeter(at("198.51.100.7", old.port())?)?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .without_routes()
            .args(["-4", &format!("{NAME}:{}", old.port()), "-6", "[::1]:0"])
            .start()?;
        assert!(!says(&proxy.log(), MISSING));
        move_to(&names, &proxy, new, 1)?;
        obey(&proxy.wait_for_message(MISSING)?)?;
        wait_until_at(&proxy, new)?;
        proxy.stop()?.expect_success()
    })
}
