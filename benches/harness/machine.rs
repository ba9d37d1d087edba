//! Where and when: results mean nothing without.

use std::fs;
use std::process::Command;
use std::thread;

use rustix::process::{Resource, geteuid, getrlimit};
use rustix::system::uname;

/// The machine and the day.
#[derive(Debug)]
pub(crate) struct Machine {
    /// `2026-11-22`, in UTC.
    pub(crate) date: String,
    /// `Linux 6.18.0`.
    pub(crate) kernel: String,
    /// The CPU's model.
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    /// The commit that was measured, where git knows it.
    pub(crate) commit: Option<String>,
    /// How many files each process may have open; None for any number.
    pub(crate) open_files: Option<u64>,
    /// The default of TCP: one that paces, as BBR does, makes bulk slower for whoever leaves loopback to it.
    pub(crate) congestion_control: String,
    /// `root`, or root of a user namespace only.
    pub(crate) user: &'static str,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn look() -> Self {
        let system = uname();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([':', '\t', ' ']).to_owned());
        Self {
            date: output("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(|| "unknown day".to_owned()),
            kernel: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            cpu: model.unwrap_or_else(|| system.machine().to_string_lossy().into_owned()),
            cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get()),
            commit: output("git", &["describe", "--always", "--dirty"]),
            open_files: getrlimit(Resource::Nofile).current,
            congestion_control: congestion_control(),
            user: user(),
        }
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let Self {
            kernel, cpu, cpus, ..
        } = self;
        let files = self.open_files;
        let files = files.map_or("any number of".to_owned(), |files| files.to_string());
        let Self {
            user,
            congestion_control,
            ..
        } = self;
        format!(
            "{cpus} CPUs ({cpu}), {kernel}, {user}, {files} open files, TCP's default {congestion_control}"
        )
    }
}

fn congestion_control() -> String {
    let name = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn user() -> &'static str {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // The machine's own user namespace maps every number to itself.
    let all = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if geteuid().is_root() && all {
        "root"
    } else {
        "root of a user namespace"
    }
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
