//! Where a client's traffic goes: to the configured server, or with `--dynamic-destination` to the address that its header
//! names, if it may.

mod own;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use crate::addr::{ClientAddr, PeerAddr, Targets};
use crate::shard::lists::Lists;
use crate::transparent::{DialError, Dialer};

/// Chooses targets, and says which may be had.
pub(crate) struct Destinations {
    /// Whether headers choose.
    dynamic: bool,
    lists: Rc<Lists>,
    /// What the proxy itself listens on.
    listening: Vec<SocketAddr>,
}

/// Why a client is not connected to the destination that its header names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    /// To Linux, 0.0.0.0 and `::` are this host. Link-local addresses mean nothing without a zone.
    #[error("the destination {0} is no address that a server has: the sender is broken or lied to")]
    Unusable(SocketAddr),
    #[error(
        "the destination {destination} is not of the family of the client {client}, so it cannot be reached from there"
    )]
    OtherFamily {
        destination: SocketAddr,
        client: SocketAddr,
    },
    #[error("the destination {0} is what glommproxy itself listens on: it would talk to itself")]
    Listener(SocketAddr),
    #[error("the destination {0} is not in the list of --allowed-destinations")]
    NotListed(SocketAddr),
    #[error("the destination {0} is no address of this host: allow it with --allowed-destinations")]
    NotOwn(SocketAddr),
    #[error(
        "the destination {0} is a loopback address, and the header may not be from this host: allow it with \
         --allowed-destinations"
    )]
    Loopback(SocketAddr),
    /// Out of descriptors, or of memory.
    #[error("cannot find out whether the destination {destination} is this host: {error}")]
    Unknown {
        destination: SocketAddr,
        error: io::Error,
    },
}

// === impl Destinations ===

impl Destinations {
    pub(crate) fn new(
        dynamic: bool,
        lists: Rc<Lists>,
        listening: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        Self {
            dynamic,
            lists,
            listening: listening.collect(),
        }
    }

    /// The target for this client, whose header names `named`; without a client, that of the peer's family. One that a
    /// header names needs [`Destinations::permit`].
    pub(crate) fn target(
        &self,
        targets: &Targets,
        client: Option<ClientAddr>,
        named: Option<SocketAddr>,
        peer: PeerAddr,
    ) -> Result<SocketAddr, DialError> {
        match named {
            // As sources, v4-mapped destinations are another spelling, and zones are not the sender's to choose.
            Some(named) if self.dynamic => {
                Ok(SocketAddr::new(named.ip().to_canonical(), named.port()))
            }
            _ => Dialer::target(targets, client, peer),
        }
    }

    /// Whether a flow to this target, which a header has named before, is another peer's as well: not if it was for this host
    /// alone. Asks nobody.
    pub(crate) fn permit_again(
        &self,
        target: SocketAddr,
        client: Option<ClientAddr>,
        peer: PeerAddr,
    ) -> Result<(), DestinationError> {
        let is_for_this_host = self.dynamic
            && client.is_some()
            && target.ip().is_loopback()
            && self.lists.allow_destination(target.ip()).is_none();
        if is_for_this_host && !peer.ip().is_loopback() {
            return Err(DestinationError::Loopback(target));
        }
        Ok(())
    }

    /// Whether this client may be connected to this target. `from_here` is whether this host certainly wrote the header that
    /// names it. May ask the kernel.
    pub(crate) fn permit(
        &self,
        target: SocketAddr,
        client: Option<ClientAddr>,
        from_here: bool,
    ) -> Result<(), DestinationError> {
        let Some(client) = client.filter(|_| self.dynamic) else {
            return Ok(());
        };
        if !is_usable(target) {
            return Err(DestinationError::Unusable(target));
        }
        if target.is_ipv4() != client.addr().is_ipv4() {
            return Err(DestinationError::OtherFamily {
                destination: target,
                client: client.addr(),
            });
        }
        let is_own = || {
            own::is_own(target.ip()).map_err(|error| DestinationError::Unknown {
                destination: target,
                error,
            })
        };
        let mut on_port = self
            .listening
            .iter()
            .filter(|listening| listening.port() == target.port());
        if on_port.clone().any(|it| it.ip() == target.ip())
            || on_port.any(|it| it.ip().is_unspecified()) && is_own()?
        {
            return Err(DestinationError::Listener(target));
        }
        match self.lists.allow_destination(target.ip()) {
            Some(true) => Ok(()),
            Some(false) => Err(DestinationError::NotListed(target)),
            None if target.ip().is_loopback() && !from_here => {
                Err(DestinationError::Loopback(target))
            }
            None if is_own()? => Ok(()),
            None => Err(DestinationError::NotOwn(target)),
        }
    }
}

