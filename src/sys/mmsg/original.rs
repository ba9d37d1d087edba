//! Where a redirected datagram was sent to, as a control message (`IP_RECVORIGDSTADDR`, ip(7)).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::control::Message;

/// The original destination, if this message tells it.
pub(super) fn original_destination(message: Message<'_>) -> Option<SocketAddr> {
    match (message.level, message.kind) {
        (libc::SOL_IP, libc::IP_ORIGDSTADDR) => {
            let name: libc::sockaddr_in = message.value()?;
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
            let name: libc::sockaddr_in6 = message.value()?;
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}
