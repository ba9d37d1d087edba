//! The program under test.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

use super::log::Log;
use super::{Exit, PATIENCE, reachable};
use crate::namespace::TestResult;

/// What stands for an address until it is known.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// A glommproxy that is to be started.
#[derive(Debug)]
pub(crate) struct ProxyBuilder {
    listen: String,
    setup_routes: bool,
    /// Whether the arguments are all there are.
    bare: bool,
    wrapper: Vec<OsString>,
    args: Vec<OsString>,
    environment: Vec<(String, OsString)>,
}

/// A glommproxy that runs. It is killed when dropped.
pub(crate) struct Proxy {
    process: Child,
    addr: SocketAddr,
    log: Log,
    stderr: Log,
}

// === impl ProxyBuilder ===

impl ProxyBuilder {
    /// With a server for the other family.
    pub(crate) fn and(self, server: SocketAddr) -> Self {
        let flag = if server.is_ipv4() { "-4" } else { "-6" };
        self.args([flag, &server.to_string()])
    }

    /// With more arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Listening elsewhere than on 127.0.0.1. The port should be 0; ranges of ports are for hosts of the test's own.
    pub(crate) fn listen(mut self, addr: &str) -> Self {
        addr.clone_into(&mut self.listen);
        self
    }

    /// Without `--setup-routes`.
    pub(crate) fn without_routes(mut self) -> Self {
        self.setup_routes = false;
        self
    }

    /// Through another program, which executes what its arguments end with.
    pub(crate) fn under(mut self, wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let wrapper = wrapper.into_iter().map(|arg| arg.as_ref().to_owned());
        self.wrapper = wrapper.collect();
        self
    }

    /// With a variable in its environment, which is empty otherwise.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.push((name.to_owned(), value));
        self
    }

    /// With nothing on its command line but what [`ProxyBuilder::args`] were given.
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestResult<Proxy> {
        let mut proxy = self.spawn()?;
        proxy.addr = proxy.wait_ready()?;
        Ok(proxy)
    }

    /// Starts it and waits for its end, which is to come without a signal.
    #[track_caller]
    pub(crate) fn start_in_vain(self) -> TestResult<Exit> {
        self.spawn()?.exit()
    }

    /// Starts it. For those that will not say that they are ready, or not in JSON; the address is not known then.
    pub(crate) fn spawn(self) -> TestResult<Proxy> {
        let mut command = self.command();
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let stderr = process.stderr.take().ok_or("no standard error")?;
        Ok(Proxy {
            process,
            // Where an interface is named, its number is known when the proxy is ready.
            addr: first_of(&self.listen).unwrap_or(NOWHERE),
            log: Log::read(stdout),
            stderr: Log::read(stderr),
        })
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut line = self.wrapper.clone();
        line.push(env!("CARGO_BIN_EXE_glommproxy").into());
        if !self.bare {
            line.extend(["-l", &self.listen, "--log-format", "json"].map(OsString::from));
            if self.setup_routes {
                line.push("--setup-routes".into());
            }
        }
        line.extend_from_slice(&self.args);
        let mut command = Command::new(&line[0]);
        // Nothing of the tester's environment is to stand in for a flag.
        command
            .args(&line[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Most tests end it with connections open, and are not about their end.
            .env("GLOMMPROXY_DRAIN_TIMEOUT", "0")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }
}

// === impl Proxy ===

impl Proxy {
    /// A proxy with everything at its default, but on a port of the kernel's choice on 127.0.0.1.
    pub(crate) fn builder() -> ProxyBuilder {
        ProxyBuilder {
            listen: "127.0.0.1:0".to_owned(),
            setup_routes: true,
            bare: false,
            wrapper: Vec::new(),
            args: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// A proxy in front of a TCP server.
    pub(crate) fn tcp(server: SocketAddr) -> ProxyBuilder {
        Self::builder().args(["-p", "tcp"]).and(server)
    }

    /// A proxy in front of a UDP server.
    pub(crate) fn udp(server: SocketAddr) -> ProxyBuilder {
        Self::builder().args(["-p", "udp"]).and(server)
    }

    /// Where it is reached: on loopback if it listens everywhere.
    pub(crate) fn addr(&self) -> SocketAddr {
        reachable(self.addr)
    }

    /// Where it is reached on another port.
    pub(crate) fn addr_on(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr().ip(), port)
    }

    /// Where it is reached at another address of this host.
    pub(crate) fn addr_at(&self, ip: &str) -> TestResult<SocketAddr> {
        Ok(SocketAddr::new(ip.parse()?, self.addr.port()))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// All lines logged until now.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lines()
    }

    /// Waits for a line in the log, or finds it there.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> TestResult<Value> {
        let lines = self.log.wait(1, wanted)?;
        Ok(lines.into_iter().next().unwrap_or_default())
    }

    /// Waits until there are so many lines of a kind in the log.
    #[track_caller]
    pub(crate) fn wait_for_logs(
        &self,
        count: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> TestResult<Vec<Value>> {
        self.log.wait(count, wanted)
    }

    /// Waits for a line with this message.
    #[track_caller]
    pub(crate) fn wait_for_message(&self, message: &str) -> TestResult<Value> {
        self.wait_for_log(|line| line["message"] == message)
    }

    /// Whether one that was only spawned is ready by now. Fails if it has ended.
    #[track_caller]
    pub(crate) fn is_ready(&mut self) -> TestResult<bool> {
        if self.process.try_wait()?.is_some() {
            return Err("it has ended".into());
        }
        Ok(self.log().iter().any(|line| line["message"] == "ready"))
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) -> TestResult {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Does something while the proxy is stopped, so that it finds all of it at once.
    #[track_caller]
    pub(crate) fn at_once(&self, work: impl FnOnce() -> TestResult) -> TestResult {
        self.signal(Signal::STOP)?;
        // The signal's way takes a moment, and the last of the threads tells.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED)?;
        work()?;
        self.signal(Signal::CONT)
    }

    /// Ends it as an operator would, and waits.
    #[track_caller]
    pub(crate) fn stop(self) -> TestResult<Exit> {
        self.signal(Signal::TERM)?;
        self.exit()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn exit(mut self) -> TestResult<Exit> {
        let status = self.wait_in_time()?;
        let stderr = self.stderr.finish();
        let stderr = stderr.iter().filter_map(Value::as_str);
        Ok(Exit {
            code: status.code(),
            log: self.log.finish(),
            stderr: stderr.collect::<Vec<_>>().join("\n"),
        })
    }

    fn wait_ready(&self) -> TestResult<SocketAddr> {
        let ready = self.wait_for_message("ready")?;
        let addr = ready["listen_addr"].as_str().ok_or("no listen_addr")?;
        first_of(addr)
    }

    fn wait_in_time(&mut self) -> TestResult<ExitStatus> {
        let pid = self.pid();
        let (over, wait) = mpsc::channel::<()>();
        let patience = thread::spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the proxy does not end; killing it");
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let status = self.process.wait();
        drop(over);
        patience.join().map_err(|_| "the waiting thread panicked")?;
        Ok(status?)
    }
}

/// The first address of a list with ranges.
fn first_of(list: &str) -> TestResult<SocketAddr> {
    let first = list.split([',', '-']).next().unwrap_or_default();
    Ok(first.parse()?)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.log.finish();
        self.stderr.finish();
    }
}
