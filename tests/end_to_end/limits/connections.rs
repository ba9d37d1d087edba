//! `--max-connections`: further connections wait until there is a place, on whatever shard.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, raise_descriptor_limit};
use crate::namespace::{TestResult, isolated};

const WAIT: &str = "connections wait for others to end";

fn client(n: usize) -> String {
    format!("192.0.2.{n}:4000")
}

/// A client that connects and says something; whether it is heard is another matter.
fn begin(proxy: &Proxy, n: usize) -> TestResult<Connection> {
    let header = Header::of(&client(n))?.then(b"hello");
    Balancer::default().connect(proxy, &header)
}

#[test]
fn what_is_too_much_waits_and_is_served_as_others_end() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--max-connections", "3", "--listeners", "2"])
            .start()?;
        let mut open = Vec::new();
        for n in 1..=3 {
            let downstream = begin(&proxy, n)?;
            let session = server.accept()?;
            session.expect(b"hello")?;
            open.push((downstream, session));
        }
        let waiting = (4..=12).map(|n| Ok((client(n), begin(&proxy, n)?)));
        let mut waiting = waiting.collect::<TestResult<HashMap<_, _>>>()?;
        let warning = proxy.wait_for_message(WAIT)?;
        assert_eq!(warning["level"], "WARN");
        assert_eq!(warning["error"], "--max-connections is reached");
        server.expect_nobody()?;

        while !waiting.is_empty() {
            drop(open.remove(0));
            let session = server.accept()?;
            session.expect(b"hello")?;
            server.expect_nobody()?;
            let client = session.peer()?.to_string();
            let downstream = waiting.remove(&client).ok_or("served twice")?;
            downstream.expect_talk(&session)?;
            open.push((downstream, session));
        }
        for (downstream, session) in &open {
            downstream.expect_talk(session)?;
        }
        let exit = proxy.stop()?;
        assert_eq!(exit.total("connections")?, 12);
        exit.expect_success()
    })
}

/// They count from accept on: silence is how a port is filled. It does not stay filled for the time a header may take.
#[test]
fn connections_without_a_header_make_room() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--max-connections", "2", "--header-timeout", "300"])
            .args(["--listeners", "1", "--admin", "127.0.0.1:0"])
            .start()?;
        let oldest = Balancer::default().connect(&proxy, &Header::none())?;
        let half = Balancer::default().connect(&proxy, &Header::raw("PROXY TCP4"))?;
        let first = begin(&proxy, 1)?;
        let first_session = server.accept()?;
        first_session.expect(b"hello")?;
        oldest.expect_over()?;
        let warning =
            proxy.wait_for_message("connections without a header make room for others")?;
        assert_eq!(warning["level"], "WARN");
        let second = begin(&proxy, 2)?;
        let second_session = server.accept()?;
        second_session.expect(b"hello")?;
        half.expect_over()?;
        // Those with a header stay, however old they are.
        let waiting = begin(&proxy, 3)?;
        proxy.wait_for_message(WAIT)?;
        first.expect_talk(&first_session)?;
        second.expect_talk(&second_session)?;
        drop((first, first_session));
        let session = server.accept()?;
        session.expect(b"hello")?;
        waiting.expect_talk(&session)?;
        let displaced = "glommproxy_header_errors_total{protocol=\"tcp\",kind=\"displaced\"}";
        proxy.admin()?.wait_for_metric(displaced, "2")?;
        proxy.stop()?.expect_success()
    })
}

