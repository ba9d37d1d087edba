//! Resource limits.

use std::fs;

use crate::harness::Proxy;
use crate::namespace::{TestResult, isolated};

/// The soft and the hard limit of this name (proc_pid_limits(5)).
fn limit(proxy: &Proxy, name: &str) -> TestResult<(String, String)> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.pid().as_raw_pid()))?;
    let mut values = limits
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such limit")?
        .split_whitespace()
        .map(str::to_owned);
    let (soft, hard) = (values.next(), values.next());
    Ok((soft.ok_or("no soft limit")?, hard.ok_or("no hard limit")?))
}

fn is_descriptor_warning(line: &serde_json::Value) -> bool {
    let message = line["message"].as_str().unwrap_or_default();
    message.starts_with("the limit of open files is too small")
}

#[test]
fn open_files_are_raised_to_the_hard_limit() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .under(["prlimit", "--nofile=256:1000"])
            .start()?;
        let all = ("1000".to_owned(), "1000".to_owned());
        assert_eq!(limit(&proxy, "Max open files")?, all);
        // By default TCP has no cap that could be too large.
        assert!(!proxy.log().iter().any(is_descriptor_warning));
        proxy.stop()?.expect_success()
    })
}

#[test]
fn a_cap_of_flows_that_cannot_fit_is_told() -> TestResult {
    isolated(|| {
        let start = |flows| {
            Proxy::builder()
                .under(["prlimit", "--nofile=256:1000"])
                .args(["-p", "udp", "--listeners", "1", "--max-flows", flows])
                .start()
        };
        let warning = start("16384")?.wait_for_log(is_descriptor_warning)?;
        assert_eq!(warning["level"], "WARN");
        assert_eq!(
            (&warning["limit"], &warning["max_flows"]),
            (&1000.into(), &16384.into())
        );
        assert!(!start("500")?.log().iter().any(is_descriptor_warning));
        Ok(())
    })
}

#[test]
fn a_cap_of_connections_that_cannot_fit_is_told() -> TestResult {
    isolated(|| {
        let start = |connections| {
            Proxy::builder()
                .under(["prlimit", "--nofile=256:1000"])
                .args(["--listeners", "1", "--max-connections", connections])
                .start()
        };
        // Each takes two.
        let warning = start("500")?.wait_for_log(is_descriptor_warning)?;
        assert_eq!(warning["level"], "WARN");
        assert_eq!(
            (&warning["limit"], &warning["max_connections"]),
            (&1000.into(), &500.into())
        );
        assert!(!start("400")?.log().iter().any(is_descriptor_warning));
        Ok(())
    })
}

/// They and their connections are not to be what flows have no descriptors for.
#[test]
fn the_admin_endpoint_and_the_access_log_count_as_open_files() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("access.log").display().to_string();
        let needed = |more: &[&str]| -> TestResult<u64> {
            let proxy = Proxy::builder()
                .under(["prlimit", "--nofile=256:1000"])
                .args(["-p", "udp", "--listeners", "1"])
                .args(more)
                .start()?;
            let warning = proxy.wait_for_log(is_descriptor_warning)?;
            proxy.stop()?.expect_success()?;
            Ok(warning["needed"].as_u64().ok_or("no number")?)
        };
        let plain = needed(&[])?;
        assert_eq!(needed(&["--access-log", &log])?, plain + 2);
        // With its 32 connections.
        assert_eq!(needed(&["--admin", "127.0.0.1:0"])?, plain + 41);
        Ok(())
    })
}

/// Root is given the right to raise it only where nobody has made a user namespace of ours.
const WITHOUT_RESOURCE: [&str; 3] = ["setpriv", "--bounding-set", "-sys_resource"];

/// All of it: it is shared with the other processes of this user.
#[test]
fn locked_memory_is_raised_to_the_hard_limit() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .under(
                ["prlimit", "--memlock=65536:"]
                    .iter()
                    .chain(&WITHOUT_RESOURCE),
            )
            .start()?;
        let (soft, hard) = limit(&proxy, "Max locked memory")?;
        assert_eq!(soft, hard);
        proxy.stop()?.expect_success()
    })
}

#[test]
fn too_low_a_hard_limit_of_locked_memory_is_told() -> TestResult {
    isolated(|| {
        let exit = Proxy::builder()
            .under(
                ["prlimit", "--memlock=65536:65536"]
                    .iter()
                    .chain(&WITHOUT_RESOURCE),
            )
            .start_in_vain()?;
        exit.expect_failure(&[
            "only 65536 bytes of memory may be locked (RLIMIT_MEMLOCK)",
            "--ulimit",
        ])
    })
}

#[test]
fn too_low_a_hard_limit_of_open_files_is_told() -> TestResult {
    isolated(|| {
        let exit = Proxy::builder()
            .under(["prlimit", "--nofile=40:40"])
            .args(["--listeners", "3"])
            .start_in_vain()?;
        exit.expect_failure(&[
            "only 40 files may be open (RLIMIT_NOFILE)",
            "3 listeners need",
        ])
    })
}
