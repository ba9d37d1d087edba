//! Classic BPF programs that choose a socket of a reuseport group (socket(7), `SO_ATTACH_REUSEPORT_CBPF`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::sockopt::IntOption;

/// One instruction of a classic BPF program (`struct sock_filter`, linux/filter.h).
pub(crate) type Instruction = libc::sock_filter;

/// An instruction without a jump.
pub(crate) const fn statement(code: u32, k: u32) -> Instruction {
    Instruction {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// A conditional jump: how many instructions to skip if it holds, and if not.
pub(crate) const fn jump(code: u32, k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code: code as u16,
        jt: if_true,
        jf: if_false,
        k,
    }
}

/// Attaches a program to the reuseport group of a bound socket. For UDP, offset 0 is the first byte of the payload; the
/// program returns the index of a socket in bind order; a load beyond the payload returns 0. Needs no capability.
///
/// # Errors
///
/// As `setsockopt(2)`; EINVAL for a program the kernel does not accept.
pub(crate) fn attach_reuseport(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // The kernel only reads the program; the pointer is mutable because C has it so.
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY:
    // - the descriptor is open for as long as `socket` is borrowed,
    // - `fprog` has the announced size and outlives the call,
    // - `fprog.filter` points to `len` instructions that outlive the call; the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const fprog).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Detaches the program of the reuseport group of a bound socket, if there is one: the kernel then spreads what comes by
/// 4-tuple. A program stays with its group whoever attached it, for as long as some member is open. Needs no capability.
///
/// # Errors
///
/// As `setsockopt(2)`.
pub(crate) fn detach_reuseport(socket: impl AsFd) -> io::Result<()> {
    match IntOption::DETACH_REUSEPORT_PROGRAM.set(socket, 0) {
        // No program, or no group that could have one (`reuseport_detach_prog` in net/core/sock_reuseport.c).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}
