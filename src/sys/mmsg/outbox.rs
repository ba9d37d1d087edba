//! Datagrams going out.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::address::set_address;
use super::pktinfo::{Control, set_local_address};
use super::{BATCH_MAX, Destination, Outgoing, zeroed};

/// Scratch space for sending.
pub(crate) struct Outbox {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    /// Of each datagram, its header and its payload.
    vectors: Vec<[libc::iovec; 2]>,
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            names: zeroed(),
            controls: zeroed(),
            headers: zeroed(),
            vectors: zeroed(),
        }
    }

    /// Sends `count` (at most [`BATCH_MAX`]) datagrams without waiting; `datagram(i)` gives the one to send at place
    /// `i`. Returns how many the kernel took: if fewer, the next one failed, and sending it again tells why.
    ///
    /// # Errors
    ///
    /// As `sendmmsg(2)`, if the first datagram fails.
    pub(crate) fn send<'a>(
        &mut self,
        socket: impl AsFd,
        count: usize,
        mut datagram: impl FnMut(usize) -> Outgoing<'a>,
    ) -> io::Result<usize> {
        let count = count.min(BATCH_MAX);
        for place in 0..count {
            let Outgoing {
                header,
                payload,
                to,
            } = datagram(place);
            // The kernel only reads what it sends; the pointer is mutable because C has it so.
            self.vectors[place] = [header, payload].map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            });
            let without_header = usize::from(header.is_empty());
            let header = &mut self.headers[place].msg_hdr;
            header.msg_iovlen = (2 - without_header) as _;
            header.msg_namelen = 0;
            header.msg_controllen = 0;
            let Some(Destination { to, from }) = to else {
                continue;
            };
            header.msg_namelen = set_address(&mut self.names[place], to);
            if let Some(local) = from {
                let v6_socket = to.is_ipv6();
                let control = &mut self.controls[place];
                header.msg_controllen = set_local_address(control, local, v6_socket) as _;
            }
        }
        // All pointers are made at once, from the vectors' own, which are not written to again before the call.
        let (first_name, first_control) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        let first_vector = self.vectors.as_mut_ptr();
        for (place, header) in self.headers[..count].iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            let vectors = first_vector.wrapping_add(place).cast::<libc::iovec>();
            // The payload's alone, or both.
            header.msg_iov = vectors.wrapping_add(usize::from(header.msg_iovlen == 1));
            header.msg_name = match header.msg_namelen {
                0 => ptr::null_mut(),
                _ => first_name.wrapping_add(place).cast(),
            };
            header.msg_control = match header.msg_controllen {
                0 => ptr::null_mut(),
                _ => first_control.wrapping_add(place).cast(),
            };
        }
        // SAFETY:
        // - the descriptor is open for as long as `socket` is borrowed,
        // - `headers[..count]` are in bounds; their names, controls and vectors point into vectors of this value,
        //   which is borrowed mutably for the whole call,
        // - each datagram's vectors are the last one or both of its two,
        // - headers and payloads outlive the call: 'a outlives this function's body, and the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
