//! Putting a seccomp filter into force (seccomp(2)), with flags that `seccompiler` does not set.

use std::io;

use seccompiler::BpfProgramRef;

/// Whom a filter is for. Threads that are started later inherit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The one that calls.
    This,
    /// All of the process.
    All,
}

/// Whether the audit log is told of what a filter refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusals {
    Logged,
    Quiet,
}

/// Puts a filter into force, for good. This thread must have set `no_new_privs`, and the others get it with the filter.
///
/// It does not slow the thread down for the sake of programs with code of
/// strangers in one process (`SECCOMP_FILTER_FLAG_SPEC_ALLOW`), as kernels before 5.16 do otherwise.
///
/// # Errors
///
/// As `seccomp(2)`; EINVAL if the kernel has no filters, ESRCH if a thread has another filter.
pub(crate) fn install(
    program: BpfProgramRef<'_>,
    threads: Threads,
    refusals: Refusals,
) -> io::Result<()> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if refusals == Refusals::Logged {
        flags |= libc::SECCOMP_FILTER_FLAG_LOG;
    }
    if threads == Threads::All {
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC;
    }
    // The kernel only reads the program; the pointer is mutable because C has it so. `sock_filter` is the same C structure
    // in both crates.
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY:
    // - `fprog` has the layout of `struct sock_fprog` and outlives the call,
    // - `fprog.filter` points to `len` instructions that outlive the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const fprog,
        )
    };
    match result {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        // The thread that could not be brought along.
        1.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
