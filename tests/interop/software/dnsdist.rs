//! dnsdist in front.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use super::Balancer;
use super::process::{Process, Workplace};
use crate::hosts::{BALANCER_V4, BALANCER_V6, free_port};
use crate::namespace::TestResult;
use crate::tool::DNSDIST;

/// A dnsdist with one server, which it speaks to over UDP and TCP with PROXY headers of version 2. Killed when dropped.
pub(crate) struct Dnsdist {
    process: Process,
    port: u16,
}

// === impl Dnsdist ===

impl Dnsdist {
    /// Starts it on the balancer's addresses, and waits until it listens. It has checked its server's health by then.
    #[track_caller]
    pub(crate) fn start(server: SocketAddr) -> TestResult<Self> {
        let workplace = Workplace::new()?;
        let port = free_port()?;
        // Without the line on security it asks the vendor, over DNS, whether it has known holes. The last line switches
        // off a limit of connections in its queue, of which it loses count: a thread may take one out of the queue before
        // another has counted it in, and the next is then one too many ("too many queued already").
        let config = workplace.configure(&format!(
            r#"setLocal("{BALANCER_V4}:{port}")
addLocal("[{BALANCER_V6}]:{port}")
setACL({{"0.0.0.0/0", "::/0"}})
newServer({{address="{server}", useProxyProtocol=true}})
setSecurityPollSuffix("")
setMaxTCPQueuedConnections(0)
"#
        ))?;
        let args = [
            "--supervised".as_ref(),
            "--disable-syslog".as_ref(),
            "-C".as_ref(),
            config.as_os_str(),
        ];
        let mut process = Process::start(DNSDIST, workplace, args)?;
        // It binds its sockets in the order of its configuration, those for UDP first.
        let last = SocketAddr::new(BALANCER_V6.parse()?, port);
        process.wait_for("listener", |_| TcpStream::connect(last).ok())?;
        Ok(Self { process, port })
    }

    /// Waits until it says that its server has answered its health check.
    #[track_caller]
    pub(crate) fn wait_until_up(&mut self) -> TestResult {
        self.process.wait_for("server that is up", |workplace| {
            let log = fs::read_to_string(workplace.path("log")).ok()?;
            log.contains(" as 'up'").then_some(())
        })
    }
}

impl Balancer for Dnsdist {
    fn port(&self) -> u16 {
        self.port
    }
}
