//! One quiet client beside others that flood.
//!
//! On a network the flood costs other machines the time it takes to make. Here its threads, and those that answer it, have
//! the lowest priority instead: they get what the rest leaves, so that the rest waits for the proxy. At equal priority it
//! waits for the kernel to interrupt a flooding thread, some milliseconds with every proxy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::flood::Flood;
use crate::harness::{Meter, Metric, Result, Run, Samples};
use crate::ping_pong::LonePlayer;
use crate::server::{EchoServer, run_in_background};
use crate::stream::PATIENCE;

/// Enough that every thread of a proxy has some: the kernel gives connections to threads as it likes.
const FLOODED: usize = 8;

/// Half of the time alone, the other half beside the flood.
pub(crate) fn run(run: &Run<'_, EchoServer>) -> Result<Samples> {
    let half = Run {
        measured: run.measured / 2,
        via: run.via,
        ..*run
    };
    let mut player = LonePlayer::connect(&run.via)?;
    let alone = play(&half, &mut player)?;
    let in_background = run.server.answer_in_background();
    let mut flood = Flood::start(&run.via, FLOODED, b"flood of bytes\n")?;
    let over = AtomicBool::new(false);
    let (beside, flooded) = thread::scope(|scope| {
        let flooding = scope.spawn(|| -> Result {
            run_in_background()?;
            while !over.load(Ordering::Relaxed) {
                flood.turn(PATIENCE)?;
            }
            flood.check()
        });
        let beside = play(&half, &mut player);
        over.store(true, Ordering::Relaxed);
        (beside, flooding.join())
    });
    drop(in_background);
    flooded.map_err(|_| "the flood panicked")??;
    let p99 = alone.into_iter().find(|(metric, _)| *metric == Metric::P99);
    let unloaded = p99.map(|(_, value)| (Metric::UnloadedP99, value));
    let of_interest =
        |(metric, _): &(Metric, f64)| matches!(metric, Metric::P50 | Metric::P99 | Metric::P999);
    let beside = beside?.into_iter().filter(of_interest);
    Ok(beside.chain(unloaded).collect())
}

fn play(run: &Run<'_, EchoServer>, player: &mut LonePlayer) -> Result<Samples> {
    let mut meter = Meter::start(run);
    while meter.goes_on() {
        let latency = player.exchange()?;
        meter.tally(|tally| tally.message(latency));
    }
    meter.finish(Metric::RoundTrips)
}
