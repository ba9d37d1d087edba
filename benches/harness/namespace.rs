//! A host of the bench's own: a network namespace with the routes that every proxy needs.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Result;
use super::tests_namespace::{
    AS_ANYBODY, AS_ROOT, end_with_standard_input, first_that_works, path, run,
};

/// Set for the process inside.
const INSIDE: &str = "GLOMMPROXY_BENCH_INSIDE";

/// Ports that the kernel gives to clients. Proxies listen below, so that no client can be in their way.
const CLIENT_PORTS: &str = "10000 65535";
pub(crate) const PROXY_PORTS: std::ops::Range<u16> = 2000..10_000;

/// Open files we ask for. More would make proxies that size their tables by it (HAProxy) look big.
const OPEN_FILES: u64 = 65_536;

/// What go-mmproxy's users type; the README explains it.
const ROUTES: &[&str] = &[
    "ip link set lo up",
    "ip rule add from 127.0.0.1/8 iif lo table 123",
    "ip route add local default dev lo src 127.0.0.1 table 123",
];
const ROUTES_V6: &[&str] = &[
    "ip -6 rule add from ::1/128 iif lo table 123",
    "ip -6 route add local default dev lo src ::1 table 123",
];

/// Starts this program again in a namespace of its own, and returns how it ended; None in the program inside.
pub(crate) fn enter() -> Result<Option<ExitCode>> {
    if env::var_os(INSIDE).is_some() {
        end_with_standard_input();
        set_up()?;
        return Ok(None);
    }
    raise_open_files();
    // Root of the machine rather than of a user namespace, if we are: proxies in production may do as much.
    let way = first_that_works([AS_ROOT, AS_ANYBODY]).map_err(said)?;
    // A group of its own, which ends when its standard input does: nothing outlives us, however we end.
    let mut inside = Command::new(way[0])
        .args(&way[1..])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("PATH", path())
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let _lifeline = inside.stdin.take();
    let code = inside.wait()?.code().unwrap_or(1);
    Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

fn set_up() -> Result {
    let v6 = Path::new("/proc/sys/net/ipv6").exists();
    let routes = ROUTES.iter().chain(ROUTES_V6.iter().filter(|_| v6));
    for command in routes {
        run(command).map_err(said)?;
    }
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    fs::write(range, CLIENT_PORTS).map_err(|error| format!("{range}: {error}"))?;
    Ok(())
}

/// As far as we may: without it, workloads with many connections say what is missing.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    for wanted in [OPEN_FILES, OPEN_FILES.min(allowed)] {
        let new = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum.map(|maximum| maximum.max(wanted)),
        };
        if setrlimit(Resource::Nofile, new).is_ok() {
            return;
        }
    }
}

fn said(failure: impl std::fmt::Debug) -> String {
    format!("{failure:?}")
}
