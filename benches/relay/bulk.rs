//! As many bytes as pass.

use std::thread;
use std::time::{Duration, Instant};

use crate::flood::{self, Flood};
use crate::harness::{Meter, Metric, Result, Run, Samples};
use crate::server::EchoServer;
use crate::stream::PATIENCE;

/// Bytes before the content repeats: no divisor of any buffer's size, so that a piece in the wrong place shows.
const MESSAGE: usize = 4093;

/// Clients that only send, to a server that only reads.
pub(crate) fn upload(run: &Run<'_, EchoServer>, connections: usize) -> Result<Samples> {
    let before = run.server.swallowed();
    let _swallows = run.server.swallow();
    let mut flood = Flood::start(&run.via, connections, &message())?;
    let mut meter = Meter::start(run);
    while meter.goes_on() {
        let passed = flood.turn(PATIENCE)?;
        meter.tally(|tally| tally.payload(passed.sent));
    }
    let samples = meter.finish(Metric::Throughput)?;
    // What is under way arrives too, all of it.
    let deadline = Instant::now() + PATIENCE;
    while run.server.swallowed() - before < flood.sent() {
        if Instant::now() > deadline {
            return Err("not all bytes arrived".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(samples)
}

/// Clients that send and get everything back.
pub(crate) fn both_ways(run: &Run<'_, EchoServer>, connections: usize) -> Result<Samples> {
    let flood = Flood::start(&run.via, connections, &message())?;
    flood::measure(run, flood)
}

fn message() -> Vec<u8> {
    let numbers = (0..MESSAGE as u32).map(|n| n.wrapping_mul(2_654_435_761));
    numbers.map(|n| (n >> 24) as u8).collect()
}
