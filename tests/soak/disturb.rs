//! What an operator does meanwhile: new lists, SIGHUP, a look at the metrics.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::Signal;

use crate::Run;
use crate::harness::Proxy;
use crate::namespace::TestResult;
use crate::random::Random;

/// The lists of a proxy, in a folder of their own.
pub(crate) struct ListFiles {
    folder: tempfile::TempDir,
}

// === impl ListFiles ===

impl ListFiles {
    pub(crate) fn new() -> TestResult<Self> {
        let lists = Self {
            folder: tempfile::tempdir()?,
        };
        lists.write(0)?;
        Ok(lists)
    }

    pub(crate) fn allowed(&self) -> PathBuf {
        self.path("allowed.txt")
    }

    pub(crate) fn denied(&self) -> PathBuf {
        self.path("denied.txt")
    }

    /// Lists that always say the same of everybody here, and something else of others.
    fn write(&self, version: u64) -> TestResult {
        let other = format!("203.0.113.{}\n2001:db8:3::{version:x}\n", version % 256);
        replace(&self.allowed(), &format!("127.0.0.0/8\n::1\n{other}"))?;
        replace(&self.denied(), &other)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn replace(path: &Path, text: &str) -> TestResult {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

/// Until the time is over. Returns how often.
pub(crate) fn disturb(proxies: [&Proxy; 2], lists: &ListFiles, run: &Run) -> TestResult<u64> {
    let mut random = Random::new(run.seed, 4 << 40);
    let mut times = 0;
    while !run.is_over() {
        thread::sleep(random.millis(300));
        times += 1;
        let proxy = proxies[random.below(2) as usize];
        match random.below(3) {
            0 => proxy.signal(Signal::HUP)?,
            1 => lists.write(times)?,
            _ => drop(proxy.admin()?.get("/metrics")?),
        }
    }
    Ok(times)
}
