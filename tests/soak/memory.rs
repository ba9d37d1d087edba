//! The memory of the proxy over time.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::Run;
use crate::harness::Proxy;
use crate::namespace::TestResult;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// More than the second half of the time may bring: where buffers land, and whatever is allocated once.
const GROWTH_MAX: u64 = 12 << 20;

/// Resident bytes, in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

// === impl Samples ===

impl Samples {
    /// Looks until the time is over.
    pub(crate) fn take(proxy: &Proxy, run: &Run) -> TestResult<Self> {
        let mut samples = Self::default();
        while !run.is_over() {
            samples.0.push(resident(proxy)?);
            thread::sleep(LOOK_EVERY);
        }
        Ok(samples)
    }

    /// The most in each quarter of the time.
    pub(crate) fn quarters(&self) -> Vec<u64> {
        let len = self.0.len().div_ceil(4).max(1);
        let quarters = self.0.chunks(len);
        quarters.filter_map(|it| it.iter().max().copied()).collect()
    }

    /// Memory that is lost grows on and on.
    pub(crate) fn expect_steady(&self) -> TestResult {
        let (first, second) = self.0.split_at(self.0.len() / 2);
        let most = |samples: &[u64]| samples.iter().max().copied().unwrap_or(0);
        let (first, second) = (most(first), most(second));
        if second > first + first / 4 + GROWTH_MAX {
            return Err(format!("resident memory grows from {first} to {second}").into());
        }
        Ok(())
    }
}

/// proc_pid_statm(5), the second field, in pages.
fn resident(proxy: &Proxy) -> TestResult<u64> {
    let statm = fs::read_to_string(format!("/proc/{}/statm", proxy.pid().as_raw_pid()))?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no pages")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
