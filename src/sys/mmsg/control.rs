//! Control messages: what the kernel tells of a datagram, or is told, beside its bytes (cmsg(3)).

use std::mem::MaybeUninit;
use std::ptr;

/// Bytes one message with a `T` takes, padding included.
const fn space<T>() -> usize {
    // SAFETY: plain arithmetic; the macro is unsafe only for the sake of its siblings.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize }
}

/// What fits: packet information, an original destination, each of either family, and a segment size.
const CONTROL_LEN: usize =
    space::<libc::in6_pktinfo>() + space::<libc::sockaddr_in6>() + space::<libc::c_int>();

/// Room for all control messages of one datagram, aligned as they must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control([u8; CONTROL_LEN]);

/// C values that a control message may hold.
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
        let data = self.data.get(..size_of::<T>())?;
        // SAFETY: `data` has the bytes of a `T`, and any bytes are one. They may be unaligned, so they are copied out.
        Some(unsafe { data.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// The messages the kernel wrote into `control`; `header` must point to it.
pub(super) fn messages<'a>(
    header: &'a libc::msghdr,
    control: &'a Control,
) -> impl Iterator<Item = Message<'a>> {
    debug_assert_eq!(
        header.msg_control.cast_const(),
        ptr::from_ref(control).cast()
    );
    // SAFETY: `header` has been filled by `recvmmsg`, so that `msg_control` and `msg_controllen` describe well-formed
    // messages inside `control`, which is borrowed for 'a.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: `next` is a message inside `control`, as above; its data follows it, and the length the kernel gave
        // counts both. Nothing writes to them during 'a.
        unsafe {
            let message = *next;
            let data = libc::CMSG_DATA(next);
            let data_len = (message.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            next = libc::CMSG_NXTHDR(header, next);
            Some(Message {
                level: message.cmsg_level,
                kind: message.cmsg_type,
                data: std::slice::from_raw_parts(data, data_len),
            })
        }
    })
}

// === impl Control ===

impl Control {
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
        let mut header = MaybeUninit::<libc::msghdr>::zeroed();
        // SAFETY: all-zero is a valid `msghdr`. CMSG_FIRSTHDR and CMSG_DATA give pointers into `free`, which has room for
        // the message's header, `T` and padding. It is aligned for the header: `Control` is, and `len` is a sum of
        // CMSG_SPACEs, which are multiples of that alignment.
        unsafe {
            (*header.as_mut_ptr()).msg_control = free.as_mut_ptr().cast();
            (*header.as_mut_ptr()).msg_controllen = free.len() as _;
            let message = libc::CMSG_FIRSTHDR(header.as_ptr());
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
            ptr::copy_nonoverlapping(
                (&raw const value).cast::<u8>(),
                libc::CMSG_DATA(message),
                size_of::<T>(),
            );
        }
        end
    }
}
