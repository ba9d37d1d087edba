//! What the host has to allow before a shard can start, and how to make it.

use std::fs;
use std::io;

use glommio::GlommioError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::uname;

use crate::admin::CONNECTIONS_MAX;
use crate::limits::set_descriptors;
use crate::sys::uring;

/// glommio 0.9 refuses to start below this RLIMIT_MEMLOCK.
const MEMLOCK_MIN: u64 = 512 << 10;

/// glommio 0.9 needs io_uring operations of this kernel.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Descriptors that the process has open when it is ready, with some to spare: logs, coordinator, lists, routes …
const DESCRIPTORS_PROCESS: u64 = 32;

/// … and those of a shard beside its listening sockets: three rings, epoll, four of
/// eventfd, lifelines.
const DESCRIPTORS_SHARD: u64 = 13;

/// Of the admin endpoint: its listener, twice, what its executor waits with, the way to the coordinator, a look at
/// `/proc`, and its connections (`admin::CONNECTIONS_MAX`).
const DESCRIPTORS_ADMIN: u64 = 9 + CONNECTIONS_MAX as u64;

/// Of the access log: its file, and the new one when it is opened anew.
const DESCRIPTORS_ACCESS_LOG: u64 = 2;

/// What takes descriptors, without any connection or flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// How many shards there are to be.
    pub shards: usize,
    /// How many sockets each of them listens on.
    pub sockets: usize,
    /// Whether there is an admin endpoint.
    pub admin: bool,
    /// Whether there is an access log.
    pub access_log: bool,
}

/// What a connection takes: the balancer's side and the server's.
const DESCRIPTORS_CONNECTION: u64 = 2;

/// Descriptors that connections and flows leave alone, for the admin endpoint, lists, and looking up names: a flood must not
/// keep an operator from finding out, or from ending it.
const DESCRIPTORS_KEPT: u64 = 24;

/// Raises the limit of locked memory of a shell, and of what it starts. `ulimit -l` cannot: it is the hard limit that is
/// too low.
const RAISE_MEMLOCK: &str = "sudo prlimit --pid $$ --memlock=8388608:8388608";

/// As above, where processes of the same user have used that much.
const RAISE_MEMLOCK_FURTHER: &str = "sudo prlimit --pid $$ --memlock=67108864:67108864";

/// Switches io_uring on.
const ENABLE_URING: &str = "sysctl -w kernel.io_uring_disabled=0";

/// Starts a container with the profile that comes with the sources.
const DOCKER_RUN: &str =
    "docker run --security-opt seccomp=docker/seccomp.json --ulimit memlock=8388608 …";

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel is older than 5.8.
    #[error("Linux {0} is too old: glommproxy needs 5.8 or newer, for io_uring")]
    Kernel(String),
    /// RLIMIT_MEMLOCK is below 512 KiB and cannot be raised.
    #[error(
        "only {0} bytes of memory may be locked (RLIMIT_MEMLOCK) and io_uring needs 524288: with Docker add `--ulimit \
         memlock=8388608`, with systemd `LimitMEMLOCK=8M`, in a shell `{raise}`",
        raise = RAISE_MEMLOCK
    )]
    Memlock(u64),
    /// RLIMIT_MEMLOCK is used up, which counts for all processes of the user together.
    #[error(
        "no memory for io_uring: the {0} bytes that may be locked (RLIMIT_MEMLOCK) are for all processes of this user \
         together and used up: raise the limit (Docker `--ulimit memlock=67108864`, systemd `LimitMEMLOCK=64M`), or use \
         fewer --listeners"
    )]
    MemlockUsed(u64),
    /// Too few descriptors for the rings and sockets of all shards.
    #[error(
        "only {limit} files may be open (RLIMIT_NOFILE) and {shards} listeners need {needed}: raise it (systemd: \
         LimitNOFILE, Docker: --ulimit nofile), or use fewer --listeners"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// What they need at least.
        needed: u64,
        /// How many shards there are to be.
        shards: usize,
    },
    /// `kernel.io_uring_disabled` is 1 or 2.
    #[error(
        "io_uring is switched off on this host (kernel.io_uring_disabled={0}): `{enable}`, \
         or with 1 put the process into the group of kernel.io_uring_group",
        enable = ENABLE_URING
    )]
    Disabled(String),
    /// A seccomp filter is in force.
    #[error(
        "io_uring is blocked by a seccomp filter ({0}): run with a profile that allows io_uring_setup, io_uring_enter and \
         io_uring_register (Docker: `{run}`, Kubernetes: a Localhost seccompProfile)",
        run = DOCKER_RUN
    )]
    Seccomp(io::Error),
    /// The kernel was built without it.
    #[error("this kernel has no io_uring ({0}): it was built without CONFIG_IO_URING")]
    Missing(io::Error),
    /// Anything else.
    #[error("the kernel gives no io_uring: {0}")]
    Uring(io::Error),
}

