//! A soak: everything at once, for a while, and no byte lost, doubled, or anybody else's.
//!
//! ```sh
//! cargo test --test soak                                                # ten seconds
//! GLOMMPROXY_SOAK_SECONDS=900 cargo test --release --test soak -- --nocapture
//! ```
//!
//! It prints the seed of its random numbers. `GLOMMPROXY_SOAK_SEED` gives one: the same connections and datagrams then come
//! again, if not at the same moments.
//!
//! - TCP: connections with headers of both versions in pieces, of clients of both families, from a byte to 32 MiB each way,
//!   in small messages and in bulk, so that both ways to relay take turns; with pauses, slow readers, half-closes in either
//!   order, and resets. Every byte is compared with what it must be at its place. What is reset arrives as a beginning of
//!   what was said, and as reset.
//! - UDP: many clients behind a few sockets, which change. Every datagram is its client's, whole, and behind those before
//!   it. Those that are lost are not more than what is counted.
//! - Meanwhile lists change, SIGHUP comes, and somebody reads the metrics.
//! - At the end nothing is open any more, and memory has not grown.

#![allow(clippy::print_stdout)]

mod disturb;
#[path = "../end_to_end"]
mod end_to_end {
    #[expect(
        dead_code,
        unused_imports,
        reason = "the soak shares the harness with the end-to-end tests, which need more of it"
    )]
    pub(crate) mod harness;
}
mod kernel;
mod memory;
#[path = "../harness/namespace.rs"]
#[expect(dead_code, reason = "shared, as above")]
mod namespace;
mod noise;
mod random;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use end_to_end::harness;
use harness::{Proxy, metric, raise_descriptor_limit, wait_for};
use namespace::{TestResult, isolated_for};

use self::disturb::{ListFiles, disturb};
use self::kernel::open_files;
use self::memory::Samples;
use self::tcp::Plans;
use self::udp::{Server, Tally, balancers};

/// How long, unless `GLOMMPROXY_SOAK_SECONDS` says otherwise.
const LENGTH: Duration = Duration::from_secs(10);

/// Threads of each proxy.
const SHARDS: usize = 3;

/// Sockets that each of them makes when it first needs them, and keeps.
const PROBES: usize = 3;

/// Problems that are told. One is enough to fail; the others may say more of it.
const PROBLEMS_MAX: usize = 20;

/// What all parts of the soak share.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    deadline: Instant,
    problems: Arc<Mutex<Vec<String>>>,
}

// === impl Run ===

impl Run {
    /// Whether nothing new is to begin.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || !self.problems().is_empty()
    }

    /// Notes what is wrong, and ends the soak.
    pub(crate) fn fail(&self, problem: String) {
        let mut problems = self.problems();
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        }
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn result(&self) -> TestResult {
        match self.problems().as_slice() {
            [] => Ok(()),
            problems => Err(format!("seed {}: {}", self.seed, problems.join("\n")).into()),
        }
    }
}

fn variable(name: &str) -> TestResult<Option<u64>> {
    let Ok(text) = env::var(name) else {
        return Ok(None);
    };
    let number = text.parse();
    let number = number.map_err(|error| format!("{name}={text}: want a number: {error}"))?;
    Ok(Some(number))
}

