//! The local address of a datagram, as a control message (cmsg(3), ip(7), ipv6(7)).

use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use super::LocalAddr;

/// Room for one `in_pktinfo` or `in6_pktinfo`, or one `sockaddr_in6`, aligned as control messages must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control([u8; 64]);

/// Finds the packet information among the control messages the kernel wrote.
pub(super) fn local_address(header: &libc::msghdr, control: &Control) -> Option<LocalAddr> {
    debug_assert_eq!(
        header.msg_control.cast_const(),
        ptr::from_ref(control).cast()
    );
    // SAFETY: `header` has been filled by `recvmmsg`, so that `msg_control` and `msg_controllen` describe well-formed
    // control messages inside `control`, which is borrowed for the whole function; CMSG_FIRSTHDR, CMSG_NXTHDR and
    // CMSG_DATA stay inside them. Data may be unaligned, so it is copied out.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    let info = libc::CMSG_DATA(message)
                        .cast::<libc::in_pktinfo>()
                        .read_unaligned();
                    // `ipi_spec_dst` is the local address even if the datagram was sent to a broadcast address.
                    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    return Some(LocalAddr {
                        ip: ip.into(),
                        interface: 0,
                    });
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    let info = libc::CMSG_DATA(message)
                        .cast::<libc::in6_pktinfo>()
                        .read_unaligned();
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    let interface = if ip.is_unicast_link_local() {
                        info.ipi6_ifindex as u32
                    } else {
                        0
                    };
                    return Some(LocalAddr {
                        ip: ip.to_canonical(),
                        interface,
                    });
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Writes packet information for the kernel and returns its length; `v6` if the socket is an IPv6 one.
pub(super) fn set_local_address(control: &mut Control, local: LocalAddr, v6: bool) -> usize {
    match (local.ip, v6) {
        (IpAddr::V4(ip), false) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: local.interface as libc::c_int,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(ip).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            set_control(control, libc::SOL_IP, libc::IP_PKTINFO, info)
        }
        (ip, _) => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: local.interface as _,
            };
            set_control(control, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Writes one control message and returns the length of it all (cmsg(3)).
fn set_control<T: Copy>(
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    const {
        assert!(
            size_of::<libc::cmsghdr>() + size_of::<T>() + align_of::<libc::cmsghdr>()
                <= size_of::<Control>()
        )
    };
    let mut header = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: all-zero is a valid `msghdr`. CMSG_FIRSTHDR and CMSG_DATA give pointers into `control`, which has room for
    // the header, `T` and padding (asserted above) and is aligned for the header.
    unsafe {
        let len = libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize;
        (*header.as_mut_ptr()).msg_control = ptr::from_mut(control).cast();
        (*header.as_mut_ptr()).msg_controllen = len as _;
        let message = libc::CMSG_FIRSTHDR(header.as_ptr());
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
        ptr::copy_nonoverlapping(
            (&raw const value).cast::<u8>(),
            libc::CMSG_DATA(message),
            mem::size_of::<T>(),
        );
        len
    }
}
