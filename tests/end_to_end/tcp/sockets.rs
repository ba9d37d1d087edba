//! The options of the proxy's sockets, asked of the kernel.

use std::fs;
use std::time::Duration;

use socket2::Socket;

use super::CLIENT;
use crate::harness::{Balancer, Header, Proxy, TcpServer, open};
use crate::namespace::{TestResult, add_address, isolated, run};

const CLIENT_V6: &str = "[2001:db8::1]:4000";

#[test]
fn small_messages_are_not_delayed_and_vanished_peers_are_noticed_on_both_sides() -> TestResult {
    isolated(|| {
        add_address("192.0.2.10")?;
        add_address("2001:db8::10")?;
        // Nobody vanishes on loopback.
        for (server_v4, server_v6, probed) in [
            ("192.0.2.10", "2001:db8::10", true),
            ("127.0.0.1", "::1", false),
        ] {
            let (server_v4, server_v6) = (TcpServer::bind(server_v4)?, TcpServer::bind(server_v6)?);
            let proxy = Proxy::tcp(server_v4.addr()?)
                .and(server_v6.addr()?)
                .listen("[::]:0")
                .args(["--setup-routes"])
                .start()?;
            for (server, listener, client) in [
                (&server_v4, "127.0.0.1", CLIENT),
                (&server_v6, "::1", CLIENT_V6),
            ] {
                let addr = proxy.addr_at(listener)?;
                let downstream = Balancer::default().connect_to(addr, &Header::of(client)?)?;
                let session = server.accept()?;
                downstream.expect_talk(&session)?;
                for (end, probed) in [(&downstream, true), (&session, probed)] {
                    let socket = proxy.socket_to(end)?;
                    let end = socket.peer_addr()?.as_socket();
                    assert!(socket.tcp_nodelay()?, "{end:?}");
                    assert_eq!(socket.keepalive()?, probed, "{end:?}");
                    // It would end connections to those who pause as well.
                    assert_eq!(socket.tcp_user_timeout()?, None, "{end:?}");
                    if probed {
                        // As in Go.
                        let interval = Duration::from_secs(15);
                        assert_eq!(socket.tcp_keepalive_time()?, interval, "{end:?}");
                        assert_eq!(socket.tcp_keepalive_interval()?, interval, "{end:?}");
                        assert_eq!(socket.tcp_keepalive_retries()?, 9, "{end:?}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// The server's sockets take the mark of the packets that come for them, if told so (tcp_fwmark_accept).
#[test]
fn packets_to_the_server_carry_the_mark() -> TestResult {
    isolated(|| {
        run("echo 1 > /proc/sys/net/ipv4/tcp_fwmark_accept")?;
        let (server, server_v6) = (TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?);
        for (args, mark) in [(&["--mark", "4000000042"][..], 4_000_000_042), (&[], 0)] {
            let proxy = Proxy::tcp(server.addr()?)
                .and(server_v6.addr()?)
                .args(args)
                .start()?;
            for (server, client) in [(&server, CLIENT), (&server_v6, CLIENT_V6)] {
                let (downstream, session) = open(&proxy, server, client)?;
                downstream.expect_talk(&session)?;
                assert_eq!(socket2::SockRef::from(session.stream()).mark()?, mark);
                // The balancer's packets are its own.
                assert_eq!(proxy.socket_to(&downstream)?.mark()?, 0);
                // Our own address is no exception.
                session.reset()?;
                downstream.expect_reset()?;
            }
            let downstream = Balancer::default().connect(&proxy, &Header::v2_local()?)?;
            let session = server.accept()?;
            downstream.expect_talk(&session)?;
            assert_eq!(socket2::SockRef::from(session.stream()).mark()?, mark);
        }
        Ok(())
    })
}

const SYSCTL: &str = "/proc/sys/net/ipv4";

/// Filled up with zeros by the kernel.
fn congestion_control(socket: &Socket) -> TestResult<String> {
    let name = String::from_utf8(socket.tcp_congestion()?)?;
    Ok(name.trim_end_matches('\0').to_owned())
}

/// Pacing is for networks: what stays on this host does without, whatever the host's default is.
#[test]
fn nothing_is_paced_over_loopback_and_other_paths_keep_the_hosts_congestion_control() -> TestResult
{
    isolated(|| {
        run("ip addr add 192.0.2.10 dev lo")?;
        let (server, elsewhere) = (
            TcpServer::bind("127.0.0.1")?,
            TcpServer::bind("192.0.2.10")?,
        );
        let allowed = fs::read_to_string(format!("{SYSCTL}/tcp_allowed_congestion_control"))?;
        // Others than these two are not allowed everywhere: where none is, this tells that these are left alone.
        for default in allowed.split_whitespace() {
            fs::write(format!("{SYSCTL}/tcp_congestion_control"), default)?;
            let unpaced = if default == "cubic" { default } else { "reno" };
            for (server, listen, expected) in [
                (&server, "127.0.0.1:0", [unpaced, unpaced]),
                (&server, "192.0.2.10:0", [default, unpaced]),
                (&server, "0.0.0.0:0", [default, unpaced]),
                (&elsewhere, "127.0.0.1:0", [unpaced, default]),
            ] {
                let proxy = Proxy::tcp(server.addr()?)
                    .listen(listen)
                    .args(["--setup-routes"])
                    .start()?;
                let (downstream, session) = open(&proxy, server, CLIENT)?;
                let names =
                    [&downstream, &session].map(|end| congestion_control(&proxy.socket_to(end)?));
                let [downstream_name, upstream_name] = names;
                assert_eq!(
                    [downstream_name?, upstream_name?],
                    expected,
                    "from {listen}, default {default}"
                );
                downstream.expect_talk(&session)?;
            }
        }
        Ok(())
    })
}
