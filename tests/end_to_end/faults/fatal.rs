//! A panic that is nobody's own ends the process, with one line and exit code 1: a supervisor starts it again, and nobody
//! is left with half a service.

use super::ADMIN;
use super::strace::{STRACE, Strace};
use crate::harness::{Balancer, Exit, Header, Proxy, TcpServer, UdpBalancer, UdpServer};
use crate::namespace::TestResult;
use crate::tool::isolated_with;

/// A proxy of all threads there are.
fn proxy(access_log: &std::path::Path) -> TestResult<Proxy> {
    let server = TcpServer::echo("127.0.0.1")?;
    Proxy::builder()
        .and(server)
        .args(["-p", "both", "--admin", "127.0.0.1:0", "--listeners", "2"])
        .args(["--access-log".as_ref(), access_log.as_os_str()])
        .start()
}

/// Tampers with a thread, does what has it make the call, and waits for the end.
fn end(thread: &str, what: &str, provoke: impl FnOnce(&Proxy) -> TestResult) -> TestResult<Exit> {
    let folder = tempfile::tempdir()?;
    let proxy = proxy(&folder.path().join("access.log"))?;
    let strace = Strace::inject(&proxy, thread, what)?;
    // What it is asked need not be answered any more.
    let _ = provoke(&proxy);
    let exit = proxy.exit()?;
    drop(strace);
    Ok(exit)
}

fn connect(proxy: &Proxy) -> TestResult {
    let header = Header::of("192.0.2.1:4000")?.then(b"ping");
    let connection = Balancer::default().connect(proxy, &header)?;
    connection.expect(b"ping")?;
    connection.finish()?;
    connection.expect_end()
}

fn send(proxy: &Proxy) -> TestResult {
    let header = Header::v2_udp("192.0.2.1:4000", "203.0.113.1:443")?;
    let balancers: Vec<_> = (0..8)
        .map(|_| UdpBalancer::bind("127.0.0.1"))
        .collect::<Result<_, _>>()?;
    for balancer in &balancers {
        balancer.send(proxy, &header, b"ping")?;
    }
    Ok(())
}

#[test]
fn in_a_shards_executor() -> TestResult {
    isolated_with(&[STRACE], || {
        let exit = end("shard-1", "io_uring_enter:error=EIO", |proxy| {
            connect(proxy)
        })?;
        exit.expect_failure(&[
            "thread shard-1-",
            "panicked at ",
            "this is a bug, please report it",
        ])
    })
}

#[test]
fn in_the_udp_task() -> TestResult {
    isolated_with(&[STRACE], || {
        let server = UdpServer::echo("127.0.0.1")?;
        let proxy = Proxy::udp(server).args(ADMIN).start()?;
        let strace = Strace::inject(&proxy, "shard-0", "recvmmsg:retval=1000:when=1")?;
        send(&proxy)?;
        let exit = proxy.exit()?;
        drop(strace);
        exit.expect_failure(&["thread shard-0-", "panicked at src/", "out of bounds"])
    })
}

/// No panic, but as bad.
#[test]
fn a_shard_that_cannot_wait_ends_it_too() -> TestResult {
    isolated_with(&[STRACE], || {
        let call = "epoll_wait,epoll_pwait,epoll_pwait2";
        let exit = end("shard-1", &format!("{call}:error=EBADF"), |proxy| {
            (0..64).try_for_each(|_| connect(proxy))
        })?;
        exit.expect_failure(&["shard 1 has ended: cannot wait for events: "])
    })
}

#[test]
fn in_the_coordinator() -> TestResult {
    isolated_with(&[STRACE], || {
        let exit = end("", "io_uring_enter:error=EIO", |_| Ok(()))?;
        exit.expect_failure(&["panicked at ", "this is a bug, please report it"])
    })
}

#[test]
fn in_the_admin_thread() -> TestResult {
    isolated_with(&[STRACE], || {
        let call = "epoll_wait,epoll_pwait,epoll_pwait2";
        let exit = end("admin", &format!("{call}:error=EBADF"), |proxy| {
            proxy.admin()?.get("/livez").map(|_| ())
        })?;
        exit.expect_failure(&[
            "thread admin panicked at ",
            "this is a bug, please report it",
        ])
    })
}

#[test]
fn in_the_access_logs_thread() -> TestResult {
    isolated_with(&[STRACE], || {
        let exit = end("access-log", "write:retval=1000000", connect)?;
        exit.expect_failure(&[
            "thread access-log panicked at ",
            "this is a bug, please report it",
        ])
    })
}

/// Nobody would see the log any more.
#[test]
fn in_the_logs_thread() -> TestResult {
    isolated_with(&[STRACE], || {
        let exit = end("tracing-appende", "write:retval=1000000", |proxy| {
            proxy.signal(rustix::process::Signal::HUP)
        })?;
        exit.expect_failure(&[
            "thread tracing-appender panicked at ",
            "this is a bug, please report it",
        ])
    })
}
