//! Whether an address is a broadcast address of one of this host's networks.
//!
//! `bind(2)` takes one, but the kernel then chooses the source of what is sent (`__inet_bind` in net/ipv4/af_inet.c), and
//! towards loopback it chooses 127.0.0.1. Which addresses these are depends on the networks this host is in, and may
//! change at any time, so the kernel is asked: it refuses to connect a datagram socket to one (EACCES) unless that has
//! SO_BROADCAST (ip(7)).

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{connect, connect_unspec};
use socket2::{Domain, SockAddr, Socket, Type};

/// Where the probe is connected to when it is connected to nothing else: the discard service, which gets nothing.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

thread_local! {
    /// Sends nothing, ever: connecting a datagram socket is a look at the routes. One per shard, as shards share nothing.
    static PROBE: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

/// Whether this host would broadcast what is sent to this address, which no single host can have then.
///
/// # Errors
///
/// As `socket(2)` and `bind(2)`, the first time on a thread: EMFILE, EAFNOSUPPORT, EADDRINUSE if no port is free.
pub(super) fn is_broadcast(addr: SocketAddr) -> io::Result<bool> {
    if addr.is_ipv6() {
        return Ok(false);
    }
    PROBE.with_borrow_mut(|probe| {
        let probe = match probe {
            Some(probe) => probe,
            None => probe.insert(open()?),
        };
        match connect(&*probe, &addr) {
            Ok(()) => Ok(false),
            Err(Errno::ACCESS) => is_refused_for_broadcast(probe, addr),
            Err(_) => ask_again(probe, addr),
        }
    })
}

/// A socket on a port of its own, which it shares with every client that has the same.
fn open() -> io::Result<Socket> {
    let probe = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?;
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    probe.bind(&SockAddr::from(any))?;
    // Not before it has a port: it is not to share one that others have already.
    probe.set_reuse_address(true)?;
    park(&probe);
    Ok(probe)
}

/// Asks once more, without the source address that the probe got when it was connected, and would keep from then on. The
/// kernel may have refused for its sake (EINVAL, ENETUNREACH): it is of another interface, or this host's no longer.
#[cold]
fn ask_again(probe: &Socket, addr: SocketAddr) -> io::Result<bool> {
    connect_unspec(probe)?;
    let is_broadcast = match connect(probe, &addr) {
        Ok(()) => return Ok(false),
        Err(Errno::ACCESS) => is_refused_for_broadcast(probe, addr),
        // That there is no route is not the kernel's word against the address.
        Err(_) => Ok(false),
    };
    park(probe);
    is_broadcast
}

/// A route of type "prohibit" refuses as well (ip-route(8)), but with the option, too.
fn is_refused_for_broadcast(probe: &Socket, addr: SocketAddr) -> io::Result<bool> {
    probe.set_broadcast(true)?;
    let result = connect(probe, &addr);
    probe.set_broadcast(false)?;
    Ok(result != Err(Errno::ACCESS))
}

/// Connects the probe to nobody: unconnected, it could get what is sent to others on its port. That it fails does not
/// matter where there is no loopback network.
fn park(probe: &Socket) {
    let _ = connect(probe, &NOBODY);
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
            ("203.0.113.255:4000", false),
            ("127.255.255.255:4001", true),
            ("127.0.0.2:4000", false),
            ("192.0.2.1:4000", false),
            ("127.255.255.255:4000", true),
            ("[2001:db8::1]:4000", false),
        ] {
            let addr = addr.parse().expect("an address");
            let told = is_broadcast(addr).expect("a host with IPv4");
            assert_eq!(told, expected, "{addr}");
        }
    }
}
