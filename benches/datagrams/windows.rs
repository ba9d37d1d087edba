//! Flows that keep a number of datagrams under way.

use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};

use crate::flow::{Flow, LOST_AFTER, Stamps};
use crate::harness::{Meter, Metric, Poll, Result, Run, Samples};
use crate::outbox::Outbox;
use crate::server::EchoServer;

/// How often flows are looked through for those that went silent.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What each flow does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Bytes of a payload.
    size: usize,
    /// Datagrams under way at once.
    window: usize,
    /// Whether the kernel takes and gives them in one piece (GSO, GRO).
    coalesced: bool,
}

/// A flow and what is under way in it.
struct Window {
    flow: Flow,
    under_way: usize,
    heard_at: Instant,
}

/// Datagrams since counting began.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    answered: u64,
}

/// A measurement that runs.
struct Load<'a> {
    windows: Windows,
    flows: Vec<Window>,
    poll: Poll,
    stamps: Stamps,
    outbox: Outbox,
    meter: Meter<'a>,
    counts: Counts,
}

// === impl Windows ===

impl Windows {
    /// One small datagram at a time.
    pub(crate) const SMALL: Self = Self {
        size: 64,
        window: 1,
        coalesced: false,
    };
    /// As much as one flow may have.
    pub(crate) const BULK: Self = Self {
        size: 1200,
        window: 32,
        coalesced: false,
    };

    /// With so many under way.
    pub(crate) const fn of(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// In one piece wherever the kernel can.
    pub(crate) const fn coalesced(self) -> Self {
        Self {
            coalesced: true,
            ..self
        }
    }

    /// So many flows at once.
    pub(crate) fn run(self, run: &Run<'_, EchoServer>, flows: usize) -> Result<Samples> {
        run.server
            .coalesce(if self.coalesced { self.size } else { 0 })?;
        let samples = self.load(run, flows).and_then(Load::run);
        run.server.coalesce(0)?;
        samples
    }

    fn load<'a>(self, run: &Run<'a, EchoServer>, flows: usize) -> Result<Load<'a>> {
        let poll = Poll::new()?;
        let mut windows = Vec::new();
        for number in 0..run.scaled(flows) {
            let flow = Flow::new(&run.via, u32::try_from(number)?, self.size)?;
            flow.socket.set_nonblocking(true)?;
            if self.coalesced {
                setsockopt(
                    &flow.socket,
                    UdpGsoSegment,
                    &i32::try_from(flow.datagram_len())?,
                )?;
                setsockopt(&flow.socket, UdpGroSegment, &true)?;
            }
            poll.add(&flow.socket, number, Poll::READABLE)?;
            windows.push(Window {
                flow,
                under_way: 0,
                heard_at: Instant::now(),
            });
        }
        Ok(Load {
            windows: self,
            flows: windows,
            poll,
            stamps: Stamps::new(),
            outbox: Outbox::new(self.window),
            meter: Meter::start(run),
            counts: Counts::default(),
        })
    }
}

// === impl Load ===

impl Load<'_> {
    fn run(mut self) -> Result<Samples> {
        for number in 0..self.flows.len() {
            self.fill(number)?;
        }
        let mut looked_at = Instant::now();
        while self.meter.goes_on() {
            for index in 0..self.poll.wait(Some(LOOK_AGAIN))? {
                let (number, _) = self.poll.ready(index);
                self.receive(number)?;
                self.fill(number)?;
            }
            if looked_at.elapsed() > LOOK_AGAIN {
                looked_at = Instant::now();
                self.revive()?;
            }
        }
        let mut samples = self.meter.finish(Metric::RoundTrips)?;
        self.wait_for_rest()?;
        let counts = self.counts;
        let lost = counts.sent.saturating_sub(counts.answered) as f64;
        samples.push((Metric::Lost, 100.0 * lost / counts.sent.max(1) as f64));
        Ok(samples)
    }

    /// What is still under way is not lost yet.
    fn wait_for_rest(&mut self) -> Result {
        let deadline = Instant::now() + LOST_AFTER;
        while self.counts.answered < self.counts.sent && Instant::now() < deadline {
            for index in 0..self.poll.wait(Some(LOOK_AGAIN))? {
                self.receive(self.poll.ready(index).0)?;
            }
        }
        Ok(())
    }

    /// Takes what came back on a flow.
    fn receive(&mut self, number: usize) -> Result {
        let window = &mut self.flows[number];
        loop {
            let back = window.flow.receive(&mut self.stamps)?;
            if back.is_empty() {
                return Ok(());
            }
            window.heard_at = Instant::now();
            window.under_way = window.under_way.saturating_sub(back.len());
            for &sent_at in back {
                self.meter
                    .tally(|tally| tally.message(window.heard_at - sent_at));
                if self.meter.began_at().is_some_and(|began| sent_at >= began) {
                    self.counts.answered += 1;
                }
            }
            // Whether there is more need not be asked.
            if window.under_way == 0 {
                return Ok(());
            }
        }
    }

    /// Sends until as many are under way as may be.
    fn fill(&mut self, number: usize) -> Result {
        let window = &mut self.flows[number];
        let count = self.windows.window - window.under_way;
        if self.meter.began_at().is_some() {
            self.counts.sent += count as u64;
        }
        window.under_way += count;
        if self.windows.coalesced {
            return window.send_in_one_piece(&self.stamps, &mut self.outbox, count);
        }
        window.flow.send(&self.stamps, &mut self.outbox, count)
    }

    /// Flows that have heard nothing for long have lost what was under way.
    fn revive(&mut self) -> Result {
        for number in 0..self.flows.len() {
            let window = &mut self.flows[number];
            if window.heard_at.elapsed() > LOST_AFTER {
                window.heard_at = Instant::now();
                window.under_way = 0;
                self.fill(number)?;
            }
        }
        Ok(())
    }
}

// === impl Window ===

impl Window {
    /// All datagrams as one, which the kernel cuts where they end.
    fn send_in_one_piece(&mut self, stamps: &Stamps, outbox: &mut Outbox, count: usize) -> Result {
        let mut piece = Vec::with_capacity(count * self.flow.datagram_len());
        for _ in 0..count {
            piece.extend_from_slice(self.flow.stamped(stamps));
        }
        if !piece.is_empty() {
            outbox.push(&piece, None);
        }
        outbox.send(&self.flow.socket)
    }
}
