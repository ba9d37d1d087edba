//! Tampering with the system calls of one thread of the proxy, by strace(1).

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::fstat;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Connection, Proxy, wait_for};
use crate::namespace::TestResult;
use crate::tool::Tool;

/// What tampers.
pub(super) const STRACE: Tool = Tool::program("strace", "strace");

/// A strace that is attached to a thread. The thread goes on undisturbed once this is dropped.
pub(super) struct Strace {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

// === impl Strace ===

impl Strace {
    /// Tampers with the calls of the thread of this name, as `-e inject=` says (strace(1)): `recvfrom:error=ENOMEM:when=1`.
    /// They are counted from now on.
    #[track_caller]
    pub(super) fn inject(proxy: &Proxy, thread: &str, what: &str) -> TestResult<Self> {
        let call = what.split(':').next().unwrap_or_default();
        Self::attach(
            proxy,
            thread,
            &[
                "-e",
                &format!("trace={call}"),
                "-e",
                &format!("inject={what}"),
            ],
        )
    }

    /// As [`Strace::inject`], for calls that are about the proxy's end of this connection.
    #[track_caller]
    pub(super) fn inject_at(
        proxy: &Proxy,
        end: &Connection,
        thread: &str,
        what: &str,
    ) -> TestResult<Self> {
        let call = what.split(':').next().unwrap_or_default();
        let socket = format!("socket:[{}]", fstat(proxy.socket_to(end)?)?.st_ino);
        let (trace, inject) = (format!("trace={call}"), format!("inject={what}"));
        Self::attach(proxy, thread, &["-P", &socket, "-e", &trace, "-e", &inject])
    }

    /// Looks at calls of the thread.
    #[track_caller]
    pub(super) fn watch(proxy: &Proxy, thread: &str, calls: &str) -> TestResult<Self> {
        Self::attach(proxy, thread, &["-e", &format!("trace={calls}")])
    }

    fn attach(proxy: &Proxy, thread: &str, args: &[&str]) -> TestResult<Self> {
        let thread = wait_for(|| thread_of(proxy.pid(), thread))?;
        let mut process = Command::new(STRACE.installed()?)
            .args(args)
            .args(["-p", &thread])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = process.stderr.take().ok_or("no standard error")?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                let mut lines = shared.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
            }
        });
        let strace = Self {
            process,
            lines,
            reader: Some(reader),
        };
        let attached = wait_for(|| Ok((strace.count("attached") > 0).then_some(())));
        attached.map_err(|_| "strace does not attach: may it trace (kernel.yama.ptrace_scope)?")?;
        Ok(strace)
    }

    /// How many lines have these words.
    pub(super) fn count(&self, words: &str) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(words)).count()
    }

    /// Waits until so many calls have been tampered with.
    #[track_caller]
    pub(super) fn expect_injected(&self, wanted: usize) -> TestResult {
        let injected = || self.count("INJECTED");
        let enough = wait_for(|| Ok((injected() >= wanted).then_some(())));
        Ok(enough.map_err(|_| format!("{} of {wanted} were injected", injected()))?)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It then detaches. If its thread is gone, so is it.
        let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// The thread of this name (behind which executors have a number), if it is there; without a name, the first one.
fn thread_of(process: Pid, name: &str) -> TestResult<Option<String>> {
    if name.is_empty() {
        return Ok(Some(process.as_raw_nonzero().to_string()));
    }
    for task in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let task = task?;
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let comm = comm.trim_end();
        if comm == name || comm.starts_with(&format!("{name}-")) {
            return Ok(Some(task.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
