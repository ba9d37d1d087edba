//! `--takeover`: a restart in which somebody listens at every moment.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::FOREVER;
use crate::harness::{Balancer, Header, Proxy, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated};
use crate::routes::tables;

/// Connects, talks and leaves, again and again, until told to stop.
struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Result<(), String>>>,
}

impl Visitors {
    fn to(addr: SocketAddr, count: usize) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let visit = |n: usize| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || -> Result<(), String> {
                let mut port = 10_000;
                while !stop.load(Ordering::Relaxed) {
                    port = if port == 60_000 { 10_000 } else { port + 1 };
                    let visit = || {
                        let header = Header::of(&format!("192.0.2.{n}:{port}"))?;
                        let client = Balancer::default().connect_to(addr, &header)?;
                        client.expect_echo(b"hello")
                    };
                    visit().map_err(|error| format!("{error:?}"))?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let threads = (1..=count).map(visit).collect();
        Self {
            stop,
            served,
            threads,
        }
    }

    /// Some more have been served.
    fn wait(&self) -> TestResult {
        let before = self.served.load(Ordering::Relaxed);
        let ended = || self.threads.iter().any(|thread| thread.is_finished());
        wait_for(|| {
            Ok((ended() || self.served.load(Ordering::Relaxed) > before + 50).then_some(()))
        })
    }

    /// All of them were served, every time.
    fn leave(self) -> TestResult {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a visitor panicked")??;
        }
        Ok(())
    }
}

#[test]
fn no_connection_is_refused_or_lost_in_three_restarts() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        // As many listeners, more, and fewer.
        for counts in [
            ["1", "1", "1", "1"],
            ["2", "2", "2", "2"],
            ["2", "3", "1", "2"],
            ["1", "2", "1", "1"],
        ] {
            let builder = |listeners: &str| {
                Proxy::tcp(server)
                    .args(["--listeners", listeners, "--takeover"])
                    .args(FOREVER)
            };
            let mut proxy = builder(counts[0]).start()?;
            let addr = proxy.addr();
            let visitors = Visitors::to(addr, 4);
            for count in &counts[1..] {
                visitors.wait()?;
                let newcomer = builder(count).listen(&addr.to_string()).start()?;
                newcomer.wait_for_message("taken over; the other instance drains")?;
                let exit = proxy.exit()?;
                exit.expect_success()?;
                assert_eq!(exit.total("connections_cut")?, 0);
                proxy = newcomer;
            }
            visitors.wait()?;
            visitors.leave()?;
            let exit = proxy.stop()?;
            exit.expect_success()?;
        }
        Ok(())
    })
}

#[test]
fn open_connections_stay_with_the_old_one_and_routes_with_both() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let server = TcpServer::echo("127.0.0.1")?;
        let builder = || {
            Proxy::tcp(server)
                .args(["--takeover", "--listeners", "2"])
                .args(FOREVER)
        };
        let old = builder().start()?;
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        let newcomer = builder().listen(&old.addr().to_string()).start()?;
        old.wait_for_message("draining")?;
        client.expect_echo(b"still here")?;
        let other = Balancer::default().connect(&newcomer, &Header::of("192.0.2.2:4000")?)?;
        other.expect_echo(b"hello")?;
        drop(client);
        old.exit()?.expect_success()?;
        other.expect_echo(b"still here")?;
        drop(other);
        let exit = newcomer.stop()?;
        exit.expect_success()?;
        assert_eq!(exit.total("connections")?, 1);
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// Whoever watches them goes on at the same address, and sees the newcomer alone.
#[test]
fn the_admin_endpoint_goes_along_if_both_have_it_at_one_address() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let builder = |admin: &str| {
            Proxy::tcp(server)
                .args(["--takeover", "--admin", admin])
                .args(FOREVER)
        };
        let old = builder("127.0.0.1:0").start()?;
        let admin = old.admin()?;
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        // Somebody who was let in before.
        let scraper = admin.connect()?;
        let listen = old.addr().to_string();
        let newcomer = builder(&admin.addr().to_string()).listen(&listen).start()?;
        old.wait_for_message("draining")?;
        assert_eq!(newcomer.admin()?.addr(), admin.addr());
        for _ in 0..20 {
            let answer = admin.get("/readyz")?;
            assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
        }
        let metrics = admin.get("/metrics")?.body;
        assert!(
            metrics.contains("\nglommproxy_connections_total 0\n"),
            "{metrics}"
        );
        client.expect_echo(b"still here")?;
        drop(scraper);

        // One that has it elsewhere leaves it alone.
        let last = builder("127.0.0.1:0").listen(&listen).start()?;
        newcomer.wait_for_message("another instance has taken over: stopping")?;
        assert_eq!(last.admin()?.get("/readyz")?.status, 200);
        drop(client);
        old.exit()?.expect_success()?;
        newcomer.exit()?.expect_success()?;
        last.stop()?.expect_success()
    })
}

