//! nginx, in front and behind.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use super::process::{Process, Workplace};
use super::{Balancer, Frontend};
use crate::harness::PATIENCE;
use crate::hosts::free_port;
use crate::namespace::TestResult;
use crate::tool::{NGINX, NGINX_STREAM};

/// An nginx that passes on TCP connections with a PROXY header (version 1, the only one it sends). Killed when dropped.
pub(crate) struct NginxBalancer {
    _process: Process,
    port: u16,
}

/// An nginx that serves HTTP. Killed when dropped.
pub(crate) struct NginxServer {
    process: Process,
    port: u16,
}

// === impl NginxBalancer ===

impl NginxBalancer {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(server: SocketAddr, frontend: Frontend) -> TestResult<Self> {
        let port = free_port()?;
        let listen = match frontend {
            Frontend::PerFamily => {
                format!("listen 0.0.0.0:{port}; listen [::]:{port} ipv6only=on;")
            }
            Frontend::DualStack => format!("listen [::]:{port} ipv6only=off;"),
        };
        let module = NGINX_STREAM.installed()?;
        let process = start(
            &format!("load_module {};", module.display()),
            "",
            &format!("stream {{ server {{ {listen} proxy_pass {server}; proxy_protocol on; }} }}"),
        )?;
        Ok(Self {
            _process: process,
            port,
        })
    }
}

impl Balancer for NginxBalancer {
    fn port(&self) -> u16 {
        self.port
    }
}

// === impl NginxServer ===

impl NginxServer {
    /// Starts it on the loopback addresses of both families, and waits until it listens. It answers everything with
    /// "welcome".
    #[track_caller]
    pub(crate) fn start() -> TestResult<Self> {
        let port = free_port()?;
        let server = format!(
            r#"log_format seen "$remote_addr $remote_port $request_uri";
            server {{
                listen 127.0.0.1:{port}; listen [::1]:{port};
                access_log access.log seen;
                location / {{ return 200 welcome; }}
            }}"#
        );
        let process = start("", &server, "")?;
        Ok(Self { process, port })
    }

    /// Where it is reached at one of its two addresses.
    pub(crate) fn addr_at(&self, ip: &str) -> TestResult<SocketAddr> {
        Ok(SocketAddr::new(ip.parse()?, self.port))
    }

    /// Waits until its access log has a line of a request for this path, and returns the address and the port there,
    /// with a space between.
    #[track_caller]
    pub(crate) fn wait_for_visitor(&mut self, path: &str) -> TestResult<String> {
        let ending = format!(" {path}");
        self.process.wait_for(&format!("visitor of {path}"), |it| {
            let log = fs::read_to_string(it.path("access.log")).ok()?;
            // A line that is not complete may be still in the making.
            let mut lines = log.split_inclusive('\n');
            lines.find_map(|line| Some(line.strip_suffix('\n')?.strip_suffix(&ending)?.to_owned()))
        })
    }
}

/// Starts an nginx with these parts of a configuration, and waits until it listens. All paths are relative to its folder.
fn start(top: &str, http: &str, stream: &str) -> TestResult<Process> {
    let workplace = Workplace::new()?;
    let ready_socket = workplace.path("ready.sock");
    // Inside the namespace everybody is root, and no other user exists that it could become.
    let config = workplace.configure(&format!(
        "{top}
daemon off;
master_process off;
user root root;
pid pid;
error_log stderr info;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    access_log off;
    server {{ listen unix:{ready}; return 204; }}
    {http}
}}
{stream}
",
        ready = ready_socket.display()
    ))?;
    let folder = workplace.folder().to_owned();
    let args = [
        "-p".as_ref(),
        folder.as_os_str(),
        "-e".as_ref(),
        "stderr".as_ref(),
        "-c".as_ref(),
        config.as_os_str(),
    ];
    let mut process = Process::start(NGINX, workplace, args)?;
    // It answers after it has begun to listen everywhere.
    process.wait_for("answer", |_| {
        let mut socket = UnixStream::connect(&ready_socket).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        socket.read(&mut [0]).ok().filter(|count| *count > 0)
    })?;
    Ok(process)
}
