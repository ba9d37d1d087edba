//! Where a redirected datagram was sent to, as a control message (`IP_RECVORIGDSTADDR`, ip(7)).

use std::mem::MaybeUninit;
use std::net::SocketAddr;

use super::address::address;
use super::pktinfo::Control;

/// Finds the original destination among the control messages the kernel wrote.
pub(super) fn original_destination(header: &libc::msghdr, control: &Control) -> Option<SocketAddr> {
    debug_assert_eq!(
        header.msg_control.cast_const(),
        std::ptr::from_ref(control).cast()
    );
    // SAFETY: `header` has been filled by `recvmmsg`, so that `msg_control` and `msg_controllen` describe well-formed
    // control messages inside `control`, which is borrowed for the whole function; CMSG_FIRSTHDR, CMSG_NXTHDR and
    // CMSG_DATA stay inside them. Data may be unaligned, so it is copied, as many bytes as the message says that it has,
    // and no more than fit, into a structure for which all-zero is a valid value.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if let (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) =
                ((*message).cmsg_level, (*message).cmsg_type)
            {
                let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
                // CMSG_LEN(0) is what stands before the data (cmsg(3)).
                let data =
                    ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let len = data.min(size_of::<libc::sockaddr_storage>());
                std::ptr::copy_nonoverlapping(
                    libc::CMSG_DATA(message).cast_const(),
                    name.as_mut_ptr().cast::<u8>(),
                    len,
                );
                return address(&name.assume_init(), len as libc::socklen_t);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}
