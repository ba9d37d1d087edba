//! Flows that said something once, and are silent since.

use std::thread;
use std::time::Duration;

use crate::flow::{Flow, LOST_AFTER, Stamps};
use crate::harness::{Result, Run, Samples};
use crate::outbox::Outbox;
use crate::server::EchoServer;

/// Flows that send at once: few enough for any receive buffer.
const AT_ONCE: usize = 32;
/// How often a flow without an answer sends again.
const TRIES: usize = 5;
/// Bytes of a datagram.
const SIZE: usize = 64;
/// How long a proxy has to put things away.
const SETTLED: Duration = Duration::from_secs(1);

pub(crate) fn run(run: &Run<'_, EchoServer>, flows: usize) -> Result<Samples> {
    let proxy = run.via.proxy()?;
    let before = proxy.footprint();
    let mut stamps = Stamps::new();
    let mut all = Vec::new();
    for number in 0..run.scaled(flows) {
        let flow = Flow::new(&run.via, u32::try_from(number)?, SIZE)?;
        flow.socket.set_read_timeout(Some(LOST_AFTER))?;
        all.push(flow);
    }
    for some in all.chunks_mut(AT_ONCE) {
        exchange(some, &mut stamps)?;
    }
    thread::sleep(SETTLED.min(run.measured));
    Ok(proxy.footprint().added_since(before, all.len()))
}

/// Each of the flows sends a datagram, and again until one comes back.
fn exchange(flows: &mut [Flow], stamps: &mut Stamps) -> Result {
    let mut outbox = Outbox::new(1);
    let mut waiting: Vec<&mut Flow> = flows.iter_mut().collect();
    for _ in 0..TRIES {
        for flow in &mut waiting {
            flow.send(stamps, &mut outbox, 1)?;
        }
        let mut silent = Vec::new();
        for flow in waiting {
            if flow.receive(stamps)?.is_empty() {
                silent.push(flow);
            }
        }
        waiting = silent;
    }
    if waiting.is_empty() {
        return Ok(());
    }
    Err(format!("{} flows got no answer to {TRIES} datagrams", waiting.len()).into())
}
