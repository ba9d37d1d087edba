//! What glommio's ring needs and has no safe call for.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::TcpStream;

/// `struct io_uring_params` of linux/io_uring.h, of which nothing but the size matters here.
const PARAMS_LEN: usize = 120;

/// Creates the smallest ring and closes it, to find out whether the kernel would give one.
///
/// # Errors
///
/// As `io_uring_setup(2)`: ENOSYS without support in the kernel (or by some seccomp filters), EPERM when seccomp or
/// `kernel.io_uring_disabled` forbid it, ENOMEM when RLIMIT_MEMLOCK is too small (kernels before 5.12).
pub(crate) fn probe() -> io::Result<()> {
    let mut params = [0u64; PARAMS_LEN / size_of::<u64>()];
    // SAFETY: `params` is zeroed, aligned, as large as `struct io_uring_params`, and outlives the call, which neither
    // keeps the pointer nor touches other memory.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_io_uring_setup,
            1 as libc::c_long,
            params.as_mut_ptr(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor; nobody else owns it. It fits an int, as all descriptors do.
    drop(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) });
    Ok(())
}

/// Hands a descriptor to a glommio stream, which closes it. It need not be a socket: then every read of the stream fails
/// with ENOTSOCK, once the descriptor is readable. Must be called on an executor.
pub(crate) fn into_stream(fd: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is open, and this gives its ownership away.
    unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) }
}
