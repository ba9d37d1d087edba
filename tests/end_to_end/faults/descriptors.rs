//! No descriptors left: the proxy says so, and serves on with what it has.

use std::fs;
use std::io::Write;
use std::thread;

use super::strace::{STRACE, Strace};
use super::{ADMIN, count, expect_tcp};
use crate::harness::{
    Balancer, Connection, Header, Proxy, TcpServer, UdpBalancer, UdpServer, wait_for,
};
use crate::namespace::TestResult;
use crate::tool::isolated_with;

/// Enough to start, and for some connections: 120 are for the process itself.
const FEW: [&str; 2] = ["prlimit", "--nofile=160:160"];
/// On a host of any size.
const LISTENERS: [&str; 2] = ["--listeners", "2"];

const OPEN: &str = "glommproxy_connections_open";
const PAUSES: &str = "glommproxy_accept_pauses_total{reason=\"exhausted\"}";

#[test]
fn accepting_pauses_and_goes_on() -> TestResult {
    isolated_with(&[STRACE], || {
        let list = tempfile::NamedTempFile::new()?;
        fs::write(list.path(), "127.0.0.0/8\n")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .under(FEW)
            .args(LISTENERS)
            .args(ADMIN)
            .args(["--allowed-subnets".as_ref(), list.path().as_os_str()])
            .start()?;
        let admin = proxy.admin()?;
        expect_tcp(&proxy)?;
        let crowd: Vec<_> = (0..120)
            .map(|n| {
                let header = Header::of(&format!("192.0.2.1:{}", 4000 + n))?.then(b"ping");
                Balancer::default().connect(&proxy, &header)
            })
            .collect::<TestResult<_>>()?;
        let warning = proxy.wait_for_message("cannot accept connections, pausing")?;
        assert_eq!(warning["level"], "WARN");
        let error = warning["error"].as_str().unwrap_or_default();
        assert!(error.contains("Too many open files"), "{error}");

        // What is not for connections still works, as often as one likes.
        let pauses = || -> TestResult<u64> { Ok(count(&admin.get("/metrics")?.body, PAUSES)) };
        let strace = Strace::watch(&proxy, "shard-0", "accept4,dup,fcntl")?;
        let before = pauses()?;
        wait_for(|| Ok((pauses()? >= before + 5).then_some(())))?;
        let paused = pauses()? - before;
        let asked = strace.count("(") as u64;
        drop(strace);
        // One look, and what the clock takes while it sleeps in the ring.
        assert!(
            asked <= 8 * (paused + 2),
            "{asked} calls in {paused} pauses"
        );
        fs::write(list.path(), "127.0.0.0/8\n192.0.2.0/24\n")?;
        proxy.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("allowed subnets reloaded") || line["subnets"] == 2
        })?;

        // Said once, however often it looked.
        let lines = proxy.log();
        let said = lines.iter().filter(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("cannot accept connections")
        });
        assert_eq!(said.count(), 1);
        for connection in crowd {
            connection.reset()?;
        }
        expect_tcp(&proxy)?;
        proxy.wait_for_message("accepting connections again")?;
        proxy.stop()?.expect_success()
    })
}

/// Nobody is accepted for whose connection to the server there would be no descriptor: not even while listeners on all
/// CPUs accept at once.
#[test]
fn whoever_waits_is_served_as_others_end() -> TestResult {
    isolated_with(&[], || {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .under(["prlimit", "--nofile=200:200"])
            .args(["--listeners", "4"])
            .args(ADMIN)
            .start()?;
        let admin = proxy.admin()?;
        let crowd: Vec<_> = (0..240)
            .map(|n| {
                let header = Header::of(&format!("192.0.2.1:{}", 4000 + n))?.then(b"ping");
                Balancer::default().connect(&proxy, &header)
            })
            .collect::<TestResult<_>>()?;
        proxy.wait_for_message("cannot accept connections, pausing")?;
        let pauses = || -> TestResult<u64> { Ok(count(&admin.get("/metrics")?.body, PAUSES)) };
        let before = pauses()?;
        wait_for(|| Ok((pauses()? >= before + 5).then_some(())))?;
        // Each ends when it has been served, in the order in which the listeners serve them.
        let served = |connection: Connection| -> TestResult {
            connection.expect(b"ping")?;
            connection.reset()
        };
        thread::scope(|scope| {
            let crowd: Vec<_> = crowd
                .into_iter()
                .map(|connection| {
                    scope.spawn(move || served(connection).map_err(|it| format!("{it:?}")))
                })
                .collect();
            for client in crowd {
                client.join().map_err(|_| "a client panicked")??;
            }
            TestResult::Ok(())
        })?;
        let text = admin.get("/metrics")?.body;
        let lost = "glommproxy_dropped_total{protocol=\"tcp\",reason=\"dial\"}";
        assert_eq!(count(&text, lost), 0);
        proxy.stop()?.expect_success()
    })
}

/// Pipes that are kept for the next bulk are given up for whoever waits.
#[test]
fn bulk_leaves_room_for_as_many_as_before() -> TestResult {
    isolated_with(&[], || {
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .under(FEW)
            .args(["--listeners", "1"])
            .args(ADMIN)
            .start()?;
        let before = room(&proxy)?;
        let bulk = vec![7; 4 << 20];
        let crowd: Vec<_> = (0..8)
            .map(|n| {
                let header = Header::of(&format!("192.0.2.2:{}", 4000 + n))?;
                Balancer::default().connect(&proxy, &header)
            })
            .collect::<TestResult<_>>()?;
        thread::scope(|scope| {
            for connection in &crowd {
                scope.spawn(|| connection.stream().write_all(&bulk));
            }
            for connection in &crowd {
                connection.expect(&bulk)?;
            }
            TestResult::Ok(())
        })?;
        for connection in crowd {
            connection.finish()?;
            connection.expect_end()?;
        }
        proxy.admin()?.wait_for_metric(OPEN, "0")?;
        assert_eq!(room(&proxy)?, before);
        proxy.stop()?.expect_success()
    })
}

