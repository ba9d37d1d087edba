//! UDP through the whole path: how fast, at what cost, what is lost, and against whom.
//!
//! ```sh
//! cargo bench --bench datagrams -- --list
//! cargo bench --bench datagrams -- --peer 'mmproxy-rs=mmproxy-rs -p udp -l {listen} -4 {target} -6 {target6}' --out results
//! ```

mod flow;
#[allow(dead_code, unused_imports, reason = "the other bench uses the rest")]
#[path = "../harness/mod.rs"]
mod harness;
mod idle;
mod outbox;
mod player;
mod server;
mod windows;

use std::process::ExitCode;

use harness::{HeaderVersion, Metric, Suite, Workload};
use server::EchoServer;
use windows::Windows;

/// How many flows the idle ones are.
const IDLE: usize = 10_000;

const PLAIN: Workload<EchoServer> = Workload {
    name: "",
    title: "",
    primary: Metric::RoundTrips,
    direct: true,
    quick: false,
    allowed: None,
    run: |run| Windows::SMALL.run(run, 1),
};

const WORKLOADS: &[Workload<EchoServer>] = &[
    Workload {
        name: "u1",
        title: "ping-pong, 1 flow",
        quick: true,
        run: |run| Windows::SMALL.run(run, 1),
        ..PLAIN
    },
    Workload {
        name: "u50",
        title: "50 flows, 4 under way in each",
        quick: true,
        run: |run| Windows::SMALL.of(4).run(run, 50),
        ..PLAIN
    },
    Workload {
        name: "upp50",
        title: "ping-pong, 50 flows",
        run: |run| Windows::SMALL.run(run, 50),
        ..PLAIN
    },
    Workload {
        name: "u1000",
        title: "ping-pong, 1000 flows",
        run: |run| Windows::SMALL.run(run, 1000),
        ..PLAIN
    },
    Workload {
        name: "u5000",
        title: "ping-pong, 5000 flows",
        run: |run| Windows::SMALL.run(run, 5000),
        ..PLAIN
    },
    Workload {
        name: "ubulk",
        title: "1 flow, 32 of 1200 bytes",
        quick: true,
        run: |run| Windows::BULK.run(run, 1),
        ..PLAIN
    },
    Workload {
        name: "ugso",
        title: "as ubulk, GSO and GRO",
        quick: true,
        run: |run| Windows::BULK.coalesced().run(run, 1),
        ..PLAIN
    },
    Workload {
        name: "ugso4",
        title: "as ugso, 4 flows",
        run: |run| Windows::BULK.coalesced().run(run, 4),
        ..PLAIN
    },
    Workload {
        name: "uidle",
        title: "memory of 10,000 flows",
        primary: Metric::MemoryEach,
        direct: false,
        quick: true,
        run: |run| idle::run(run, IDLE),
        ..PLAIN
    },
    Workload {
        name: "player",
        title: "1 flow, 20 a second",
        primary: Metric::CpuShare,
        direct: false,
        quick: true,
        run: player::run,
        ..PLAIN
    },
    Workload {
        name: "silence",
        title: "no flow at all",
        primary: Metric::CpuShare,
        direct: false,
        run: player::silence,
        ..PLAIN
    },
];

const SUITE: Suite<EchoServer> = Suite {
    name: "datagrams",
    title: "How fast: UDP",
    protocol: "udp",
    headers: &[HeaderVersion::V2],
    start_server: EchoServer::start,
    probe: flow::probe,
    workloads: WORKLOADS,
};

fn main() -> ExitCode {
    harness::main(&SUITE)
}
