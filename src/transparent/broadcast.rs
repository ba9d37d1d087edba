//! Whether an address is a broadcast address of one of this host's networks.
//!
//! `bind(2)` takes one, but the kernel then chooses the source of what is sent (`__inet_bind` in net/ipv4/af_inet.c), and
//! towards loopback it chooses 127.0.0.1. Which addresses these are depends on the networks this host is in, and may
//! change at any time, so the kernel is asked: it refuses to connect a datagram socket to one (EACCES) unless that has
//! SO_BROADCAST (ip(7)).

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockAddr, Socket, Type};

thread_local! {
    /// Sends nothing, ever: connecting a datagram socket is a look at the routes. One per shard, as shards share nothing.
    static PROBE: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

/// Whether this host would broadcast what is sent to this address, which no single host can have then.
///
/// # Errors
///
/// As `socket(2)`, the first time on a thread: EMFILE, EAFNOSUPPORT.
pub(super) fn is_broadcast(addr: SocketAddr) -> io::Result<bool> {
    if addr.is_ipv6() {
        return Ok(false);
    }
    PROBE.with_borrow_mut(|probe| {
        let probe = match probe {
            Some(probe) => probe,
            None => probe.insert(Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?),
        };
        if connects(probe, addr) {
            return Ok(false);
        }
        // A route of type "prohibit" refuses as well (ip-route(8)), but with the option, too.
        probe.set_broadcast(true)?;
        let connects_with_option = connects(probe, addr);
        probe.set_broadcast(false)?;
        Ok(connects_with_option)
    })
}

/// Whether the kernel allows to connect to this address. That there is no route is not its word against it.
fn connects(probe: &Socket, addr: SocketAddr) -> bool {
    let result = probe.connect(&SockAddr::from(addr));
    !matches!(result, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_broadcast_addresses_of_this_host_from_others() {
        // The loopback network is there on every host, and its broadcast address with it.
        for (addr, expected) in [
            ("127.255.255.255:4000", true),
            ("255.255.255.255:4000", true),
            ("127.0.0.1:4000", false),
            ("192.0.2.1:4000", false),
            ("192.0.2.255:4000", false),
            ("127.255.255.255:4001", true),
            ("127.0.0.2:4000", false),
            ("[2001:db8::1]:4000", false),
        ] {
            let addr = addr.parse().expect("an address");
            let told = is_broadcast(addr).expect("a host with IPv4");
            assert_eq!(told, expected, "{addr}");
        }
    }
}
