//! Control messages: what the kernel tells of a datagram, or is told, beside its bytes (cmsg(3)).
//!
//! What cmsg(3) has macros with pointers for is arithmetic on slices here: a length that is wrong, whoever wrote it, cannot
//! lead outside of them.

#[cfg(test)]
mod tests;

/// Bytes one message with a `T` takes, padding included.
const fn space<T>() -> usize {
    space_of(size_of::<T>())
}

/// Bytes one message with so many bytes of data takes, padding included.
const fn space_of(data_len: usize) -> usize {
    DATA_AT + data_len.next_multiple_of(ALIGNMENT)
}

/// What messages are aligned to: `CMSG_ALIGN` of linux/socket.h.
const ALIGNMENT: usize = size_of::<libc::c_long>();

/// Where the data of a message begins.
const DATA_AT: usize = size_of::<libc::cmsghdr>().next_multiple_of(ALIGNMENT);

/// What fits: packet information, an original destination, each of either family, and a segment size.
const CONTROL_LEN: usize =
    space::<libc::in6_pktinfo>() + space::<libc::sockaddr_in6>() + space::<libc::c_int>();

/// Room for all control messages of one datagram, aligned as they must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control([u8; CONTROL_LEN]);

/// C values that a control message may hold, and its header.
///
/// # Safety
///
/// - Any bytes are a valid value: they hold nothing but integers.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers (ip(7)).
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: integers (ipv6(7)).
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: integers (ip(7)).
unsafe impl Plain for libc::sockaddr_in {}
// SAFETY: integers (ipv6(7)).
unsafe impl Plain for libc::sockaddr_in6 {}
// SAFETY: integers (cmsg(3)).
unsafe impl Plain for libc::cmsghdr {}
// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}

/// One control message the kernel wrote.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
    data: &'a [u8],
}

// === impl Message ===

impl Message<'_> {
    /// What it holds, if it holds at least a `T`.
    pub(super) fn value<T: Plain>(&self) -> Option<T> {
        get(self.data)
    }
}

// === impl Control ===

impl Control {
    /// The messages the kernel wrote, `len` bytes in all (`msg_controllen`).
    pub(super) fn messages(&self, len: usize) -> impl Iterator<Item = Message<'_>> {
        let mut rest = self.0.get(..len).unwrap_or(&self.0);
        std::iter::from_fn(move || {
            let header: libc::cmsghdr = get(rest)?;
            // Its length counts the header, and not the padding behind the data.
            let data = rest.get(DATA_AT..header.cmsg_len)?;
            rest = rest.get(space_of(data.len())..).unwrap_or_default();
            Some(Message {
                level: header.cmsg_level,
                kind: header.cmsg_type,
                data,
            })
        })
    }

    /// Writes a message for the kernel behind the first `len` bytes, where others are. Returns the length of it all.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub(super) fn push<T: Plain>(
        &mut self,
        len: usize,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        let end = len + space::<T>();
        let free = &mut self.0[len..end];
        let header = libc::cmsghdr {
            cmsg_len: (DATA_AT + size_of::<T>()) as _,
            cmsg_level: level,
            cmsg_type: kind,
        };
        put(free, header);
        put(&mut free[DATA_AT..], value);
        end
    }
}

/// The value that these bytes begin with, if there are enough.
fn get<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: these are the bytes of a `T`, and any bytes are one. They may be unaligned, so they are copied out.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Has these bytes begin with a value.
///
/// # Panics
///
/// If there are too few.
fn put<T: Plain>(bytes: &mut [u8], value: T) {
    let bytes = &mut bytes[..size_of::<T>()];
    // SAFETY: these are as many bytes as a `T` has, borrowed mutably, and may be unaligned.
    unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) }
}
