//! What a bench consists of.

use std::net::SocketAddr;
use std::time::Duration;

use super::args::Args;
use super::{Clients, HeaderVersion, Metric, Proxy, Result, Samples};

/// A bench: a server, and workloads that are run against it.
pub(crate) struct Suite<S: 'static> {
    /// What cargo calls it.
    pub(crate) name: &'static str,
    /// The headline of its results.
    pub(crate) title: &'static str,
    /// glommproxy's `--protocol`.
    pub(crate) protocol: &'static str,
    /// The header versions that the protocol has.
    pub(crate) headers: &'static [HeaderVersion],
    pub(crate) start_server: fn() -> Result<S>,
    /// Sends one message and receives it again: fails while a proxy is not ready.
    pub(crate) probe: fn(&Via<'_>) -> Result,
    pub(crate) workloads: &'static [Workload<S>],
}

/// The server of a bench. It sends back what it gets.
pub(crate) trait Target {
    fn addr(&self) -> SocketAddr;
}

/// One way to use a proxy.
pub(crate) struct Workload<S: 'static> {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The number that says most.
    pub(crate) primary: Metric,
    /// Whether it makes sense without a proxy.
    pub(crate) direct: bool,
    /// Whether it is part of `--quick`.
    pub(crate) quick: bool,
    /// Prefixes on the list of allowed subnets, where there is one.
    pub(crate) allowed: Option<u32>,
    pub(crate) run: fn(&Run<'_, S>) -> Result<Samples>,
}

/// One measurement.
pub(crate) struct Run<'a, S> {
    pub(crate) via: Via<'a>,
    pub(crate) server: &'a S,
    /// How long it takes, without the warm-up.
    pub(crate) measured: Duration,
    pub(crate) quick: bool,
}

/// The way to the server.
#[derive(Clone, Copy)]
pub(crate) struct Via<'a> {
    /// Where clients connect to.
    pub(crate) addr: SocketAddr,
    /// The header they send; none without a proxy.
    pub(crate) header: Option<HeaderVersion>,
    pub(crate) clients: &'a Clients,
    pub(crate) proxy: Option<&'a Proxy>,
}

// === impl Suite ===

impl<S> Suite<S> {
    /// What `--list` prints.
    pub(crate) fn list(&self) -> String {
        let lines = self.workloads.iter();
        let lines = lines.map(|workload| format!("{:10} {}", workload.name, workload.title));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The workloads that are asked for.
    ///
    /// # Errors
    ///
    /// A name is unknown, or the protocol does not have such headers.
    pub(crate) fn choose(&self, args: &Args) -> Result<Vec<&'static Workload<S>>> {
        if !self.headers.contains(&args.header) {
            return Err("--header v1: version 1 has no UDP: write v2".into());
        }
        let all = self.workloads.iter();
        let Some(only) = &args.only else {
            return Ok(all
                .filter(|workload| workload.quick || !args.quick)
                .collect());
        };
        let names = only.split(',').map(str::trim);
        let chosen = names.map(|name| {
            let workload = self.workloads.iter().find(|w| w.name == name);
            workload.ok_or_else(|| format!("--only {name}: no such workload; see --list").into())
        });
        chosen.collect()
    }
}

// === impl Run ===

impl<S> Run<'_, S> {
    /// A number of connections or flows; `--quick` is content with fewer.
    pub(crate) fn scaled(&self, count: usize) -> usize {
        if self.quick {
            return count.div_ceil(50);
        }
        count
    }
}

// === impl Via ===

impl Via<'_> {
    /// The same way, with headers of another version if it has headers.
    pub(crate) fn with_header(self, version: HeaderVersion) -> Self {
        Self {
            header: self.header.map(|_| version),
            ..self
        }
    }

    /// What a new client's connection begins with.
    pub(crate) fn stream_header(&self) -> Vec<u8> {
        let header = |version| self.clients.stream_header(version);
        self.header.map(header).unwrap_or_default()
    }

    /// What each datagram of a new client begins with.
    pub(crate) fn datagram_header(&self) -> Vec<u8> {
        let header = |_| self.clients.datagram_header();
        self.header.map(header).unwrap_or_default()
    }

    /// The proxy, for workloads that are about nothing else.
    pub(crate) fn proxy(&self) -> Result<&Proxy> {
        self.proxy.ok_or_else(|| "there is no proxy".into())
    }
}