/// Wherever they are: which listener a connection comes to is chance, and the place or descriptor is the process's.
#[test]
fn connections_without_a_header_make_room_for_those_of_other_listeners() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?;
        // Of one connection, and of descriptors for one.
        let one: [(&[&str], &[&str]); 2] = [
            (&[], &["--max-connections", "1"]),
            (&["prlimit", "--nofile=127:127"], &[]),
        ];
        for (wrapper, args) in one {
            let proxy = Proxy::tcp(server)
                .under(wrapper)
                .args(["--listeners", "2", "--header-timeout", "300"])
                .args(["--admin", "127.0.0.1:0"])
                .args(args)
                .start()?;
            let admin = proxy.admin()?;
            let wait_for_open = |count| admin.wait_for_metric("glommproxy_connections_open", count);
            // By chance all these pairs meet at one listener, once in 65,536 runs.
            for n in 1..=16 {
                wait_for_open("0")?;
                let silent = Balancer::default().connect(&proxy, &Header::none())?;
                wait_for_open("1")?;
                let connection = begin(&proxy, n)?;
                connection.expect(b"hello")?;
                silent.expect_over()?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// A flood of silent connections, and somebody who means it.
#[test]
fn a_flood_without_headers_keeps_nobody_out() -> TestResult {
    isolated(|| {
        raise_descriptor_limit(4096)?;
        let server = TcpServer::echo("127.0.0.1")?;
        // Neither of the process' own limit, nor of descriptors, of which there are less than the flood asks for.
        let limits: [(&[&str], &[&str]); 2] = [
            (&[], &["--max-connections", "100"]),
            (&["sh", "-c", "ulimit -n 300; exec \"$@\"", "sh"], &[]),
        ];
        for (wrapper, args) in limits {
            let proxy = Proxy::tcp(server)
                .args(["--header-timeout", "300", "--listeners", "2"])
                .args(args)
                .under(wrapper)
                .start()?;
            let mut flood = Vec::new();
            for n in 1..=20 {
                for _ in 0..50 {
                    flood.push(Balancer::default().connect(&proxy, &Header::none())?);
                }
                let innocent = begin(&proxy, n)?;
                innocent.expect(b"hello")?;
                innocent.expect_echo(b"are you there?")?;
            }
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}

/// A peer that may not connect takes nobody's place for longer than it takes to see that.
#[test]
fn refused_peers_do_not_count() -> TestResult {
    isolated(|| {
        let list = tempfile::NamedTempFile::new()?;
        fs::write(&list, "127.0.0.2\n")?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--max-connections", "1", "--allowed-subnets"])
            .args([list.path()])
            .start()?;
        for _ in 0..5 {
            Balancer::default()
                .connect(&proxy, &Header::none())?
                .expect_over()?;
        }
        let header = Header::of(&client(1))?;
        let downstream = Balancer::at("127.0.0.2")?.connect(&proxy, &header)?;
        downstream.expect_talk(&server.accept()?)?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("peers_refused")?, 5);
        exit.expect_success()
    })
}

/// How long to measure. This is no wait for something to happen: nothing is to happen.
const SILENCE: Duration = Duration::from_secs(3);

/// User and system time of the process in ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(proxy: &Proxy) -> TestResult<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.pid().as_raw_pid()))?;
    let (_, behind_name) = stat.rsplit_once(')').ok_or("no name")?;
    let fields = behind_name.split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}

/// A shard that spins spends 300 ticks. One that is full and has nobody waiting sleeps; one that has looks now and then.
#[test]
fn being_full_costs_next_to_nothing() -> TestResult {
    isolated(|| {
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--max-connections", "2", "--listeners", "2"])
            .start()?;
        let spent = || -> TestResult<u64> {
            // Shards that were busy look a few times more before they rest.
            thread::sleep(Duration::from_millis(500));
            let before = cpu_ticks(&proxy)?;
            thread::sleep(SILENCE);
            Ok(cpu_ticks(&proxy)? - before)
        };
        let _open = [begin(&proxy, 1)?, begin(&proxy, 2)?];
        let _sessions = [server.accept()?, server.accept()?];
        let full = spent()?;
        assert!(full <= 2, "{full} ticks while full");
        let _waiting = (3..20)
            .map(|n| begin(&proxy, n))
            .collect::<TestResult<Vec<_>>>()?;
        proxy.wait_for_message(WAIT)?;
        let waiting = spent()?;
        assert!(waiting <= 15, "{waiting} ticks while others wait");
        proxy.stop()?.expect_success()
    })
}
