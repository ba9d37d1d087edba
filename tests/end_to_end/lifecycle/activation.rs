//! Listening sockets from systemd (sd_listen_fds(3)).

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, Socket, Type};

use super::FOREVER;
use crate::harness::{Balancer, Header, Proxy, ProxyBuilder, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, isolated};

/// A proxy that is started with these sockets, as systemd does.
fn activated(builder: ProxyBuilder, sockets: &[&dyn AsFd]) -> TestResult<ProxyBuilder> {
    let mut script = String::new();
    for (at, socket) in sockets.iter().enumerate() {
        fcntl_setfd(socket, FdFlags::empty())?;
        // High first, so that none is overwritten before it is moved.
        script.push_str(&format!(
            "exec {}<&{}; ",
            100 + at,
            socket.as_fd().as_raw_fd()
        ));
    }
    for at in 0..sockets.len() {
        script.push_str(&format!("exec {}<&{}; ", 3 + at, 100 + at));
    }
    let names = vec!["game"; sockets.len()].join(":");
    script.push_str(&format!(
        "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}; ",
        sockets.len()
    ));
    script.push_str("exec \"$@\"");
    Ok(builder.under(["bash", "-c", &script, "bash"]))
}

/// UDP sockets of one port.
fn group(count: usize) -> TestResult<Vec<Socket>> {
    let mut addr = "127.0.0.1:0".parse::<std::net::SocketAddr>()?;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        addr = socket.local_addr()?.as_socket().ok_or("no address")?;
        sockets.push(socket);
    }
    Ok(sockets)
}