/// Whether a server can have this address.
fn is_usable(addr: SocketAddr) -> bool {
    let is_somebodys = match addr.ip() {
        // Link-local ones lead to the metadata of clouds, with the credentials of their machines.
        IpAddr::V4(ip) => ip.octets()[0] != 0 && ip != Ipv4Addr::BROADCAST && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    addr.port() != 0 && is_somebodys && !addr.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnets::SubnetSet;
    use std::sync::Arc;

    const PEER: &str = "192.0.2.1:4000";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// The beginning of what is said of a destination.
    fn said(list: Option<&str>, listening: &str, target: &str, peer: &str) -> String {
        let lists = Lists::default();
        if let Some(list) = list {
            lists.set_destinations(Arc::new(SubnetSet::parse(list).expect("a list")));
        }
        let listening = std::iter::once(addr(listening));
        let destinations = Destinations::new(true, Rc::new(lists), listening);
        let peer = PeerAddr::new(addr(peer));
        let client = if target.starts_with('[') {
            "[2001:db8::7]:5000"
        } else {
            "203.0.113.7:5000"
        };
        let client = ClientAddr::believe(addr(client), peer).expect("a client");
        match destinations.permit(addr(target), Some(client), peer.ip().is_loopback()) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn no_list_allows_what_no_server_has() {
        for target in [
            "0.0.0.0:80",
            "0.1.2.3:80",
            "255.255.255.255:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "127.0.0.1:0",
            "[::]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
        ] {
            let said = said(Some("0.0.0.0/0\n::/0"), "127.0.0.1:1", target, PEER);
            assert!(said.contains("is no address that a server has"), "{said}");
        }
    }

    #[test]
    fn a_list_says_what_is_allowed() {
        let list = Some("198.51.100.0/24\n127.0.0.1");
        assert_eq!(said(list, "127.0.0.1:1", "198.51.100.9:80", PEER), "fine");
        assert_eq!(said(list, "127.0.0.1:1", "127.0.0.1:80", PEER), "fine");
        for target in ["127.0.0.2:80", "[2001:db8::1]:80"] {
            let said = said(list, "127.0.0.1:1", target, PEER);
            assert!(
                said.ends_with("is not in the list of --allowed-destinations"),
                "{said}"
            );
        }
    }

    #[test]
    fn without_a_list_it_is_this_host() {
        let local = "127.0.0.1:4000";
        assert_eq!(said(None, "127.0.0.1:1", "127.0.0.1:80", local), "fine");
        assert_eq!(said(None, "127.0.0.1:1", "127.9.9.9:80", local), "fine");
        let remote = said(None, "127.0.0.1:1", "127.0.0.1:80", PEER);
        assert!(remote.contains("is a loopback address"), "{remote}");
        let other = said(None, "127.0.0.1:1", "198.51.100.9:80", PEER);
        assert!(other.contains("is no address of this host"), "{other}");
    }

    #[test]
    fn nobody_is_led_back_to_the_proxy() {
        let everything = Some("0.0.0.0/0\n::/0");
        for (listening, target) in [
            ("198.51.100.9:80", "198.51.100.9:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.3.4.5:80"),
            ("[::]:80", "127.0.0.1:80"),
        ] {
            let said = said(everything, listening, target, PEER);
            assert!(said.contains("it would talk to itself"), "{said}");
        }
        // Another host's port of the same number, and another of this one.
        assert_eq!(
            said(everything, "0.0.0.0:80", "198.51.100.9:80", PEER),
            "fine"
        );
        assert_eq!(said(everything, "0.0.0.0:80", "127.0.0.1:81", PEER), "fine");
        assert_eq!(
            said(everything, "127.0.0.1:80", "127.0.0.2:80", PEER),
            "fine"
        );
    }
}
