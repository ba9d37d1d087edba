//! How many shards there are, and where.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated, run};

/// A thread's CPUs, as proc_pid_status(5) lists them.
fn allowed_cpus(status: &str) -> TestResult<String> {
    let status = fs::read_to_string(status)?;
    let cpus = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(cpus.ok_or("no Cpus_allowed_list")?.trim().to_owned())
}

/// The number and the CPUs of each shard. Its threads are called `shard-`, its number, and glommio's number: the one that
/// serves, and one that glommio keeps for system calls that block. Both start in the same place, and the latter stays.
fn shards(proxy: &Proxy) -> TestResult<Vec<(usize, String)>> {
    let tasks = format!("/proc/{}/task", proxy.pid().as_raw_pid());
    let mut shards = BTreeSet::new();
    for task in fs::read_dir(tasks)? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        if let Some(numbers) = name.strip_prefix("shard-") {
            let (number, _) = numbers.split_once('-').ok_or("no number")?;
            let status = task.join("status");
            shards.insert((number.parse()?, allowed_cpus(&status.to_string_lossy())?));
        }
    }
    Ok(shards.into_iter().collect())
}

/// The CPUs of this process; the proxy starts with the same.
fn own_cpus() -> TestResult<Vec<String>> {
    let list = allowed_cpus("/proc/self/status")?;
    let mut cpus = Vec::new();
    for item in list.split(',') {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let range = low.parse::<usize>()?..=high.parse::<usize>()?;
        cpus.extend(range.map(|cpu| cpu.to_string()));
    }
    Ok(cpus)
}

#[test]
fn each_has_a_thread_and_listeners_of_its_own_when_it_is_ready() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .args(["-p", "both", "--listeners", "5"])
            .start()?;
        let numbers = shards(&proxy)?.into_iter().map(|(number, _)| number);
        assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let port = proxy.addr().port();
        for sockets in ["-ltn", "-lun"] {
            let listeners = run(&format!("ss -H {sockets} sport = :{port}"))?;
            assert_eq!(listeners.lines().count(), 5, "{sockets}: {listeners}");
        }
        Ok(())
    })
}

#[test]
fn by_default_there_is_one_on_each_cpu() -> TestResult {
    isolated(|| {
        let shards = shards(&Proxy::builder().start()?)?;
        assert_eq!(shards.len(), thread::available_parallelism()?.get());
        let own = own_cpus()?;
        let cpus: BTreeSet<_> = shards.iter().map(|(_, cpu)| cpu).collect();
        assert_eq!(cpus.len(), shards.len(), "{shards:?}");
        assert!(cpus.into_iter().all(|cpu| own.contains(cpu)), "{shards:?}");
        Ok(())
    })
}

#[test]
fn named_cpus_have_one_each() -> TestResult {
    isolated(|| {
        let mut cpus = own_cpus()?;
        cpus.reverse();
        cpus.truncate(2);
        let proxy = Proxy::builder().args(["--cpus", &cpus.join(",")]).start()?;
        let on: Vec<_> = shards(&proxy)?.into_iter().map(|(_, cpu)| cpu).collect();
        assert_eq!(on, cpus);
        Ok(())
    })
}

#[test]
fn unpinned_ones_have_all_cpus() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .args(["--no-pin", "--listeners", "2"])
            .start()?;
        let all = allowed_cpus("/proc/self/status")?;
        for (number, cpus) in shards(&proxy)? {
            assert_eq!(cpus, all, "shard {number}");
        }
        Ok(())
    })
}

#[test]
fn the_affinity_mask_is_kept() -> TestResult {
    isolated(|| {
        let cpus = own_cpus()?;
        let last = cpus.last().ok_or("no CPU")?;
        let mask = ["taskset", "-c", last];
        let proxy = Proxy::builder().under(mask).start()?;
        assert_eq!(shards(&proxy)?, [(0, last.clone())]);
        drop(proxy);

        // More shards than CPUs share them.
        let proxy = Proxy::builder()
            .under(mask)
            .args(["--listeners", "3"])
            .start()?;
        assert!(shards(&proxy)?.iter().all(|(_, cpu)| cpu == last));

        let outside = last.parse::<usize>()? + 1;
        let exit = Proxy::builder()
            .under(mask)
            .args(["--cpus", &outside.to_string()])
            .start_in_vain()?;
        let named = format!("--cpus names CPU {outside}");
        exit.expect_failure(&[&named, &format!("it may use {last}")])
    })
}

/// Puts the thread that plays client and server on one CPU.
fn stay_on(cpu: &str) -> TestResult {
    let mut set = CpuSet::new();
    set.set(cpu.parse()?);
    Ok(sched_setaffinity(None, &set)?)
}

/// A hundred messages there and back, each waited for.
fn ping_pong(client: &Connection, server: &Connection) -> TestResult {
    (0..100).try_for_each(|_| client.expect_talk(server))
}

/// Connections of one balancer, with their sessions at the server.
fn sessions(proxy: &Proxy, server: &TcpServer, count: u16) -> TestResult<Vec<[Connection; 2]>> {
    let client = |n: u16| Header::of(&format!("203.0.113.7:{}", 4000 + n));
    (0..count)
        .map(|n| {
            let client = Balancer::default().connect(proxy, &client(n)?)?;
            Ok([client, server.accept()?])
        })
        .collect()
}

/// With one CPU there is nowhere to go.
fn two_cpus() -> TestResult<Option<[String; 2]>> {
    Ok(own_cpus()?.first_chunk().cloned())
}

#[test]
fn one_is_at_home_while_messages_queue_up_and_elsewhere_the_kernels() -> TestResult {
    isolated(|| {
        if two_cpus()?.is_none() {
            return Ok(());
        }
        let anywhere = allowed_cpus("/proc/self/status")?;
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--listeners", "1"])
            .start()?;
        let home = shards(&proxy)?.remove(0).1;
        let sessions = sessions(&proxy, &server, 40)?;
        let [client, session] = &sessions[0];
        let is_anywhere = || -> TestResult<_> {
            Ok(shards(&proxy)?
                .contains(&(0, anywhere.clone()))
                .then_some(()))
        };
        // Little to do.
        wait_for(|| {
            ping_pong(client, session)?;
            is_anywhere()
        })?;
        // Messages that queue up.
        wait_for(|| {
            for _ in 0..100 {
                for [client, _] in &sessions {
                    client.send(b"question")?;
                }
                for [_, session] in &sessions {
                    session.expect(b"question")?;
                }
            }
            Ok((shards(&proxy)? == [(0, home.clone())]).then_some(()))
        })?;
        // Bulk.
        let bulk = vec![b'x'; 1 << 20];
        wait_for(|| {
            thread::scope(|scope| {
                let sent = scope.spawn(|| client.send(&bulk).is_ok());
                session.expect(&bulk)?;
                assert!(sent.join().is_ok_and(|sent| sent));
                is_anywhere()
            })
        })
    })
}

#[test]
fn one_on_a_named_cpu_stays_there() -> TestResult {
    isolated(|| {
        let Some([named, away]) = two_cpus()? else {
            return Ok(());
        };
        let server = TcpServer::bind("127.0.0.1")?;
        let proxy = Proxy::tcp(server.addr()?)
            .args(["--cpus", &named])
            .start()?;
        stay_on(&away)?;
        let sessions = sessions(&proxy, &server, 1)?;
        for _ in 0..100 {
            ping_pong(&sessions[0][0], &sessions[0][1])?;
            assert_eq!(shards(&proxy)?, [(0, named.clone())]);
        }
        Ok(())
    })
}
