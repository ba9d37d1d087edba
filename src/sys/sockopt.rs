//! What can be asked of sockets and has no name in `socket2`: options, and how much is unsent.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// An integer option, by the constants of `setsockopt(2)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntOption {
    level: libc::c_int,
    name: libc::c_int,
}

impl IntOption {
    /// Let `bind(2)` with port 0 leave the choice of a port to `connect(2)`, which knows the whole 4-tuple (ip(7)).
    /// The IPv4 option serves IPv6 sockets too.
    pub(crate) const BIND_ADDRESS_NO_PORT: Self =
        Self::new(libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    /// Detach the program of a reuseport group, since Linux 5.3 (asm-generic/socket.h); the value means nothing.
    pub(crate) const DETACH_REUSEPORT_PROGRAM: Self =
        Self::new(libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF);
    /// Tell the local address of each received datagram (ip(7)).
    pub(crate) const PKTINFO_V4: Self = Self::new(libc::SOL_IP, libc::IP_PKTINFO);
    /// Tell the local address of each received datagram (ipv6(7)); IPv4 ones are told as v4-mapped.
    pub(crate) const PKTINFO_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO);
    /// Tell where each received datagram was sent to, port included, which a redirection in the kernel may have led to
    /// this socket (ip(7)). On dual-stack sockets, this is for IPv4 datagrams.
    pub(crate) const ORIGINAL_DESTINATION_V4: Self =
        Self::new(libc::SOL_IP, libc::IP_RECVORIGDSTADDR);
    /// As above, for IPv6 datagrams (linux/in6.h).
    pub(crate) const ORIGINAL_DESTINATION_V6: Self =
        Self::new(libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR);
    /// Receive buffer in bytes beyond `net.core.rmem_max`; needs CAP_NET_ADMIN (socket(7)).
    pub(crate) const RECEIVE_BUFFER_FORCE: Self = Self::new(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
    /// Hand over datagrams of one length in one piece, if they came in one, and tell that length (udp(7)).
    pub(crate) const RECEIVE_PIECES: Self = Self::new(libc::SOL_UDP, libc::UDP_GRO);
    /// Send buffer in bytes beyond `net.core.wmem_max`; needs CAP_NET_ADMIN (socket(7)).
    pub(crate) const SEND_BUFFER_FORCE: Self = Self::new(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);

    const fn new(level: libc::c_int, name: libc::c_int) -> Self {
        Self { level, name }
    }

    /// Any other option.
    #[cfg(test)]
    pub(crate) const fn for_tests(level: libc::c_int, name: libc::c_int) -> Self {
        Self::new(level, name)
    }

    /// Sets the option on a socket.
    ///
    /// # Errors
    ///
    /// As `setsockopt(2)`.
    pub(crate) fn set(self, socket: impl AsFd, value: libc::c_int) -> io::Result<()> {
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - the kernel reads exactly the announced `size_of::<c_int>()` bytes of `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                self.level,
                self.name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// The user who opened the other end of a Unix socket (unix(7), SO_PEERCRED). Its process is not asked for: where this one
/// cannot see it, in another PID namespace, it has the number 0, which `rustix` takes for impossible.
///
/// # Errors
///
/// As `getsockopt(2)`.
pub(crate) fn peer_user(socket: impl AsFd) -> io::Result<libc::uid_t> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY:
    // - the descriptor is open for as long as `socket` is borrowed,
    // - the kernel writes at most the announced `len` bytes to `peer`, integers all of them, and to `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(peer.uid)
}

/// Bytes of a TCP connection, its end included, that the far side has not acknowledged yet (tcp(7), SIOCOUTQ).
///
/// # Errors
///
/// As `ioctl(2)`.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes one int, to `count`. TIOCOUTQ
    // is the number that sockets know as SIOCOUTQ (linux/sockios.h).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}
