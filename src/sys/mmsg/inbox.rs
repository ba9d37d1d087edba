//! Datagrams coming in.

use std::cell::UnsafeCell;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::address::address;
use super::original::original_destination;
use super::pktinfo::{Control, local_address};
use super::{BATCH_MAX, Received, zeroed};

/// The largest UDP datagram fits: 65,507 bytes over IPv4, 65,527 over IPv6.
const DATAGRAM_MAX: usize = 65_535;

/// Distance of two receive buffers. Not a power of two: the headers of 64 datagrams would share one set of the cache.
const STRIDE: usize = DATAGRAM_MAX + 1 + 192;

/// Buffers for [`BATCH_MAX`] datagrams of any size. Memory is touched, and so used, only as far as datagrams reach.
pub(crate) struct Inbox {
    bytes: Vec<UnsafeCell<u8>>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    /// Only pointed to, by `headers`.
    _vectors: Vec<libc::iovec>,
    /// Whether senders and local addresses are asked for.
    with_addresses: bool,
    /// Places whose lengths the kernel has overwritten.
    filled: Range<usize>,
}

// === impl Inbox ===

impl Inbox {
    /// For datagrams whose sender is known, on connected sockets.
    pub(crate) fn of_payloads() -> Self {
        Self::new(false)
    }

    /// For datagrams with their senders, and their local addresses if the socket has one of the `PKTINFO` options.
    pub(crate) fn with_addresses() -> Self {
        Self::new(true)
    }

    fn new(with_addresses: bool) -> Self {
        // Zeroed memory of this size comes from the kernel untouched: 4 MiB of address space, resident only where
        // datagrams land.
        let bytes = into_cells(vec![0; BATCH_MAX * STRIDE]);
        let mut names: Vec<libc::sockaddr_storage> = zeroed();
        let mut controls: Vec<Control> = zeroed();
        let mut vectors: Vec<libc::iovec> = (0..BATCH_MAX)
            .map(|place| libc::iovec {
                iov_base: bytes[place * STRIDE..].as_ptr().cast_mut().cast(),
                iov_len: DATAGRAM_MAX,
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = zeroed();
        // The pointers hold for good: a vector's elements stay where they are when the vector moves. They are all made
        // from the vectors' own pointers, and the vectors are not written to otherwise.
        let (first_name, first_control) = (names.as_mut_ptr(), controls.as_mut_ptr());
        let first_vector = vectors.as_mut_ptr();
        for (place, header) in headers.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_iov = first_vector.wrapping_add(place);
            header.msg_iovlen = 1;
            if with_addresses {
                header.msg_name = first_name.wrapping_add(place).cast();
                header.msg_control = first_control.wrapping_add(place).cast();
            }
        }
        Self {
            bytes,
            names,
            controls,
            headers,
            _vectors: vectors,
            with_addresses,
            filled: 0..BATCH_MAX,
        }
    }

    /// Receives up to `count` datagrams without waiting, into the places `start..start + count`. Returns how many came;
    /// fewer than `count` means that the socket was empty.
    ///
    /// # Errors
    ///
    /// As `recvmmsg(2)`; WouldBlock if there is none. An error behind the first datagram is reported by the next call.
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        start: usize,
        count: usize,
    ) -> io::Result<usize> {
        assert!(start + count <= BATCH_MAX, "a batch beyond its buffers");
        if self.with_addresses {
            for place in self.filled.clone() {
                let header = &mut self.headers[place].msg_hdr;
                header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                header.msg_controllen = size_of::<Control>() as _;
            }
        }
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - `headers[start..start + count]` are in bounds, and all pointers in them are null or to vectors of this
        //   value, which live as long as it and are not borrowed now, as it is borrowed mutably for the whole call,
        // - the announced lengths are those of the buffers: STRIDE > DATAGRAM_MAX, so buffers do not overlap.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers[start..].as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error());
        // Where a call fails halfway it may have touched the place behind those it counts.
        self.filled = start..(start + received.as_ref().unwrap_or(&0) + 1).min(BATCH_MAX);
        received
    }

    /// The payload alone of the datagram in this place; for datagrams received without addresses.
    pub(crate) fn payload(&self, place: usize) -> &[u8] {
        let len = (self.headers[place].msg_len as usize).min(DATAGRAM_MAX);
        let start = place * STRIDE;
        let cells = &self.bytes[start..start + len];
        // SAFETY: the cells are written by the kernel only, during `receive`, which borrows this value mutably; while
        // the returned slice lives nothing writes to them. `UnsafeCell<u8>` has the layout of `u8`.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Where the datagram in this place was sent to, if the socket has one of the `ORIGINAL_DESTINATION` options.
    pub(crate) fn original_destination(&self, place: usize) -> Option<SocketAddr> {
        let header = &self.headers[place].msg_hdr;
        original_destination(header, &self.controls[place])
    }

    /// The datagram in this place, of those the last calls of [`Inbox::receive`] filled.
    pub(crate) fn get(&self, place: usize) -> Received<'_> {
        let header = &self.headers[place].msg_hdr;
        let (from, local) = if self.with_addresses {
            (
                address(&self.names[place], header.msg_namelen),
                local_address(header, &self.controls[place]),
            )
        } else {
            (None, None)
        };
        Received {
            payload: self.payload(place),
            from,
            local,
        }
    }
}

fn into_cells(bytes: Vec<u8>) -> Vec<UnsafeCell<u8>> {
    let mut bytes = mem::ManuallyDrop::new(bytes);
    // SAFETY: `UnsafeCell<u8>` has the layout of `u8`; pointer, length and capacity are those of a vector that will not
    // be dropped.
    unsafe { Vec::from_raw_parts(bytes.as_mut_ptr().cast(), bytes.len(), bytes.capacity()) }
}