/// It could not tell whose it is.
#[test]
fn the_admin_endpoint_of_an_instance_on_other_ports_stays_where_it_is() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let other = Proxy::tcp(server)
            .args(["--admin", "127.0.0.1:0"])
            .start()?;
        let old = Proxy::tcp(server).start()?;
        let exit = Proxy::tcp(server)
            .args(["--takeover", "--admin", &other.admin()?.addr().to_string()])
            .listen(&old.addr().to_string())
            .start_in_vain()?;
        exit.expect_failure(&["cannot serve the admin endpoint", "Address already in use"])?;
        assert_eq!(other.admin()?.get("/readyz")?.status, 200);
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")
    })
}

#[test]
fn with_nobody_there_it_just_starts() -> TestResult {
    isolated(|| {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--takeover"])
            .start()?;
        proxy.wait_for_message("no other instance of this user is there: nothing to take over")?;
        proxy.stop()?.expect_success()
    })
}

/// It has got the sockets, but cannot listen on all it was told to.
#[test]
fn the_old_one_goes_on_if_the_newcomer_fails() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let builder = || Proxy::tcp(server).args(["--listeners", "2"]);
        let old = builder().start()?;
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let both = format!("{},{}", old.addr(), taken.local_addr()?);
        let exit = builder()
            .args(["--takeover"])
            .listen(&both)
            .start_in_vain()?;
        exit.expect_failure(&[
            &taken.local_addr()?.to_string(),
            "another process has the port",
        ])?;
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        // And it can be taken over still.
        let newcomer = builder()
            .args(["--takeover"])
            .listen(&old.addr().to_string())
            .start()?;
        old.exit()?.expect_success()?;
        newcomer.stop()?.expect_success()
    })
}

#[test]
fn an_instance_on_other_ports_is_left_alone() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let other = Proxy::tcp(server).start()?;
        let old = Proxy::tcp(server).start()?;
        let newcomer = Proxy::tcp(server)
            .args(["--takeover"])
            .listen(&old.addr().to_string())
            .start()?;
        old.exit()?.expect_success()?;
        let client = Balancer::default().connect(&other, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        newcomer.stop()?.expect_success()?;
        other.stop()?.expect_success()
    })
}

/// As in two containers that share a network: neither sees the other's process.
#[test]
fn one_in_another_pid_namespace_is_taken_over() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let old = Proxy::tcp(server).start()?;
        let newcomer = Proxy::tcp(server)
            .args(["--takeover"])
            .under(["unshare", "-p", "-f", "--mount-proc", "--kill-child"])
            .listen(&old.addr().to_string())
            .start()?;
        newcomer.wait_for_message("taken over; the other instance drains")?;
        old.exit()?.expect_success()?;
        let client = Balancer::default().connect(&newcomer, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")
    })
}

/// Whoever was served there hears nothing more, so that somebody has to.
#[test]
fn what_the_newcomer_does_not_listen_on_is_told() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let old = Proxy::tcp(server)
            .args(["-p", "both", "--listeners", "2"])
            .start()?;
        let addr = old.addr();
        let newcomer = Proxy::tcp(server)
            .args(["--takeover"])
            .listen(&addr.to_string())
            .start()?;
        let warning = newcomer.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("the other instance also listened there")
        })?;
        assert_eq!(warning["sockets"], format!("udp {addr}"));
        old.exit()?.expect_success()?;
        newcomer.stop()?.expect_success()
    })
}

/// Its TCP listeners are closed by then, its UDP sockets are not.
#[test]
fn one_that_drains_alone_can_be_relieved() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        let builder = || {
            Proxy::tcp(server)
                .args(["-p", "both", "--listeners", "2"])
                .args(FOREVER)
        };
        let old = builder().start()?;
        let client = Balancer::default().connect(&old, &Header::of("192.0.2.1:4000")?)?;
        client.expect_echo(b"hello")?;
        old.signal(Signal::TERM)?;
        old.wait_for_message("draining")?;
        // Its UDP sockets keep others from the port.
        UdpSocket::bind(old.addr())
            .err()
            .ok_or("the port is free")?;
        wait_for(|| Ok(std::net::TcpStream::connect(old.addr()).err()))?;
        let newcomer = builder()
            .args(["--takeover"])
            .listen(&old.addr().to_string())
            .start()?;
        old.wait_for_message("another instance has taken over")?;
        client.expect_echo(b"still here")?;
        let other = Balancer::default().connect(&newcomer, &Header::of("192.0.2.2:4000")?)?;
        other.expect_echo(b"hello")?;
        drop((client, other));
        old.exit()?.expect_success()?;
        newcomer.stop()?.expect_success()
    })
}
