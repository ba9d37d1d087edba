//! The descriptors that systemd passes (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether they have been handed out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors and their names, once: none from the second call on, and none without `LISTEN_FDS`. To be called before
/// the process opens anything itself.
///
/// # Errors
///
/// If `LISTEN_PID` or `LISTEN_FDS` is no number, or one of the descriptors is not open.
pub(crate) fn take_descriptors() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    let own = passed.map(|(descriptor, name)| {
        // SAFETY:
        // - the descriptor is open, as setting its FD_CLOEXEC has just shown,
        // - it was passed to this process to own (`LISTEN_PID`), and this runs once, before anybody else may have it.
        (name, unsafe { OwnedFd::from_raw_fd(descriptor) })
    });
    Ok(own.collect())
}
