//! Which system calls the process may make: seccomp(2).
//!
//! What is not listed fails as if the kernel did not have it, so that libc does without it where it can. Calls without a
//! condition on their arguments cost next to nothing: since Linux 5.11 the kernel runs no filter for them, but looks up one
//! bit. So whatever carries messages has none.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::process::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::sys::seccomp::{Refusals, Threads, install};

/// Allowed, whatever the arguments.
const ALLOWED: &[libc::c_long] = &[
    // Messages, and waiting for them.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_epoll_pwait,
    libc::SYS_io_uring_enter,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_setsockopt,
    libc::SYS_socketpair,
    // Descriptors.
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    // Files, as far as Landlock lets them be opened.
    libc::SYS_faccessat,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and signals of this process.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_setpriority,
    libc::SYS_sigaltstack,
    // The rest.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_uname,
];

/// Those that newer machines do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

/// As the kernel answers to what it does not have.
const MISSING: SeccompAction = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());

/// `PR_SET_VMA` (linux/prctl.h): glibc names memory.
const SET_VMA: u64 = 0x5356_4d41;

/// The bits of socket(2)'s type that are no flags (`SOCK_TYPE_MASK`, linux/net.h).
const SOCKET_TYPE: u64 = 0xf;

/// Restricts all threads, and those that they start. This one must have set `no_new_privs`.
///
/// # Errors
///
/// In one line.
pub(super) fn restrict_process(maps_code: bool) -> Result<(), String> {
    restrict(maps_code, Threads::All)
}

/// Restricts this thread.
///
/// # Errors
///
/// As [`restrict_process`].
pub(super) fn restrict_thread(maps_code: bool) -> Result<(), String> {
    restrict(maps_code, Threads::This)
}

fn restrict(maps_code: bool, threads: Threads) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot filter system calls: {error}");
    let filters = [
        (quiet(), Refusals::Quiet),
        (filter(maps_code), Refusals::Logged),
    ];
    for (filter, refusals) in filters {
        let filter = filter.map_err(|error| failed(&error))?;
        install(&filter, threads, refusals).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Refuses what libc tries for each thread and can do without, as nobody needs to hear of that. clone3(2) has its flags in
/// memory, where no filter sees them. The other filter allows it, so that this one has its way.
fn quiet() -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        [(libc::SYS_clone3, Vec::new())].into(),
        SeccompAction::Allow,
        MISSING,
        TargetArch::try_from(ARCH)?,
    )?
    .try_into()
}

/// The filter. Memory is executable only if `maps_code` says that libraries may have to be loaded.
fn filter(maps_code: bool) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = [ALLOWED, ALLOWED_OLD]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    rules.extend([
        (libc::SYS_socket, sockets()?),
        (
            libc::SYS_ioctl,
            one_of(
                1,
                &[
                    libc::FIONBIO,
                    libc::FIONREAD,
                    libc::SIOCGIFNAME,
                    libc::TIOCOUTQ,
                    libc::TCGETS,
                ],
            )?,
        ),
        (libc::SYS_mprotect, not_executable()?),
        (
            libc::SYS_mmap,
            if maps_code {
                Vec::new()
            } else {
                not_executable()?
            },
        ),
        // A thread, and no process.
        (
            libc::SYS_clone,
            vec![SeccompRule::new(vec![flags(
                0,
                libc::CLONE_THREAD as u64,
            )?])?],
        ),
        (
            libc::SYS_tgkill,
            vec![SeccompRule::new(vec![own_process()?])?],
        ),
        // One's own limits, to be read.
        (
            libc::SYS_prlimit64,
            vec![SeccompRule::new(vec![equal(0, 0)?, is_null(2)?])?],
        ),
        (
            libc::SYS_prctl,
            one_of(
                0,
                &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, SET_VMA],
            )?,
        ),
    ]);
    let filter = SeccompFilter::new(
        rules,
        MISSING,
        SeccompAction::Allow,
        TargetArch::try_from(ARCH)?,
    )?;
    BpfProgram::try_from(filter)
}

/// Streams and datagrams, and what speaks with the kernel of routes: no raw sockets, which CAP_NET_RAW would allow.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = vec![
        SeccompRule::new(vec![equal(0, libc::AF_UNIX as u64)?])?,
        SeccompRule::new(vec![
            equal(0, libc::AF_NETLINK as u64)?,
            equal(2, libc::NETLINK_ROUTE as u64)?,
        ])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let is_kind = condition(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), kind as u64)?;
            rules.push(SeccompRule::new(vec![equal(0, family as u64)?, is_kind])?);
        }
    }
    Ok(rules)
}

fn not_executable() -> Result<Vec<SeccompRule>, BackendError> {
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    Ok(vec![SeccompRule::new(vec![condition(2, executable, 0)?])?])
}

/// A rule for each of the values that an argument may have.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value: &u64| SeccompRule::new(vec![equal(argument, *value)?]);
    values.iter().map(rule).collect()
}

fn own_process() -> Result<SeccompCondition, BackendError> {
    equal(0, u64::from(getpid().as_raw_nonzero().get().unsigned_abs()))
}

fn is_null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// Whether all these bits are set.
fn flags(argument: u8, bits: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(bits),
        bits,
    )
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

/// Of an argument that the kernel takes for an int.
fn condition(
    argument: u8,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
}