#[test]
fn no_byte_is_lost_or_reordered() -> TestResult {
    let length = variable("GLOMMPROXY_SOAK_SECONDS")?.map_or(LENGTH, Duration::from_secs);
    isolated_for(length, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let seed = variable("GLOMMPROXY_SOAK_SEED")?.unwrap_or(now.as_micros() as u64);
        println!("seed {seed}, {} s", length.as_secs());
        raise_descriptor_limit(8192)?;
        let run = Run {
            seed,
            deadline: Instant::now() + length,
            problems: Arc::default(),
        };
        let (plans, tally, lists) = (Plans::default(), Tally::default(), ListFiles::new()?);
        let udp_servers = [
            Server::start("127.0.0.1", &tally, &run)?,
            Server::start("::1", &tally, &run)?,
        ];
        let tcp_servers = [
            tcp::server("127.0.0.1", &plans, &run)?,
            tcp::server("::1", &plans, &run)?,
        ];
        // One flag for both protocols, and so two proxies.
        let start = |protocol: &str, servers: [std::net::SocketAddr; 2]| {
            Proxy::builder()
                .listen("0.0.0.0:0")
                .args(["-p", protocol, "--listeners", &SHARDS.to_string()])
                .args(["--admin", "127.0.0.1:0", "--close-after", "2"])
                .args(["--header-timeout", "40", "--connect-timeout", "40"])
                .args(["--allowed-subnets".as_ref(), lists.allowed().as_os_str()])
                .args(["--denied-clients".as_ref(), lists.denied().as_os_str()])
                .and(servers[0])
                .and(servers[1])
                .start()
        };
        let tcp_proxy = start("tcp", tcp_servers)?;
        let udp_proxy = start("udp", [udp_servers[0].addr()?, udp_servers[1].addr()?])?;
        let proxies = [&tcp_proxy, &udp_proxy];
        let base = [open_files(&tcp_proxy)?, open_files(&udp_proxy)?];

        let at = |proxy: &Proxy| -> TestResult<_> { Ok([proxy.addr(), proxy.addr_at("::1")?]) };
        let (tcp_at, udp_at) = (at(&tcp_proxy)?, at(&udp_proxy)?);
        let settled = AtomicBool::new(false);
        let (done, disturbed, memory) = thread::scope(|scope| {
            let (run, settled, tally) = (&run, &settled, &tally);
            let connections = scope.spawn(|| tcp::clients(tcp_at, &plans, run));
            let hearing = scope.spawn(|| balancers(udp_at, tally, run, settled));
            let disturber = scope.spawn(|| disturb(proxies, &lists, run));
            let watchers = proxies.map(|proxy| scope.spawn(move || Samples::take(proxy, run)));
            let panicked = |_| "a thread panicked";
            let done = connections.join().map_err(panicked);
            let result = settle(&udp_proxy, &udp_servers, tally, run);
            settled.store(true, Ordering::Release);
            if let Err(error) = result {
                run.fail(format!("{error:?}"));
            }
            hearing.join().map_err(panicked)??;
            let disturbed = disturber.join().map_err(panicked)??;
            let mut memory = Vec::new();
            for watcher in watchers {
                memory.push(watcher.join().map_err(panicked)??);
            }
            TestResult::Ok((done?, disturbed, memory))
        })?;
        run.result()?;
        println!("{done:?}, {disturbed} disturbances");
        account(&udp_proxy, &tally, &run)?;
        for (proxy, base) in proxies.into_iter().zip(base) {
            let admin = proxy.admin()?;
            admin.wait_for_metric("glommproxy_connections_open", "0")?;
            admin.wait_for_metric("glommproxy_flows_open", "0")?;
            let mut left = base.clone();
            let all_gone = wait_for(|| {
                left = open_files(proxy)?;
                Ok(has_closed_all(&left, &base).then_some(()))
            });
            all_gone.map_err(|error| format!("{error:?}: {left:?} were {base:?}"))?;
        }
        for samples in &memory {
            let quarters = samples.quarters();
            println!("resident memory, the most in each quarter: {quarters:?}");
            samples.expect_steady()?;
        }
        tcp_proxy.stop()?.expect_success()?;
        udp_proxy.stop()?.expect_success()
    })
}

/// Whether this is as much as at the start, but for the sockets with which each shard asks for addresses and routes, once
/// it has.
fn has_closed_all(left: &BTreeMap<String, usize>, base: &BTreeMap<String, usize>) -> bool {
    left.iter().all(|(kind, &left)| {
        let kept = if kind == "socket" { PROBES * SHARDS } else { 0 };
        left <= base.get(kind).copied().unwrap_or(0) + kept
    })
}

/// Waits until no datagram is on its way any more: all have arrived, or are known to be lost.
fn settle(proxy: &Proxy, servers: &[Server; 2], tally: &Tally, run: &Run) -> TestResult {
    while !run.is_over() {
        thread::sleep(Duration::from_millis(10));
    }
    let admin = proxy.admin()?;
    let mut before = None;
    wait_for(|| {
        // The flows' last losses are counted with their ends.
        let text = admin.get("/metrics")?.body;
        let is_quiet = metric(&text, "glommproxy_flows_open") == Some("0");
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = (get(&tally.asked), get(&tally.heard), get(&tally.answered));
        let is_same = before.replace(now) == Some(now);
        thread::sleep(Duration::from_millis(200));
        Ok((is_quiet && is_same).then_some(()))
    })?;
    for server in servers {
        let lost = server.lost()?;
        tally.lost_at_server.fetch_add(lost, Ordering::Relaxed);
    }
    Ok(())
}

/// What is missing is not more than what somebody's receive buffer had no room for, and was counted.
fn account(proxy: &Proxy, tally: &Tally, run: &Run) -> TestResult {
    let text = proxy.admin()?.get("/metrics")?.body;
    let of = |name: &str, direction: &str| -> TestResult<u64> {
        let sample = format!("{name}{{direction=\"{direction}\"}}");
        Ok(metric(&text, &sample).ok_or("no such metric")?.parse()?)
    };
    let dropped: u64 = text
        .lines()
        .filter(|line| line.starts_with("glommproxy_dropped_total{protocol=\"udp\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let rows = [
        (
            "upstream",
            &tally.asked,
            &tally.heard,
            &tally.lost_at_server,
            dropped,
        ),
        (
            "downstream",
            &tally.said,
            &tally.answered,
            &tally.lost_at_balancers,
            0,
        ),
    ];
    for (direction, sent, received, lost_at_end, dropped) in rows {
        let (sent, received, lost_at_end) = (get(sent), get(received), get(lost_at_end));
        let lost = of("glommproxy_datagrams_lost_total", direction)?;
        let refused = of("glommproxy_datagram_errors_total", direction)?;
        println!(
            "UDP {direction}: {sent} sent, {received} received; without room {lost} at the proxy and {lost_at_end} at \
             the test's own sockets; dropped {dropped}, not taken {refused}"
        );
        let missing = sent.saturating_sub(received);
        let counted = lost + lost_at_end + dropped + refused;
        if received > sent || missing > counted {
            let seed = run.seed;
            return Err(format!(
                "seed {seed}: {missing} {direction} are missing, {counted} counted"
            )
            .into());
        }
    }
    Ok(())
}
