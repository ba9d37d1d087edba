//! What a server with hardly any players costs.

use std::thread;
use std::time::{Duration, Instant};

use crate::flow::{Flow, LOST_AFTER, Stamps};
use crate::harness::{Latencies, Metric, Result, Run, Samples};
use crate::outbox::Outbox;
use crate::server::EchoServer;

/// Between two datagrams of a player: 20 a second.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of a player's datagram.
const SIZE: usize = 100;
/// How long programs have to finish with their start, before they are looked at while nothing happens: the coordinator of
/// glommproxy is awake for five seconds after it has last told its shards something.
const STARTED: Duration = Duration::from_secs(6);

/// One player: 20 datagrams a second, each of which is answered.
pub(crate) fn run(run: &Run<'_, EchoServer>) -> Result<Samples> {
    let mut flow = Flow::new(&run.via, 0, SIZE)?;
    flow.socket.set_read_timeout(Some(LOST_AFTER))?;
    let (mut stamps, mut outbox) = (Stamps::new(), Outbox::new(1));
    let mut latencies = Latencies::default();
    let mut play = || -> Result {
        flow.send(&stamps, &mut outbox, 1)?;
        for sent_at in flow.receive(&mut stamps)? {
            latencies.add(sent_at.elapsed());
        }
        Ok(())
    };
    play()?;
    let mut samples = share(run, |until| {
        let mut next = Instant::now();
        while next < until {
            play()?;
            next += TICK;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    })?;
    for (metric, share) in [(Metric::P50, 0.5), (Metric::P99, 0.99)] {
        let value = latencies.percentile(share).ok_or("no answer at all")?;
        samples.push((metric, value));
    }
    Ok(samples)
}

/// Nobody at all.
pub(crate) fn silence(run: &Run<'_, EchoServer>) -> Result<Samples> {
    if !run.quick {
        thread::sleep(STARTED);
    }
    share(run, |until| {
        thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    })
}

/// The share of a CPU that the proxy takes meanwhile.
fn share(run: &Run<'_, EchoServer>, meanwhile: impl FnOnce(Instant) -> Result) -> Result<Samples> {
    let proxy = run.via.proxy()?;
    // What it did to start is none of this.
    thread::sleep(run.measured / 4);
    let (begun, before) = (Instant::now(), proxy.cpu_time());
    meanwhile(begun + run.measured)?;
    let cpu = proxy.cpu_time().since(before);
    let elapsed = begun.elapsed().as_secs_f64();
    Ok(vec![
        (Metric::CpuShare, 100.0 * cpu.as_secs_f64() / elapsed),
        proxy.footprint().sample(),
    ])
}
