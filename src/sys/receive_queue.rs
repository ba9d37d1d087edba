//! How full a socket's receive buffer is, and what it had no room for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many numbers the kernel tells (linux/sock_diag.h, SK_MEMINFO_VARS), of which these are meant.
const NUMBERS: usize = 9;
const RECEIVE_USED: usize = 0;
const RECEIVE_LIMIT: usize = 1;
const DROPS: usize = 8;

/// A socket's receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiveQueue {
    /// Bytes in use, with the kernel's own for each packet. What has been read may count for a while, up to a quarter of
    /// the limit (`udp_rmem_release` in net/ipv4/udp.c).
    pub(crate) used: u32,
    /// Bytes there may be.
    pub(crate) limit: u32,
    /// Datagrams dropped since the socket was made, as the buffer was full (or their checksum wrong). A piece of several
    /// that the kernel would have handed over whole counts for one. It starts anew behind the last `u32`.
    pub(crate) dropped: u32,
}

// === impl ReceiveQueue ===

impl ReceiveQueue {
    /// That of a socket, now (socket(7) does not know it: SO_MEMINFO of asm-generic/socket.h, since Linux 4.12).
    ///
    /// # Errors
    ///
    /// As `getsockopt(2)`.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut numbers = [0u32; NUMBERS];
        let mut len = size_of_val(&numbers) as libc::socklen_t;
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - the kernel writes at most the announced `len` bytes, which are those of `numbers`, and the length to `len`;
        //   both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                numbers.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            used: numbers[RECEIVE_USED],
            limit: numbers[RECEIVE_LIMIT],
            dropped: numbers[DROPS],
        })
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn it_fills_and_what_finds_no_room_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = receiver.local_addr().expect("bound");
        let empty = ReceiveQueue::of(&receiver).expect("asked");
        assert_eq!((empty.used, empty.dropped), (0, 0));
        let sent = 2 * empty.limit / 1000;
        for _ in 0..sent {
            sender.send_to(&[0; 1000], to).expect("sent");
        }
        let full = ReceiveQueue::of(&receiver).expect("asked");
        assert!(full.used > full.limit / 2, "{full:?}");
        receiver.set_nonblocking(true).expect("an option");
        let received = std::iter::from_fn(|| receiver.recv(&mut [0; 1000]).ok()).count();
        assert_eq!(received as u32 + full.dropped, sent);
    }
}
