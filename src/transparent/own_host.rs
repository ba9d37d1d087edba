//! Where a UDP server on this host answers a client on this host from.
//!
//! The kernel looks up its own addresses (`ip route show table local`) before it comes to any rule of ours. So a server
//! that is bound to 0.0.0.0 or `::`, and leaves the choice of its address to the kernel, answers a client that has an
//! address of this host from that very address, and not from the one the client's datagrams were sent to.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{connect, connect_unspec};
use socket2::{Domain, Socket, Type};

thread_local! {
    /// One for IPv4 and one for IPv6. They send nothing, ever: connecting a datagram socket is a look at the routes.
    static PROBES: RefCell<[Option<Socket>; 2]> = const { RefCell::new([None, None]) };
}

/// The address that such a server answers this client from, if the client is on this host.
///
/// # Errors
///
/// As `socket(2)`, the first time on a thread: EMFILE, EAFNOSUPPORT.
pub(super) fn answers_from(client: SocketAddr) -> io::Result<Option<IpAddr>> {
    PROBES.with_borrow_mut(|probes| {
        let probe = &mut probes[usize::from(client.is_ipv6())];
        let probe = match probe {
            Some(probe) => probe,
            None => probe.insert(open(client)?),
        };
        let from = ask(probe, client);
        // Otherwise it would keep the address that was chosen this time, and a port from all clients that have it.
        connect_unspec(&*probe)?;
        Ok(from)
    })
}

/// Whether an address is this host's. For those who ask rarely: nothing is kept for the next time.
///
/// # Errors
///
/// As `socket(2)`: EMFILE, EAFNOSUPPORT.
pub(crate) fn is_on_this_host(addr: SocketAddr) -> io::Result<bool> {
    Ok(ask(&open(addr)?, addr).is_some())
}

fn open(client: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(client), Type::DGRAM.nonblocking(), None)
}

/// As [`answers_from`]. The probe is left connected.
fn ask(probe: &Socket, client: SocketAddr) -> Option<IpAddr> {
    // Elsewhere, then: there is no route, or no port to ask from.
    connect(probe, &client).ok()?;
    chosen(probe).filter(|&from| from == client.ip() || client.ip().is_loopback())
}

/// The source address that the kernel has chosen for a connected socket.
fn chosen(probe: &Socket) -> Option<IpAddr> {
    Some(probe.local_addr().ok()?.as_socket()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_clients_on_this_host_from_others() {
        // What this host has beside its loopback addresses is not known here.
        for (client, from) in [
            ("127.0.0.1:4000", Some("127.0.0.1")),
            ("203.0.113.7:4000", None),
            // Whatever was asked for before.
            ("127.9.9.9:4000", Some("127.0.0.1")),
            ("[2001:db8:113::7]:4000", None),
            ("[::1]:4000", Some("::1")),
            ("203.0.113.8:4000", None),
            ("127.0.0.1:4000", Some("127.0.0.1")),
        ] {
            let client = client.parse().expect("an address");
            let from = from.map(|from| from.parse().expect("an address"));
            assert_eq!(answers_from(client).expect("a socket"), from, "{client}");
            let is_here = is_on_this_host(client).expect("a socket");
            assert_eq!(is_here, from.is_some(), "{client}");
        }
    }
}
