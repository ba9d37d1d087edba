//! The local address of a datagram, as a control message (ip(7), ipv6(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LocalAddr;
use super::control::{Control, Message};

/// The local address, if this message tells it.
pub(super) fn local_address(message: Message<'_>) -> Option<LocalAddr> {
    match (message.level, message.kind) {
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            let info: libc::in_pktinfo = message.value()?;
            // `ipi_spec_dst` is the local address even if the datagram was sent to a broadcast address.
            let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            Some(LocalAddr {
                ip: ip.into(),
                interface: 0,
            })
        }
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
            let info: libc::in6_pktinfo = message.value()?;
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if ip.is_unicast_link_local() {
                info.ipi6_ifindex
            } else {
                0
            };
            Some(LocalAddr {
                ip: ip.to_canonical(),
                interface,
            })
        }
        _ => None,
    }
}

/// Writes packet information for the kernel behind the first `len` bytes of `control`, and returns the length of it all;
/// `v6` if the socket is an IPv6 one.
pub(super) fn push_local_address(
    control: &mut Control,
    len: usize,
    local: LocalAddr,
    v6: bool,
) -> usize {
    match (local.ip, v6) {
        (IpAddr::V4(ip), false) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: local.interface as libc::c_int,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(ip).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.push(len, libc::SOL_IP, libc::IP_PKTINFO, info)
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
            control.push(len, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}