/// How many connections there can be at once. Leaves none.
fn room(proxy: &Proxy) -> TestResult<u64> {
    let admin = proxy.admin()?;
    let metric = |name| -> TestResult<u64> { Ok(count(&admin.get("/metrics")?.body, name)) };
    let before = metric(PAUSES)?;
    let crowd: Vec<_> = (0..60)
        .map(|n| {
            let header = Header::of(&format!("192.0.2.1:{}", 4000 + n))?.then(b"ping");
            Balancer::default().connect(proxy, &header)
        })
        .collect::<TestResult<_>>()?;
    wait_for(|| Ok((metric(PAUSES)? >= before + 3).then_some(())))?;
    let room = metric(OPEN)?;
    for connection in crowd {
        connection.reset()?;
    }
    admin.wait_for_metric(OPEN, "0")?;
    Ok(room)
}

/// A change that comes just when there is no descriptor is not missed.
#[test]
fn a_list_is_read_once_there_are_descriptors_again() -> TestResult {
    isolated_with(&[STRACE], || {
        let list = tempfile::NamedTempFile::new()?;
        fs::write(list.path(), "192.0.2.0/24\n")?;
        // In a folder of its own, so that the first list's watch hears nothing of it.
        let folder = tempfile::tempdir()?;
        let other = folder.path().join("other");
        fs::write(&other, "")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(ADMIN)
            .args(["--allowed-subnets".as_ref(), list.path().as_os_str()])
            .args(["--denied-clients".as_ref(), other.as_os_str()])
            .start()?;
        let reloaded = "glommproxy_list_reloads_total{list=\"allowed-subnets\",result=\"ok\"}";
        let outdated = "glommproxy_list_outdated{list=\"allowed-subnets\"}";
        let others = "glommproxy_list_reloads_total{list=\"denied-clients\",result=\"ok\"}";
        let turns =
            || -> TestResult<u64> { Ok(count(&proxy.admin()?.get("/metrics")?.body, others)) };
        for what in [
            "openat:error=EMFILE:when=1",
            "openat:error=ENFILE:when=1",
            "inotify_init1:error=EMFILE:when=1",
        ] {
            let text = proxy.admin()?.get("/metrics")?.body;
            let before = count(&text, reloaded);
            fs::write(list.path(), "192.0.2.0/24\n")?;
            wait_for(|| {
                let text = proxy.admin()?.get("/metrics")?.body;
                Ok((count(&text, reloaded) > before).then_some(()))
            })?;
            let strace = Strace::inject(&proxy, "", what)?;
            fs::write(list.path(), format!("127.0.0.0/8 # {what}\n"))?;
            strace.expect_injected(1)?;
            drop(strace);
            // However often the coordinator has something else to do: it reads the other list five times a second at most.
            let before = turns()?;
            wait_for(|| {
                fs::write(&other, "")?;
                Ok(expect_tcp(&proxy).is_ok().then_some(()))
            })?;
            let turns = turns()? - before;
            assert!(turns <= 15, "{what}: tried again after {turns} turns");
            proxy.admin()?.wait_for_metric(outdated, "0")?;
        }
        proxy.stop()?.expect_success()
    })
}

#[test]
fn flows_that_nobody_answers_go_first() -> TestResult {
    isolated_with(&[STRACE], || {
        const PLAYER: &str = "192.0.2.250:4000";
        let list = tempfile::NamedTempFile::new()?;
        fs::write(list.path(), "198.51.100.1\n")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let proxy = Proxy::udp(server.addr()?)
            .under(FEW)
            .args(LISTENERS)
            .args(ADMIN)
            .args(["--denied-clients".as_ref(), list.path().as_os_str()])
            .start()?;
        let admin = proxy.admin()?;
        let balancer = UdpBalancer::bind("127.0.0.1")?;
        let player = Header::v2_udp(PLAYER, "203.0.113.1:443")?;
        balancer.send(&proxy, &player, b"question")?;
        server.expect(PLAYER, b"question")?;
        server.send(PLAYER.parse()?, b"answer")?;
        balancer.expect(b"answer")?;
        for n in 0..500 {
            let client = format!("192.0.2.1:{}", 4000 + n);
            let header = Header::v2_udp(&client, "203.0.113.1:443")?;
            balancer.send(&proxy, &header, b"flood")?;
            // Each of them is served.
            server.expect(&client, b"flood")?;
        }
        // The player's flow has been there all the time.
        server.send(PLAYER.parse()?, b"answer")?;
        balancer.expect(b"answer")?;
        let text = admin.get("/metrics")?.body;
        let evicted = count(
            &text,
            "glommproxy_ended_total{protocol=\"udp\",reason=\"evicted\"}",
        );
        let open = count(&text, "glommproxy_flows_open");
        assert_eq!(evicted + open, 501, "{evicted} and {open}");
        assert!(evicted > 350, "{evicted}");
        fs::write(list.path(), "198.51.100.1\n192.0.2.1\n")?;
        proxy.wait_for_message("flows of denied clients ended")?;
        admin.wait_for_metric("glommproxy_flows_open", "1")?;
        proxy.stop()?.expect_success()
    })
}
