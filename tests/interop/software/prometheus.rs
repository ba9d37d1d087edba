//! Prometheus, which scrapes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::process::{Process, Workplace};
use crate::harness::PATIENCE;
use crate::hosts::free_port;
use crate::namespace::TestResult;
use crate::tool::PROMETHEUS;

/// A Prometheus that scrapes one endpoint, killed when dropped.
pub(crate) struct Prometheus {
    process: Process,
    addr: SocketAddr,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts it.
    #[track_caller]
    pub(crate) fn start(endpoint: SocketAddr) -> TestResult<Self> {
        let workplace = Workplace::new()?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = workplace.configure(&format!(
            "scrape_configs:
  - job_name: glommproxy
    scrape_interval: 200ms
    scrape_timeout: 200ms
    static_configs:
      - targets: ['{endpoint}']
"
        ))?;
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", workplace.path("data").display()),
            format!("--web.listen-address={addr}"),
        ];
        let process = Process::start(PROMETHEUS, workplace, args)?;
        Ok(Self { process, addr })
    }

    /// Waits until it has the endpoint among its targets and has scraped it, and returns what it says of it: its health,
    /// and its last error.
    #[track_caller]
    pub(crate) fn wait_for_target(&mut self) -> TestResult<(String, String)> {
        let addr = self.addr;
        self.process.wait_for("scrape", |_| {
            let answer = ask(addr, "/api/v1/targets").ok()?;
            let target = &answer["data"]["activeTargets"][0];
            let text = |name: &str| Some(target[name].as_str()?.to_owned());
            let health = text("health").filter(|health| health != "unknown")?;
            Some((health, text("lastError")?))
        })
    }

    /// Waits until this query has this one result.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, query: &str, wanted: &str) -> TestResult {
        let addr = self.addr;
        self.process.wait_for(&format!("{query} {wanted}"), |_| {
            let answer = ask(addr, &format!("/api/v1/query?query={query}")).ok()?;
            let value = answer["data"]["result"][0]["value"][1].as_str()?;
            (value == wanted).then_some(())
        })
    }

    /// The type and help that it has of a metric.
    #[track_caller]
    pub(crate) fn metadata(&mut self, metric: &str) -> TestResult<Value> {
        let addr = self.addr;
        self.process.wait_for("metadata", |_| {
            let mut answer = ask(addr, &format!("/api/v1/metadata?metric={metric}")).ok()?;
            Some(answer["data"][metric][0].take()).filter(|it| !it.is_null())
        })
    }
}

fn ask(addr: SocketAddr, path: &str) -> TestResult<Value> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    Ok(serde_json::from_str(body)?)
}
