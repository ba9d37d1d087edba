//! Socket addresses as the kernel has them (ip(7), ipv6(7)).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

/// Reads an address the kernel wrote.
pub(super) fn address(name: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: `sockaddr_storage` is larger than, and aligned for, every address structure, which are integers, and all of
    // it is initialised, whatever the kernel has written. (What it has not is nobody's address: so `len` is looked at.)
    unsafe {
        match libc::c_int::from((*name).ss_family) {
            libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if len as usize >= size_of::<libc::sockaddr_in6>() => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(
                    SocketAddrV6::new(
                        ip,
                        u16::from_be(v6.sin6_port),
                        v6.sin6_flowinfo,
                        v6.sin6_scope_id,
                    )
                    .into(),
                )
            }
            _ => None,
        }
    }
}

/// Writes an address for the kernel and returns its length.
pub(super) fn set_address(name: &mut libc::sockaddr_storage, addr: SocketAddr) -> libc::socklen_t {
    let name = ptr::from_mut(name);
    match addr {
        SocketAddr::V4(v4) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*v4.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_storage` is larger than, and aligned for, every address structure.
            unsafe { name.cast::<libc::sockaddr_in>().write(value) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { name.cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::zeroed;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let v4 = SocketAddr::from(([192, 0, 2, 1], 4000));
        let v6 = SocketAddrV6::new(Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1), 443, 5, 7).into();
        for addr in [v4, v6] {
            let mut name: libc::sockaddr_storage = zeroed(1)[0];
            let len = set_address(&mut name, addr);
            assert_eq!(address(&name, len), Some(addr));
            // What the kernel did not write, or is of no family we know, is none.
            assert_eq!(address(&name, len - 1), None);
            name.ss_family = libc::AF_UNIX as libc::sa_family_t;
            assert_eq!(address(&name, len), None);
        }
    }
}