#[test]
fn without_an_address_of_its_own_it_listens_on_the_sockets() -> TestResult {
    isolated(|| {
        let (tcp, udp) = (TcpServer::echo("127.0.0.1")?, UdpServer::echo("127.0.0.1")?);
        for listeners in ["1", "3"] {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let addr = listener.local_addr()?;
            let builder = Proxy::builder()
                .bare()
                .args(["--log-format", "json", "--setup-routes"]);
            let builder = builder
                .args(["-p", "tcp", "--listeners", listeners])
                .and(tcp);
            let proxy = activated(builder, &[&listener])?.start()?;
            assert_eq!(proxy.addr(), addr);
            for n in 0..20 {
                let header = Header::of(&format!("192.0.2.1:{}", 4000 + n))?;
                Balancer::default()
                    .connect(&proxy, &header)?
                    .expect_echo(b"hello")?;
            }
            proxy.stop()?.expect_success()?;

            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let builder = Proxy::builder()
                .bare()
                .args(["--log-format", "json", "--setup-routes"]);
            let builder = builder
                .args(["-p", "udp", "--listeners", listeners])
                .and(udp);
            let proxy = activated(builder, &[&socket])?.start()?;
            let balancer = UdpBalancer::bind("127.0.0.1")?;
            for n in 0..20 {
                let client = format!("192.0.2.1:{}", 4000 + n);
                let header = Header::v2_udp(&client, "203.0.113.1:443")?;
                balancer.send(&proxy, &header, b"hello")?;
                balancer.expect(format!("{client} hello").as_bytes())?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn connections_wait_for_the_next_process_and_addresses_may_be_mixed() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let own = TcpListener::bind("127.0.0.1:0")?;
        let own_addr = own.local_addr()?;
        drop(own);
        let start = || {
            let builder = Proxy::tcp(server).args(["--listeners", "2"]).args(FOREVER);
            activated(builder.listen(&format!("{addr},{own_addr}")), &[&listener])?.start()
        };
        let proxy = start()?;
        for addr in [addr, own_addr] {
            let client = Balancer::default().connect_to(addr, &Header::of("192.0.2.1:4000")?)?;
            client.expect_echo(b"hello")?;
        }
        proxy.stop()?.expect_success()?;
        // Nobody accepts it, but it is not refused.
        let client = Balancer::default().connect_to(addr, &Header::of("192.0.2.2:4000")?)?;
        let proxy = start()?;
        client.expect_echo(b"hello")?;
        drop(client);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_udp_socket_for_each_listener_is_steered_as_its_own() -> TestResult {
    isolated(|| {
        let server = UdpServer::echo("127.0.0.1")?;
        let sockets = group(2)?;
        let passed: Vec<&dyn AsFd> = sockets.iter().map(|socket| socket as &dyn AsFd).collect();
        let addr = sockets[0].local_addr()?.as_socket().ok_or("no address")?;
        let builder = Proxy::udp(server).listen(&addr.to_string());
        let builder = builder.args(["--listeners", "2", "-v", "2"]);
        let proxy = activated(builder, &passed)?.start()?;
        let balancers = (0..4).map(|_| UdpBalancer::bind("127.0.0.1"));
        let balancers = balancers.collect::<TestResult<Vec<_>>>()?;
        for n in 0..20 {
            let client = format!("192.0.2.1:{}", 4000 + n);
            let header = Header::v2_udp(&client, "203.0.113.1:443")?;
            for balancer in &balancers {
                balancer.send(&proxy, &header, b"hello")?;
                balancer.expect(format!("{client} hello").as_bytes())?;
            }
        }
        let exit = proxy.stop()?;
        exit.expect_success()?;
        // One for each client, whichever of its balancers it came through, and some for each listener.
        assert_eq!(exit.total("flows")?, 20);
        for listener in 0..2 {
            let opened = |line: &&serde_json::Value| {
                line["message"] == "flow opened" && line["listener"] == listener
            };
            assert!(exit.log.iter().filter(opened).count() > 0, "{listener}");
        }
        Ok(())
    })
}

/// The program in the kernel that steers them outlives the process, as they do.
#[test]
fn udp_sockets_are_steered_as_the_process_wants_that_has_them_now() -> TestResult {
    isolated(|| {
        let server = UdpServer::bind("127.0.0.1")?;
        let sockets = group(4)?;
        let passed: Vec<&dyn AsFd> = sockets.iter().map(|socket| socket as &dyn AsFd).collect();
        let addr = sockets[0].local_addr()?.as_socket().ok_or("no address")?;
        for format in ["v2", "v2-first", "v2"] {
            let builder = Proxy::udp(server.addr()?).listen(&addr.to_string());
            let builder = builder.args(["--listeners", "4", "--udp-header", format]);
            let proxy = activated(builder, &passed)?.start()?;
            for n in 1..=16 {
                let client = format!("192.0.2.{n}:4000");
                let header = Header::v2_udp(&client, "203.0.113.1:443")?;
                let balancer = UdpBalancer::bind("127.0.0.1")?;
                balancer.send(&proxy, &header, b"first")?;
                server.expect(&client, b"first")?;
                if format == "v2-first" {
                    balancer.send(&proxy, &Header::none(), b"second")?;
                    server.expect(&client, b"second")?;
                } else {
                    let another = UdpBalancer::bind("127.0.0.1")?;
                    another.send(&proxy, &header, b"second")?;
                    server.expect(&client, b"second")?;
                }
            }
            let exit = proxy.stop()?;
            assert_eq!(exit.total("flows")?, 16, "{format}");
            exit.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn sockets_that_cannot_be_used_end_the_start() -> TestResult {
    isolated(|| {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let addr = tcp.local_addr()?.to_string();
        let folder = tempfile::tempdir()?;
        let unix = UnixListener::bind(folder.path().join("socket"))?;
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let vain = |builder: ProxyBuilder, socket: &dyn AsFd| {
            activated(builder, &[socket])?.start_in_vain()
        };

        let exit = vain(Proxy::builder(), &tcp)?;
        exit.expect_failure(&[
            "systemd's socket \"game\" is tcp",
            &addr,
            "name the address with -l",
        ])?;
        let exit = vain(Proxy::builder().listen(&addr).args(["-p", "udp"]), &tcp)?;
        exit.expect_failure(&["systemd's socket \"game\" is tcp", &addr])?;
        let exit = vain(Proxy::builder(), &unix)?;
        exit.expect_failure(&["systemd's socket \"game\" is no internet socket"])?;
        let exit = vain(Proxy::builder(), &silent)?;
        exit.expect_failure(&[
            "systemd's socket \"game\" (0.0.0.0:0) neither accepts TCP connections",
        ])?;
        let exit = vain(Proxy::builder().listen(&addr).args(["--takeover"]), &tcp)?;
        exit.expect_failure(&["--takeover is for sockets of another instance"])?;
        let builder = Proxy::builder().under([
            "bash",
            "-c",
            "export LISTEN_PID=$$ LISTEN_FDS=x; exec \"$@\"",
            "bash",
        ]);
        builder.start_in_vain()?.expect_failure(&["LISTEN_FDS"])
    })
}

/// Those of another process, which it may have inherited the variables of.
#[test]
fn sockets_for_another_process_are_none() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .env("LISTEN_PID", "1")
            .env("LISTEN_FDS", "3")
            .start()?;
        proxy.stop()?.expect_success()
    })
}
