//! Tests in a user and network namespace of their own, so that the host's rules, routes and ports are never touched.
//!
//! A test starts the test binary again for itself alone, under `unshare` (util-linux), with an environment variable
//! that says which role the new process has. That way no test needs root, and none needs `unsafe`.

use std::any::type_name;
use std::env;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process_group};

#[path = "failure.rs"]
mod failure;

pub(crate) use failure::TestResult;

/// The variable that says which test a process is started for …
pub(crate) const TEST: &str = "GLOMMPROXY_TEST_NAME";
/// … and the one that says what it is to do in it.
const ROLE: &str = "GLOMMPROXY_TEST_ROLE";

/// The role of the process that runs a test's body.
const INSIDE: &str = "inside";

/// Into a network namespace without being root: in a user namespace of our own.
pub(crate) const AS_ANYBODY: &[&str] = &["unshare", "--user", "--map-root-user", "--net"];
/// Into a network namespace as root.
pub(crate) const AS_ROOT: &[&str] = &["unshare", "--net"];

/// The most time one test may take. Only a test that hangs takes it.
const TEST_MAX: Duration = Duration::from_secs(60);

/// Runs the closure in a new namespace with the loopback device up. It must be written in the body of the test itself:
/// the test's name is read off its type.
pub(crate) fn isolated<F: FnOnce() -> TestResult>(body: F) -> TestResult {
    isolated_for(Duration::ZERO, body)
}

/// The same for a body that takes so long by itself. What it prints is printed.
#[allow(clippy::print_stdout)]
pub(crate) fn isolated_for<F: FnOnce() -> TestResult>(length: Duration, body: F) -> TestResult {
    if role().is_some() {
        return inside(body);
    }
    let text = run_inside(&name_around::<F>()?, length + TEST_MAX)?;
    print!("{text}");
    Ok(())
}

fn inside(body: impl FnOnce() -> TestResult) -> TestResult {
    if role().as_deref() == Some(INSIDE) {
        end_with_standard_input();
        run("ip link set lo up")?;
    }
    body()
}

/// What this process is started for, if a test started it.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Runs a shell command and returns what it wrote.
#[track_caller]
pub(crate) fn run(command: &str) -> TestResult<String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .env("PATH", path())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{command}` failed: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Gives this host another address, and waits until it is its own: for IPv6 the kernel does that a little later.
#[track_caller]
pub(crate) fn add_address(ip: &str) -> TestResult {
    let options = if ip.contains(':') { "nodad" } else { "" };
    run(&format!("ip address add {ip} dev lo {options}"))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !run(&format!("ip route get {ip} 2>&1 || true"))?.starts_with("local") {
        if Instant::now() > deadline {
            return Err(format!("{ip} does not become an address of this host").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Returns what it said.
fn run_inside(test: &str, time_max: Duration) -> TestResult<String> {
    // A group of its own, so that everything it starts can be ended with it.
    let process = test_command(test, unshare()?, INSIDE)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (output, timed_out) = output_in_time(process, time_max)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if timed_out {
        return Err(
            format!("not over after {time_max:?}; so far it says:\n{text}\n{errors}").into(),
        );
    }
    // A wrong name would run no test and succeed.
    if !output.status.success() || !text.contains("1 passed") {
        return Err(format!("in its namespace, the test {test} says:\n{text}\n{errors}").into());
    }
    Ok(text.into_owned())
}

/// Waits for the process, and ends it and all that it started if that takes too long.
fn output_in_time(mut process: Child, time_max: Duration) -> TestResult<(Output, bool)> {
    let group = Pid::from_child(&process);
    // Held open until the end: see `end_with_standard_input`.
    let _lifeline = process.stdin.take();
    let (over, wait) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let timed_out = wait.recv_timeout(time_max) == Err(RecvTimeoutError::Timeout);
        if timed_out {
            // It fails if the process ended just now, which is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
        timed_out
    });
    let output = process.wait_with_output();
    drop(over);
    let timed_out = watchdog.join().map_err(|_| "the watchdog panicked")?;
    Ok((output?, timed_out))
}

/// Ends this process and all that it started when its standard input ends: then the test runner is gone, interrupted
/// at a terminal perhaps, and nobody else would end them.
pub(crate) fn end_with_standard_input() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = kill_current_process_group(Signal::KILL);
    });
}

/// The name of the test function that a closure is written in, as the test runner knows it.
fn name_around<F>() -> TestResult<String> {
    let path = type_name::<F>();
    path.split_once("::")
        .and_then(|(_crate_name, path)| path.strip_suffix("::{{closure}}"))
        .map(str::to_owned)
        .ok_or_else(|| format!("{path} is no closure in a test").into())
}

/// A command that runs this test alone, in a role. It is started through `wrapper`, a program that executes what its
/// arguments end with, if there is one.
pub(crate) fn test_command(test: &str, wrapper: &[&str], role: &str) -> TestResult<Command> {
    let program = env::current_exe()?;
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(TEST, test)
        .env(ROLE, role)
        .env("PATH", path());
    Ok(command)
}

/// How to get a network namespace: in a user namespace of our own, or as root if those are forbidden.
fn unshare() -> TestResult<&'static [&'static str]> {
    first_that_works([AS_ANYBODY, AS_ROOT])
}

/// The first of two ways to get a network namespace that this machine and user have.
pub(crate) fn first_that_works(
    ways: [&'static [&'static str]; 2],
) -> TestResult<&'static [&'static str]> {
    let works = |way: &&&[&str]| {
        let mut probe = Command::new(way[0]);
        probe
            .args(&way[1..])
            .args(["ip", "link", "set", "lo", "up"])
            .env("PATH", path());
        probe
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(works).copied();
    way.ok_or_else(|| {
        "a network namespace is needed: install util-linux and iproute2, and allow user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0) or run as root"
            .into()
    })
}

/// `ip` is where an ordinary user's path often does not lead.
pub(crate) fn path() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}
