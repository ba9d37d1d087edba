//! The proxy: this program once more, in the namespace.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::DemoError;
use crate::sys::namespace::end_with_this_thread;

/// This program, whatever has become of its file meanwhile (proc_pid_exe(5)).
const ITSELF: &str = "/proc/self/exe";

/// How long the start may take. Milliseconds are usual.
const START_MAX: Duration = Duration::from_secs(4);

/// A proxy that runs; it is killed when dropped.
pub(super) struct Proxy(Child);

// === impl Proxy ===

impl Proxy {
    /// Starts it with these flags and waits until it is ready.
    pub(super) fn start(flags: &str) -> Result<Self, DemoError> {
        let mut command = Command::new(ITSELF);
        command
            .args(flags.split(' '))
            .args(["--listeners", "1", "--no-pin", "--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // What the environment says is meant for the proxy in earnest.
        let meant_for_it = |name: &str| name.starts_with("GLOMMPROXY_") || name == "RUST_LOG";
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(meant_for_it) {
                command.env_remove(name);
            }
        }
        end_with_this_thread(&mut command);
        let mut proxy = Self(command.spawn().map_err(DemoError::Start)?);
        match proxy.wait_ready() {
            true => Ok(proxy),
            false => Err(DemoError::Proxy(proxy.last_words())),
        }
    }

    /// Waits for the line of its log that says so. False if it has ended, or takes too long.
    fn wait_ready(&mut self) -> bool {
        let (lines, log) = mpsc::channel();
        if let Some(stdout) = self.0.stdout.take() {
            // Reads on when nobody is interested any more, so that the log is never stuck.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = lines.send(line);
                }
            });
        }
        loop {
            match log.recv_timeout(START_MAX) {
                Ok(line) if line.contains(r#""message":"ready""#) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// What it says it died of.
    fn last_words(&mut self) -> String {
        // If it has not ended, it is not going to.
        let _ = self.0.kill();
        let mut said = String::new();
        if let Some(stderr) = self.0.stderr.take() {
            let _ = stderr.take(4096).read_to_string(&mut said);
        }
        let said = said.trim().trim_start_matches("glommproxy: ");
        match said {
            "" => format!("it is not ready after {} s", START_MAX.as_secs()),
            said => said.to_owned(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