// === impl HostError ===

impl HostError {
    /// The shell commands that mend it, or show what is wrong; none for an old kernel, which each distribution has its
    /// own way to replace.
    pub(crate) fn commands(&self) -> Vec<String> {
        let command = match self {
            Self::Kernel(_) => return Vec::new(),
            Self::Memlock(_) => RAISE_MEMLOCK.to_owned(),
            Self::MemlockUsed(_) => RAISE_MEMLOCK_FURTHER.to_owned(),
            Self::Descriptors { needed, .. } => raise_descriptors(*needed),
            Self::Disabled(_) => ENABLE_URING.to_owned(),
            Self::Seccomp(_) => DOCKER_RUN.to_owned(),
            Self::Missing(_) => "grep IO_URING \"/boot/config-$(uname -r)\"".to_owned(),
            Self::Uring(_) => "sysctl kernel.io_uring_disabled".to_owned(),
        };
        vec![command]
    }
}

/// The command that raises the limit of descriptors of a shell, and of what it starts.
pub(crate) fn raise_descriptors(needed: u64) -> String {
    format!("sudo prlimit --pid $$ --nofile={needed}:{needed}")
}

/// Checks that all this can run here, and raises the limits of descriptors and
/// locked memory as far as possible.
///
/// # Errors
///
/// One that names what is in the way and how to mend it.
pub fn check(needs: Needs) -> Result<(), HostError> {
    check_kernel()?;
    raise_memlock()?;
    set_descriptors(check_descriptors(needs)? - descriptors(needs));
    check_uring()
}

/// The kernel's release, if it is new enough.
pub(crate) fn check_kernel() -> Result<String, HostError> {
    let release = uname().release().to_string_lossy().into_owned();
    check_release(&release)?;
    Ok(release)
}

/// Raises the limit of descriptors, and returns it if it holds all this and a connection: glommio panics where it cannot
/// open one.
pub(crate) fn check_descriptors(needs: Needs) -> Result<u64, HostError> {
    let limit = raise_descriptor_limit();
    let needed = descriptors(needs) + DESCRIPTORS_CONNECTION;
    if limit < needed {
        return Err(HostError::Descriptors {
            limit,
            needed,
            shards: needs.shards,
        });
    }
    Ok(limit)
}

/// Whether the kernel gives a ring.
pub(crate) fn check_uring() -> Result<(), HostError> {
    uring::probe().map_err(|error| {
        explain(
            error,
            &read("/proc/sys/kernel/io_uring_disabled"),
            filtered(),
        )
    })
}

/// The descriptors that all this takes; what is left is for connections and flows.
pub fn descriptors(needs: Needs) -> u64 {
    let Needs {
        shards,
        sockets,
        admin,
        access_log,
    } = needs;
    let of = |there_is: bool, count: u64| if there_is { count } else { 0 };
    DESCRIPTORS_PROCESS
        + DESCRIPTORS_KEPT
        + (DESCRIPTORS_SHARD + sockets as u64) * shards as u64
        + of(admin, DESCRIPTORS_ADMIN)
        + of(access_log, DESCRIPTORS_ACCESS_LOG)
}

