//! What both benches of the whole path share: a [`Suite`] of workloads, run in turn against every [`Candidate`], in a
//! network namespace of the bench's own.
//!
//! ```text
//! load generator (main thread) ──PROXY header──► candidate (a process) ──► server (a thread of this process)
//! ```
//!
//! Everybody is measured the same way: a fresh process for each run, a warm-up that does not count, and the order turned
//! by one each round, so that what the machine does meanwhile meets everybody. The generator and the server have one
//! thread each, so on a machine with many cores *they* are the limit; the candidate "no proxy" shows where it is.

mod args;
mod candidate;
mod clients;
mod machine;
mod meter;
mod metric;
mod namespace;
mod order;
mod poll;
mod process;
mod progress;
mod report;
mod results;
mod rounds;
mod statistics;
mod suite;
#[path = "../../tests/harness/namespace.rs"]
mod tests_namespace;

use std::error::Error;
use std::process::ExitCode;

pub(crate) use args::HeaderVersion;
pub(crate) use clients::Clients;
pub(crate) use meter::{Meter, Tally};
pub(crate) use metric::{Metric, Samples};
pub(crate) use poll::Poll;
pub(crate) use process::Proxy;
pub(crate) use statistics::Latencies;
pub(crate) use suite::{Run, Suite, Target, Via, Workload};

use args::Command;

/// An error is a line for a person.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Runs a bench: what its `main` is.
pub(crate) fn main<S: Target>(suite: &Suite<S>) -> ExitCode {
    match run(suite) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error}", suite.name);
            ExitCode::FAILURE
        }
    }
}

fn run<S: Target>(suite: &Suite<S>) -> Result<ExitCode> {
    let args = match args::parse(suite.name, std::env::args().skip(1))? {
        Command::Run(args) => args,
        Command::Print(text) => return print(&text),
    };
    if args.list {
        return print(&suite.list());
    }
    let chosen = suite.choose(&args)?;
    if let Some(code) = namespace::enter()? {
        return Ok(code);
    }
    let results = rounds::run(suite, &chosen, &args)?;
    if let Some(folder) = &args.out {
        report::write(&results, folder)?;
    }
    if !args.quick {
        return print(&report::markdown(&results));
    }
    // Speed is for people to judge; whether messages arrive is not.
    if results.has_failures() {
        return Err("not all messages arrived as they were sent; see above".into());
    }
    print(&format!(
        "all messages arrived, in {} workloads",
        chosen.len()
    ))
}

fn print(text: &str) -> Result<ExitCode> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
