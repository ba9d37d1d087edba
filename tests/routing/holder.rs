//! Further processes with routes of their own, and what the kernel's tables say.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Stdio};

use glommproxy::routing::{self, RoutePlan};

use crate::namespace::{TEST, TestResult, role, run, test_command};

/// The role of a process started by [`Holder::start`].
const HOLDER: &str = "holder";

const READY: &str = "routes are installed";

/// Whether this process was started by [`Holder::start`].
pub(crate) fn is_holder() -> bool {
    role().as_deref() == Some(HOLDER)
}

/// What a holder does: installs, says so, and removes when its standard input ends.
pub(crate) fn hold(plan: &RoutePlan) -> TestResult {
    let installed = routing::install(plan)?;
    writeln!(io::stdout(), "\n{READY}")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(installed.remove()?)
}

/// Another process of the same test, in the same namespace.
pub(crate) struct Holder {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts it; the test's body is to call [`hold`] when [`is_holder`].
    pub(crate) fn start() -> TestResult<Self> {
        Self::start_under(&[])
    }

    /// Starts it through another program that executes what its arguments end with.
    pub(crate) fn start_under(wrapper: &[&str]) -> TestResult<Self> {
        let mut process = test_command(&env::var(TEST)?, wrapper, HOLDER)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("no standard output")?;
        Ok(Self {
            process,
            output: BufReader::new(output),
        })
    }

    /// Waits until its routes are there.
    pub(crate) fn wait_ready(&mut self) -> TestResult {
        for line in self.output.by_ref().lines() {
            if line?.contains(READY) {
                return Ok(());
            }
        }
        Err("the process ended without installing its routes".into())
    }

    /// Kills it without a chance to clean up.
    pub(crate) fn kill(mut self) -> TestResult {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Lets it remove its routes and end; an error if it failed. Returns the rest of what it wrote.
    pub(crate) fn finish(mut self) -> TestResult<String> {
        drop(self.process.stdin.take());
        let mut output = String::new();
        self.output.read_to_string(&mut output)?;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(format!("the process ended with {status}: {output}").into());
        }
        Ok(output)
    }
}

/// Every rule and every route of both families, as iproute2 shows them.
pub(crate) fn tables() -> TestResult<String> {
    run("ip -4 rule && ip -6 rule && ip -4 route show table all && ip -6 route show table all")
}
