//! `glommproxy demo`: it shows what it promises, wherever it may, and says why where it may not.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde_json::Value;

use crate::harness::{Exit, PATIENCE, Proxy};
use crate::namespace::{TestResult, isolated, run};
use crate::routes::tables;

/// Drops the capability that a network namespace needs, so that it takes a user namespace.
const ORDINARY: [&str; 3] = ["setpriv", "--bounding-set", "-sys_admin"];

/// The lines of a table where client and server agree.
fn agreed(exit: &Exit) -> Vec<&str> {
    let lines = exit.log.iter().filter_map(Value::as_str);
    lines.filter(|line| line.ends_with(" ok")).collect()
}

#[track_caller]
fn expect_shown(exit: &Exit) -> TestResult {
    exit.expect_success()?;
    let lines = agreed(exit);
    for (header, client) in [
        ("version 1, TCP", "203.0.113.7:40001"),
        ("version 1, TCP", "[2001:db8::7]:40001"),
        ("version 2, TCP", "203.0.113.8:40001"),
        ("version 2, TCP", "[2001:db8::8]:40001"),
        ("version 2, UDP", "203.0.113.9:40001"),
        ("version 2, UDP", "[2001:db8::9]:40001"),
    ] {
        let shown = |line: &&str| line.starts_with(header) && line.matches(client).count() == 2;
        if !lines.iter().any(shown) {
            return Err(format!("no {header} of {client} in {lines:#?}").into());
        }
    }
    assert_eq!(lines.len(), 6);
    Ok(())
}

/// Blocks system calls of this number, with this first argument if there is one, for what this thread starts.
fn block(call: i64, first: Option<i32>, errno: i32) -> TestResult {
    let condition = |value: i32| -> TestResult<_> {
        let value = u64::from(value.cast_unsigned());
        let equal = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
        Ok(SeccompRule::new(vec![equal])?)
    };
    let rules = first.map(condition).transpose()?.into_iter().collect();
    let filter = SeccompFilter::new(
        [(call, rules)].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?)
}

#[test]
fn the_server_sees_the_clients_as_root_and_as_anybody() -> TestResult {
    isolated(|| {
        let before = tables()?;
        let demo = || Proxy::builder().bare().args(["demo"]);
        expect_shown(&demo().start_in_vain()?)?;
        expect_shown(&demo().under(ORDINARY).start_in_vain()?)?;
        // This host has seen nothing of it.
        assert_eq!(tables()?, before);
        Ok(())
    })
}

/// A process of this parent, if there is one (proc_pid_stat(5)).
fn child_of(parent: i32) -> TestResult<Option<i32>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end meanwhile.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        if fields.nth(1) == Some(&parent.to_string()) {
            return Ok(Some(entry.file_name().to_string_lossy().parse()?));
        }
    }
    Ok(None)
}

/// Whether a process runs, and is no zombie that nobody has buried yet.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn the_proxy_does_not_outlive_it() -> TestResult {
    isolated(|| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let demo = Proxy::builder().bare().args(["demo"]).spawn()?;
            let mut child = None;
            while child.is_none() && runs(demo.pid().as_raw_pid()) {
                child = child_of(demo.pid().as_raw_pid())?;
            }
            demo.signal(Signal::KILL)?;
            let killed = demo.exit()?.code.is_none();
            while child.is_some_and(runs) {
                assert!(Instant::now() < deadline, "it still runs");
                thread::sleep(Duration::from_millis(1));
            }
            // The demo may have been over before.
            if killed && child.is_some() {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "it was never killed in time");
        }
    })
}

/// A container is set up for its server, and the demo is a first thing to try in it.
#[test]
fn the_environment_is_not_for_it() -> TestResult {
    isolated(|| {
        let demo = Proxy::builder().bare().args(["demo"]);
        let demo = demo
            .env("GLOMMPROXY_LISTEN", "nonsense")
            .env("GLOMMPROXY_ALLOWED_SUBNETS", "/nowhere")
            .env("RUST_LOG", "off");
        expect_shown(&demo.start_in_vain()?)
    })
}

#[test]
fn without_ipv6_it_shows_ipv4() -> TestResult {
    isolated(|| {
        block(libc::SYS_socket, Some(libc::AF_INET6), libc::EAFNOSUPPORT)?;
        let exit = Proxy::builder().bare().args(["demo"]).start_in_vain()?;
        exit.expect_success()?;
        assert_eq!(agreed(&exit).len(), 3);
        let lines = exit.log.iter().filter_map(Value::as_str);
        let left_out = lines.filter(|line| line.contains("left out"));
        assert_eq!(left_out.count(), 3);
        Ok(())
    })
}

#[test]
fn a_sysctl_forbids_user_namespaces() -> TestResult {
    isolated(|| {
        // In a user namespace of its own, as the limit holds for one, and might be the host's here.
        let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -sys_admin \"$@\"";
        let wrapper = [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            forbid,
            "sh",
        ];
        let demo = Proxy::builder().bare().args(["demo"]).under(wrapper);
        demo.start_in_vain()?.expect_failure(&[
            "user.max_user_namespaces=0 is in the way",
            "run it with sudo",
            "`sudo sysctl -w user.max_user_namespaces=10000`",
        ])
    })
}

#[test]
fn a_seccomp_filter_forbids_namespaces() -> TestResult {
    isolated(|| {
        // Some sysctl may forbid them anyway, which would be named first.
        let sysctls = run(
            "cat /proc/sys/kernel/unprivileged_userns_clone /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null || true",
        )?;
        block(libc::SYS_unshare, None, libc::EPERM)?;
        let exit = Proxy::builder().bare().args(["demo"]).start_in_vain()?;
        let reason = match sysctls.trim() {
            "" | "1" => "a seccomp filter is in the way",
            _ => "is in the way",
        };
        exit.expect_failure(&[reason, "run it with sudo"])
    })
}

#[test]
fn the_proxys_own_words_if_it_does_not_start() -> TestResult {
    isolated(|| {
        block(libc::SYS_io_uring_setup, None, libc::EPERM)?;
        let exit = Proxy::builder().bare().args(["demo"]).start_in_vain()?;
        exit.expect_failure(&["does not start", "io_uring is blocked by a seccomp filter"])
    })
}

#[test]
fn it_takes_no_arguments() -> TestResult {
    isolated(|| {
        let demo = Proxy::builder().bare().args(["demo", "-l", "127.0.0.1:80"]);
        demo.start_in_vain()?
            .expect_failure(&["demo takes no arguments: remove \"-l\""])
    })
}
