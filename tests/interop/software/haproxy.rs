//! HAProxy in front.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use super::process::{Process, Workplace};
use super::{Balancer, Frontend};
use crate::harness::PATIENCE;
use crate::hosts::free_port;
use crate::namespace::TestResult;
use crate::tool::HAPROXY;

/// An HAProxy with one server, killed when dropped.
pub(crate) struct HaProxy {
    process: Process,
    port: u16,
}

// === impl HaProxy ===

impl HaProxy {
    /// Starts it and waits until it listens. `options` are those of its `server` line; `more` are further lines of its
    /// configuration.
    #[track_caller]
    pub(crate) fn start(
        server: SocketAddr,
        options: &str,
        frontend: Frontend,
        more: &[&str],
    ) -> TestResult<Self> {
        let workplace = Workplace::new()?;
        let port = free_port()?;
        let bind = match frontend {
            Frontend::PerFamily => format!("bind 0.0.0.0:{port}\n    bind [::]:{port} v6only"),
            Frontend::DualStack => format!("bind [::]:{port} v4v6"),
        };
        let more = more.join("\n    ");
        let config = workplace.configure(&format!(
            "global
    maxconn 100
    stats socket {admin}
defaults
    mode tcp
    timeout connect 20s
    timeout client 20s
    timeout server 20s
    timeout check 20s
listen game
    {bind}
    {more}
    server game {server} {options}
",
            admin = workplace.path("admin.sock").display()
        ))?;
        let mut process = Process::start(
            HAPROXY,
            workplace,
            ["-db".as_ref(), "-f".as_ref(), config.as_os_str()],
        )?;
        // It answers after it has begun to listen everywhere.
        process.wait_for("answer to `show info`", |it| ask(it, "show info"))?;
        Ok(Self { process, port })
    }

    /// Waits until a health check of the server has ended like this, which is a `check_status` of its management guide
    /// (section 9.1), and says whether the server is then "UP" or "DOWN".
    #[track_caller]
    pub(crate) fn wait_for_check(&mut self, check_status: &str) -> TestResult<String> {
        self.process.wait_for(check_status, |workplace| {
            let stats = ask(workplace, "show stat")?;
            (stat(&stats, "check_status")? == check_status)
                .then(|| stat(&stats, "status"))?
                .map(str::to_owned)
        })
    }
}

impl Balancer for HaProxy {
    fn port(&self) -> u16 {
        self.port
    }
}

/// What HAProxy's statistics, in CSV, say of the server.
fn stat<'a>(stats: &'a str, field: &str) -> Option<&'a str> {
    let fields = stats.lines().next()?.trim_start_matches("# ").split(',');
    let server = stats.lines().find(|line| line.starts_with("game,game,"))?;
    let mut both = fields.zip(server.split(','));
    both.find_map(|(name, value)| (name == field).then_some(value))
}

/// What it answers on its administrator's socket.
fn ask(workplace: &Workplace, command: &str) -> Option<String> {
    let mut socket = UnixStream::connect(workplace.path("admin.sock")).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    writeln!(socket, "{command}").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}