/// Why an executor could not start, or ended.
pub(crate) fn executor_failure<T>(error: &GlommioError<T>) -> String {
    match error {
        // The probe had enough, but all rings together do not.
        GlommioError::IoError(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            HostError::MemlockUsed(memlock().unwrap_or(u64::MAX)).to_string()
        }
        error => error.to_string(),
    }
}

/// Raises the limit of open descriptors to the most this process may have, and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // It cannot fail within the hard limit; if it does, the old limit holds.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn check_release(release: &str) -> Result<(), HostError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < KERNEL_MIN => {
            Err(HostError::Kernel(release.to_owned()))
        }
        // A release of another form is no reason to refuse; the probe tells.
        _ => Ok(()),
    }
}

/// Raises the limit of locked memory to the most this process may have: on kernels that account rings to it, it is shared
/// by all shards, and by all processes of the user. Returns it in bytes, None if there is none.
pub(crate) fn raise_memlock() -> Result<Option<u64>, HostError> {
    let maximum = getrlimit(Resource::Memlock).maximum;
    let raise = |limit| {
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        setrlimit(Resource::Memlock, limit)
    };
    // Beyond the hard limit with CAP_SYS_RESOURCE only, up to it anybody may.
    if raise(maximum.map(|maximum| maximum.max(MEMLOCK_MIN))).is_err() {
        let _ = raise(maximum);
    }
    match memlock() {
        Some(limit) if limit < MEMLOCK_MIN => Err(HostError::Memlock(limit)),
        limit => Ok(limit),
    }
}

/// RLIMIT_MEMLOCK in bytes, None without a limit.
fn memlock() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Tells a failed io_uring_setup(2) by what else is known of the host.
fn explain(error: io::Error, disabled: &str, filtered: bool) -> HostError {
    match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), "1" | "2") => HostError::Disabled(disabled.trim().to_owned()),
        (Some(libc::EPERM | libc::ENOSYS | libc::EACCES), _) if filtered => {
            HostError::Seccomp(error)
        }
        (Some(libc::ENOSYS), _) => HostError::Missing(error),
        (Some(libc::ENOMEM), _) => HostError::MemlockUsed(memlock().unwrap_or(u64::MAX)),
        _ => HostError::Uring(error),
    }
}

/// Whether a seccomp filter is in force (proc_pid_status(5)).
pub(crate) fn filtered() -> bool {
    read("/proc/self/status").lines().any(|line| {
        line.strip_prefix("Seccomp:")
            .is_some_and(|mode| mode.trim() == "2")
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused() {
        for (release, ok) in [
            ("5.7.19", false),
            ("4.19.0-27-amd64", false),
            ("5.8.0", true),
            ("5.10.0-28-cloud-amd64", true),
            ("6.18.44", true),
            ("7-next", true),
        ] {
            assert_eq!(check_release(release).is_ok(), ok, "{release}");
        }
    }

    #[test]
    fn rings_without_memory_name_the_limit() {
        let failed = |errno| GlommioError::<()>::from(io::Error::from_raw_os_error(errno));
        assert!(executor_failure(&failed(libc::ENOMEM)).contains("RLIMIT_MEMLOCK"));
        assert!(!executor_failure(&failed(libc::EMFILE)).contains("RLIMIT_MEMLOCK"));
    }

    #[test]
    fn each_obstacle_is_told_apart() {
        let failed = |errno| io::Error::from_raw_os_error(errno);
        assert!(
            matches!(explain(failed(libc::EPERM), "2\n", true), HostError::Disabled(value) if value == "2")
        );
        assert!(matches!(
            explain(failed(libc::EPERM), "0\n", true),
            HostError::Seccomp(_)
        ));
        assert!(matches!(
            explain(failed(libc::ENOSYS), "", true),
            HostError::Seccomp(_)
        ));
        assert!(matches!(
            explain(failed(libc::ENOSYS), "", false),
            HostError::Missing(_)
        ));
        assert!(matches!(
            explain(failed(libc::ENOMEM), "0", false),
            HostError::MemlockUsed(_)
        ));
        assert!(matches!(
            explain(failed(libc::EMFILE), "0", false),
            HostError::Uring(_)
        ));
    }
}
