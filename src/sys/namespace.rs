//! A network of one's own, and processes that do not outlive the one that started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this thread, and what it starts from here on, into a new network namespace. Needs CAP_SYS_ADMIN.
///
/// # Errors
///
/// As `unshare(2)`.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: file descriptors stay shared between all threads, as CLONE_FILES is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// As [`unshare_network`], in a new user namespace in which this process has all capabilities (user_namespaces(7)).
/// Needs none, but the process may have no other thread.
///
/// # Errors
///
/// As `unshare(2)`; EPERM and ENOSPC where the host's owner does not want it.
pub(crate) fn unshare_user_and_network() -> io::Result<()> {
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Has the process that a command starts killed when the thread that started it ends, however that comes.
pub(crate) fn end_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It has ended already, and nobody will be told any more.
        if getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec in a child, the closure makes two system calls, prctl(2) and getppid(2), and
    // nothing else; it allocates nothing, not for its errors either.
    unsafe {
        command.pre_exec(tie);
    }
}
