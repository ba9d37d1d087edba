//! SIGTERM and SIGINT: the last connections may finish.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;

use rustix::process::Signal;

use super::FOREVER;
use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, raise_descriptor_limit, wait_for,
};
use crate::namespace::{TestResult, isolated, run};
use crate::routes::tables;

fn connect(proxy: &Proxy, client: &str) -> TestResult<Connection> {
    let connection = Balancer::default().connect(proxy, &Header::of(client)?)?;
    connection.expect_echo(b"hello")?;
    Ok(connection)
}

/// Whether new connections are refused. Some if so, for `wait_for`.
fn refused(proxy: &Proxy) -> TestResult<Option<()>> {
    match TcpStream::connect(proxy.addr()) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Some(())),
        // It came when the listener was being closed.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(None),
    }
}

#[test]
fn open_connections_go_on_new_ones_are_refused_and_the_last_one_ends_it() -> TestResult {
    isolated(|| {
        let before = tables()?;
        for listeners in ["1", "3"] {
            for signal in [Signal::TERM, Signal::INT] {
                let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
                    .args(["--listeners", listeners])
                    .args(FOREVER)
                    .start()?;
                let clients = (1..=8).map(|n| connect(&proxy, &format!("192.0.2.{n}:4000")));
                let clients = clients.collect::<TestResult<Vec<_>>>()?;
                proxy.signal(signal)?;
                proxy.wait_for_message("stopping")?;
                wait_for(|| refused(&proxy))?;
                for client in &clients {
                    client.expect_echo(b"still here")?;
                }
                // The server's answers need them.
                assert_ne!(tables()?, before);
                for client in clients {
                    client.finish()?;
                    client.expect_end()?;
                }
                let exit = proxy.exit()?;
                exit.expect_success()?;
                // Beside those that only asked whether they are refused.
                assert!(exit.total("connections")? >= 8);
                assert_eq!(exit.total("connections_cut")?, 0);
                assert_eq!(tables()?, before);
            }
        }
        Ok(())
    })
}

/// Whoever asks for new clients' sake is to send them elsewhere, whoever asks for its life's sake is not to end it.
#[test]
fn meanwhile_it_is_alive_but_not_ready() -> TestResult {
    isolated(|| {
        for listeners in ["1", "3"] {
            let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
                .args(["--listeners", listeners, "--admin", "127.0.0.1:0"])
                .args(FOREVER)
                .start()?;
            let admin = proxy.admin()?;
            let client = connect(&proxy, "192.0.2.1:4000")?;
            assert_eq!(admin.get("/readyz")?.status, 200);
            proxy.signal(Signal::TERM)?;
            proxy.wait_for_message("draining")?;
            wait_for(|| refused(&proxy))?;
            for path in ["/readyz", "/healthz"] {
                let answer = admin.get(path)?;
                assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
            }
            let alive = admin.get("/livez")?;
            assert_eq!((alive.status, alive.body.as_str()), (200, "alive\n"));
            client.expect_echo(b"still here")?;
            client.finish()?;
            client.expect_end()?;
            let exit = proxy.exit()?;
            exit.expect_success()?;
            assert_eq!(exit.total("connections_cut")?, 0);
        }
        Ok(())
    })
}

#[test]
fn what_is_left_when_the_time_is_over_is_cut_and_counted() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--drain-timeout", "0.3", "--listeners", "2"])
            .start()?;
        let clients = [
            connect(&proxy, "192.0.2.1:1")?,
            connect(&proxy, "192.0.2.2:2")?,
        ];
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections_cut")?, 2);
        assert!(
            exit.log
                .iter()
                .any(|line| line["message"] == "--drain-timeout is over, what is left is cut")
        );
        for client in clients {
            client.expect_over()?;
        }
        Ok(())
    })
}

