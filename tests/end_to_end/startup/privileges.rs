//! What the kernel has to allow.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::harness::{Exit, Proxy};
use crate::namespace::{TestResult, isolated};

#[test]
fn without_capabilities_it_cannot_speak_for_clients() -> TestResult {
    isolated(|| {
        let exit = Proxy::builder()
            .without_routes()
            .under(["setpriv", "--bounding-set", "-net_raw,-net_admin"])
            .start_in_vain()?;
        exit.expect_failure(&[
            "cannot spoof addresses (IP_TRANSPARENT)",
            "CAP_NET_ADMIN or CAP_NET_RAW",
        ])
    })
}

/// Starts it under a filter as container runtimes have it: io_uring_setup fails with this error.
fn start_without_uring(errno: i32) -> TestResult<Exit> {
    let filter = SeccompFilter::new(
        [(libc::SYS_io_uring_setup, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?;
    // For this thread, and what it starts.
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Proxy::builder().start_in_vain()
}

const BLOCKED: [&str; 3] = [
    "io_uring is blocked by a seccomp filter",
    "io_uring_setup, io_uring_enter and io_uring_register",
    "--security-opt seccomp=",
];

#[test]
fn a_seccomp_filter_that_forbids_io_uring() -> TestResult {
    isolated(|| start_without_uring(libc::EPERM)?.expect_failure(&BLOCKED))
}

#[test]
fn a_seccomp_filter_that_denies_io_uring_exists() -> TestResult {
    isolated(|| start_without_uring(libc::ENOSYS)?.expect_failure(&BLOCKED))
}
