//! Everybody in turn, again and again.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::args::Args;
use super::candidate::{Candidate, Kind};
use super::namespace::PROXY_PORTS;
use super::order::order;
use super::progress::Progress;
use super::results::Results;
use super::{Clients, Proxy, Result, Run, Samples, Suite, Target, Via, Workload};

/// How long a proxy may take until it passes a message on.
const READY_MAX: Duration = Duration::from_secs(15);

/// Everything that stays while candidates come and go.
struct Bench<'a, S: 'static> {
    suite: &'a Suite<S>,
    args: &'a Args,
    server: S,
    clients: Clients,
    folder: TempDir,
    ports: Range<u16>,
}

/// Runs the workloads.
pub(crate) fn run<S: Target>(
    suite: &Suite<S>,
    chosen: &[&Workload<S>],
    args: &Args,
) -> Result<Results> {
    let candidates = Candidate::all(suite.protocol, args);
    let mut results = Results::new(suite, chosen, &candidates, args);
    let mut bench = Bench {
        suite,
        args,
        server: (suite.start_server)()?,
        clients: Clients::default(),
        folder: TempDir::new()?,
        ports: PROXY_PORTS,
    };
    // The columns of those who take part, for each workload.
    let taking_part: Vec<Vec<usize>> = chosen
        .iter()
        .map(|workload| {
            let takes_part = |column: &usize| takes_part(&candidates[*column], workload);
            (0..candidates.len()).filter(takes_part).collect()
        })
        .collect();
    let rounds = args.rounds() as usize;
    let mut progress = Progress::new(taking_part.iter().map(Vec::len).sum::<usize>() * rounds);
    for round in 0..rounds {
        for (row, workload) in chosen.iter().enumerate() {
            for place in order(taking_part[row].len(), round + row) {
                let column = taking_part[row][place];
                let candidate = &candidates[column];
                let (round, name) = (round + 1, &candidate.name);
                progress.step(&format!("round {round}/{rounds} {} {name}", workload.name));
                let outcome = bench.measure(workload, candidate);
                if let Err(error) = &outcome {
                    progress.say(&format!("{}, {name}: {error}", workload.name));
                }
                results.add(row, column, outcome);
            }
        }
    }
    progress.finish();
    Ok(results)
}

fn takes_part<S>(candidate: &Candidate, workload: &Workload<S>) -> bool {
    (workload.direct || candidate.kind != Kind::Direct)
        && (workload.allowed.is_none() || candidate.takes_a_list())
}

// === impl Bench ===

impl<S: Target> Bench<'_, S> {
    fn measure(&mut self, workload: &Workload<S>, candidate: &Candidate) -> Result<Samples> {
        let target = self.server.addr();
        if candidate.kind == Kind::Direct {
            let via = Via {
                addr: target,
                header: None,
                clients: &self.clients,
                proxy: None,
            };
            return (workload.run)(&self.run(via));
        }
        // A port that nobody listened on before: what is left of former connections is in nobody's way.
        let port = self.ports.next().ok_or("all ports for proxies are used")?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let list = workload.allowed.map(|prefixes| self.list(prefixes));
        let command = candidate.command(listen, target, list.transpose()?.as_deref());
        let mut proxy = Proxy::start(&command, self.folder.path())?;
        self.wait_ready(&mut proxy, listen)?;
        let via = self.via(listen, Some(&proxy));
        let samples = (workload.run)(&self.run(via));
        // A proxy that broke down says more than its clients.
        samples.map_err(|error| proxy.check_alive().err().unwrap_or(error))
    }

    fn run<'a>(&'a self, via: Via<'a>) -> Run<'a, S> {
        Run {
            via,
            server: &self.server,
            measured: self.args.measured(),
            quick: self.args.quick,
        }
    }

    fn via<'a>(&'a self, addr: SocketAddr, proxy: Option<&'a Proxy>) -> Via<'a> {
        Via {
            addr,
            header: Some(self.args.header),
            clients: &self.clients,
            proxy,
        }
    }

    /// Waits until a message passes through the proxy.
    fn wait_ready(&self, proxy: &mut Proxy, listen: SocketAddr) -> Result {
        let deadline = Instant::now() + READY_MAX;
        while let Err(error) = (self.suite.probe)(&self.via(listen, None)) {
            proxy.check_alive()?;
            if Instant::now() > deadline {
                return Err(format!("not ready after {READY_MAX:?}: {error}").into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// A list of so many prefixes, the balancer's own last.
    fn list(&self, prefixes: u32) -> Result<PathBuf> {
        let path: &Path = self.folder.path();
        let file = path.join(format!("{prefixes}.txt"));
        let mut text = String::new();
        for number in 1..prefixes {
            let prefix = Ipv4Addr::from(0x1400_0000 + (number << 8));
            writeln!(text, "{prefix}/24")?;
        }
        text.push_str("127.0.0.0/8\n");
        fs::write(&file, text)?;
        Ok(file)
    }
}