#[test]
fn a_second_signal_ends_it_at_once() -> TestResult {
    isolated(|| {
        for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
            let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
                .args(FOREVER)
                .start()?;
            let client = connect(&proxy, "192.0.2.1:1")?;
            proxy.signal(first)?;
            proxy.wait_for_message("stopping")?;
            client.expect_echo(b"still here")?;
            proxy.signal(second)?;
            let exit = proxy.exit()?;
            exit.expect_success()?;
            assert_eq!(exit.total("connections_cut")?, 1);
            client.expect_over()?;
        }
        Ok(())
    })
}

#[test]
fn without_a_drain_timeout_it_ends_at_once() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--drain-timeout", "0"])
            .start()?;
        let client = connect(&proxy, "192.0.2.1:1")?;
        let exit = proxy.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections_cut")?, 1);
        client.expect_over()
    })
}

/// The kernel has answered them: they would be reset with the listening socket.
#[test]
fn connections_that_wait_to_be_accepted_are_served() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--listeners", "2"])
            .args(FOREVER)
            .start()?;
        proxy.signal(Signal::STOP)?;
        let balancer = Balancer::default();
        let clients = (0..200).map(|n| {
            let header = Header::of(&format!("192.0.2.1:{}", 10_000 + n))?;
            balancer.connect(&proxy, &header)
        });
        let clients = clients.collect::<TestResult<Vec<_>>>()?;
        proxy.signal(Signal::TERM)?;
        proxy.signal(Signal::CONT)?;
        for client in &clients {
            client.expect_echo(b"hello")?;
        }
        drop(clients);
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections")?, 200);
        Ok(())
    })
}

#[test]
fn lists_are_reloaded_meanwhile() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let list = folder.path().join("denied.txt");
        fs::write(&list, "")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--listeners", "3", "--denied-clients"])
            .args([&list])
            .args(FOREVER)
            .start()?;
        let (first, second) = (
            connect(&proxy, "192.0.2.1:1")?,
            connect(&proxy, "192.0.2.2:2")?,
        );
        proxy.signal(Signal::TERM)?;
        proxy.wait_for_message("stopping")?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message("reloading")?;
        fs::write(&list, "192.0.2.1")?;
        first.expect_reset()?;
        second.expect_echo(b"still here")?;
        // Now no shard is left that has a connection, but for one.
        fs::write(&list, "192.0.2.0/24")?;
        second.expect_reset()?;
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections_cut")?, 0);
        assert_eq!(exit.total("ended_denied")?, 2);
        Ok(())
    })
}

/// There is no place for them, and nobody else to serve them.
#[test]
fn connections_beyond_the_most_there_may_be_are_reset() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--max-connections", "1"])
            .args(FOREVER)
            .start()?;
        let client = connect(&proxy, "192.0.2.1:1")?;
        let waiting = Balancer::default().connect(&proxy, &Header::of("192.0.2.2:2")?)?;
        proxy.signal(Signal::TERM)?;
        waiting.expect_reset()?;
        client.expect_echo(b"still here")?;
        drop(client);
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections")?, 1);
        Ok(())
    })
}

/// So many that the end is told before all of them can have been accepted.
#[test]
fn a_whole_backlog_is_accepted_before_the_end() -> TestResult {
    const COUNT: u64 = 3000;
    isolated(|| {
        raise_descriptor_limit(2 * COUNT)?;
        run("echo 4096 > /proc/sys/net/core/somaxconn")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--listeners", "1", "--header-timeout", "3600"])
            .args(FOREVER)
            .start()?;
        proxy.signal(Signal::STOP)?;
        let clients = (0..COUNT).map(|_| TcpStream::connect(proxy.addr()));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        proxy.signal(Signal::TERM)?;
        proxy.signal(Signal::CONT)?;
        proxy.wait_for_message("draining")?;
        wait_for(|| refused(&proxy))?;
        drop(clients);
        let exit = proxy.exit()?;
        exit.expect_success()?;
        assert!(exit.total("connections")? >= COUNT);
        assert_eq!(exit.total("connections_cut")?, 0);
        Ok(())
    })
}
