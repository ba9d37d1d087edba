//! A proxy that runs, and what it costs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};

use super::{Metric, Result, Samples};

/// How long a proxy may take to end by itself.
const END_MAX: Duration = Duration::from_secs(3);

/// A proxy's process with those it started. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Child,
    log: PathBuf,
}

/// CPU time until some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    /// Of everything that ran, in the kernel's ticks (10 ms).
    ticks: Duration,
    /// In nanoseconds, but without threads that have ended.
    scheduled: Duration,
}

/// What a proxy occupies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Bytes (RSS).
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
}

// === impl Proxy ===

impl Proxy {
    /// Starts a command of the shell. What it says goes to a file, as it does in production.
    pub(crate) fn start(command: &str, folder: &Path) -> Result<Self> {
        let log = folder.join("proxy.log");
        let output = File::create(&log)?;
        let process = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { process, log })
    }

    /// Fails with its last words if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result {
        let Some(status) = self.process.try_wait()? else {
            return Ok(());
        };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let last = said.trim().lines().next_back().unwrap_or("nothing");
        Err(format!("it ended by itself ({status}) and said: {last}").into())
    }

    pub(crate) fn cpu_time(&self) -> CpuTime {
        let processes = self.processes();
        let ticks: u64 = processes.iter().map(|pid| ticks(*pid)).sum();
        let nanoseconds = processes.iter().map(|pid| nanoseconds(*pid)).sum();
        CpuTime {
            ticks: Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64),
            scheduled: Duration::from_nanos(nanoseconds),
        }
    }

    pub(crate) fn footprint(&self) -> Footprint {
        Footprint {
            memory: self.memory(),
            descriptors: self.descriptors(),
        }
    }

    /// Memory in bytes (RSS).
    fn memory(&self) -> u64 {
        let kilobytes = self.processes().into_iter().filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        kilobytes.sum::<u64>() * 1024
    }

    /// Open file descriptors.
    fn descriptors(&self) -> usize {
        let folders = self.processes().into_iter();
        let folders = folders.filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
        folders.map(Iterator::count).sum()
    }

    /// The process and all that descend from it.
    fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let parents: Vec<(u32, u32)> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                Some((pid, u32::try_from(*stat(pid)?.get(1)?).ok()?))
            })
            .collect();
        let mut family = vec![self.process.id()];
        let mut index = 0;
        while index < family.len() {
            let parent = family[index];
            let children = parents.iter().filter(|(_, of)| *of == parent);
            family.extend(children.map(|(pid, _)| *pid));
            index += 1;
        }
        family
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let family = self.processes();
        // Signals fail if the process has ended, which is as good.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let deadline = Instant::now() + END_MAX;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let left = family[1..].iter();
        for pid in left.filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// === impl CpuTime ===

impl CpuTime {
    /// Each of the two clocks may have missed some, so the one that saw more is right.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let scheduled = self.scheduled.saturating_sub(earlier.scheduled);
        ticks.max(scheduled)
    }
}

// === impl Footprint ===

impl Footprint {
    /// The memory as it is told.
    pub(crate) fn sample(self) -> (Metric, f64) {
        (Metric::Memory, self.memory as f64 / f64::from(1 << 20))
    }

    /// What each of so many connections or flows has added since it was as before.
    pub(crate) fn added_since(self, before: Self, count: usize) -> Samples {
        let each = |more: f64| more / count as f64;
        let memory = self.memory.saturating_sub(before.memory) as f64 / 1024.0;
        let descriptors = self.descriptors.saturating_sub(before.descriptors) as f64;
        vec![
            (Metric::MemoryEach, each(memory)),
            (Metric::DescriptorsEach, each(descriptors)),
            self.sample(),
        ]
    }
}

/// The numbers of `/proc/PID/stat` behind the name (proc(5), from field 3 on; the state, no number, is 0).
fn stat(pid: u32) -> Option<Vec<i64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold any character.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace();
    Some(fields.map(|field| field.parse().unwrap_or(0)).collect())
}

/// User and system time of the process and of its children that it has waited for.
fn ticks(pid: u32) -> u64 {
    let Some(fields) = stat(pid) else { return 0 };
    let times = fields.iter().skip(11).take(4); // utime, stime, cutime, cstime
    times.map(|ticks| u64::try_from(*ticks).unwrap_or(0)).sum()
}

/// Time on a CPU of all threads (`Documentation/scheduler/sched-stats.rst` of the kernel).
fn nanoseconds(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let times = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        });
    times.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Longer than any machine needs; only a failing test waits for it.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn children_count_too_and_end_too() -> Result {
        let folder = TempDir::new()?;
        // The parent sleeps, so all the CPU time is its child's.
        let proxy = Proxy::start("while :; do :; done & exec sleep 1000", folder.path())?;
        wait_until("two processes", || proxy.processes().len() == 2);
        let before = proxy.cpu_time();
        wait_until("CPU time", || !proxy.cpu_time().since(before).is_zero());
        assert!(proxy.memory() > 0);
        assert!(proxy.descriptors() >= 6);
        let child = proxy.processes()[1];
        drop(proxy);
        wait_until("the end of the child", || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            // It may stay as a zombie where nobody collects those.
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
        Ok(())
    }

    #[test]
    fn last_words_are_told() -> Result {
        let folder = TempDir::new()?;
        let mut proxy = Proxy::start("echo first; echo no such flag >&2; exit 3", folder.path())?;
        let mut said = String::new();
        wait_until("its end", || {
            said = proxy
                .check_alive()
                .err()
                .map_or(String::new(), |e| e.to_string());
            !said.is_empty()
        });
        assert!(said.contains("exit status: 3"), "{said}");
        assert!(said.ends_with("no such flag"), "{said}");
        Ok(())
    }
}
