//! TCP through the whole path: how fast, at what cost, and against whom.
//!
//! ```sh
//! cargo bench --bench relay -- --list
//! cargo bench --bench relay -- --peer 'go-mmproxy=go-mmproxy -l {listen} -4 {target} -6 {target6} {allowed}' --out results
//! ```

mod bulk;
mod connects;
mod fairness;
mod flood;
#[allow(dead_code, unused_imports, reason = "the other bench uses the rest")]
#[path = "../harness/mod.rs"]
mod harness;
mod idle;
mod ping_pong;
mod server;
mod stream;

use std::process::ExitCode;

use harness::{HeaderVersion, Metric, Suite, Workload};
use server::EchoServer;

/// How many connections the idle ones are.
const IDLE: usize = 3000;

const PLAIN: Workload<EchoServer> = Workload {
    name: "",
    title: "",
    primary: Metric::RoundTrips,
    direct: true,
    quick: false,
    allowed: None,
    run: |run| ping_pong::run(run, 1),
};

const WORKLOADS: &[Workload<EchoServer>] = &[
    Workload {
        name: "seed",
        title: "flood of PING, 50 conns",
        primary: Metric::Throughput,
        quick: true,
        run: flood::seed,
        ..PLAIN
    },
    Workload {
        name: "rr1",
        title: "ping-pong, 1 connection",
        quick: true,
        run: |run| ping_pong::run(run, 1),
        ..PLAIN
    },
    Workload {
        name: "rr50",
        title: "ping-pong, 50 connections",
        run: |run| ping_pong::run(run, 50),
        ..PLAIN
    },
    Workload {
        name: "rr500",
        title: "ping-pong, 500 connections",
        run: |run| ping_pong::run(run, 500),
        ..PLAIN
    },
    Workload {
        name: "rr5000",
        title: "ping-pong, 5000 connections",
        run: |run| ping_pong::run(run, 5000),
        ..PLAIN
    },
    Workload {
        name: "crr50",
        title: "connect, ask, close, 50 at a time",
        primary: Metric::Connections,
        quick: true,
        run: |run| connects::run(run, 50),
        ..PLAIN
    },
    Workload {
        name: "bulk1",
        title: "upload, 1 connection",
        primary: Metric::Throughput,
        quick: true,
        run: |run| bulk::upload(run, 1),
        ..PLAIN
    },
    Workload {
        name: "bulk8",
        title: "upload, 8 connections",
        primary: Metric::Throughput,
        run: |run| bulk::upload(run, 8),
        ..PLAIN
    },
    Workload {
        name: "both1",
        title: "both ways, 1 connection",
        primary: Metric::Throughput,
        run: |run| bulk::both_ways(run, 1),
        ..PLAIN
    },
    Workload {
        name: "both8",
        title: "both ways, 8 connections",
        primary: Metric::Throughput,
        quick: true,
        run: |run| bulk::both_ways(run, 8),
        ..PLAIN
    },
    Workload {
        name: "idle",
        title: "memory of 3000 connections",
        primary: Metric::MemoryEach,
        direct: false,
        quick: true,
        run: |run| idle::run(run, IDLE),
        ..PLAIN
    },
    Workload {
        name: "fairness",
        title: "p99 of one beside a flood",
        primary: Metric::P99,
        quick: true,
        run: fairness::run,
        ..PLAIN
    },
    Workload {
        name: "allow10",
        title: "crr50, list of 10 subnets",
        primary: Metric::Connections,
        direct: false,
        allowed: Some(10),
        run: |run| connects::run(run, 50),
        ..PLAIN
    },
    Workload {
        name: "allow100k",
        title: "crr50, list of 100,000",
        primary: Metric::Connections,
        direct: false,
        quick: true,
        allowed: Some(100_000),
        run: |run| connects::run(run, 50),
    },
];

const SUITE: Suite<EchoServer> = Suite {
    name: "relay",
    title: "How fast: TCP",
    protocol: "tcp",
    headers: &[HeaderVersion::V1, HeaderVersion::V2],
    start_server: EchoServer::start,
    probe: ping_pong::probe,
    workloads: WORKLOADS,
};

fn main() -> ExitCode {
    harness::main(&SUITE)
}
