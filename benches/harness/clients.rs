//! The clients that the headers name.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::HeaderVersion;

/// Where clients are said to have connected to. Nobody looks at it.
const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 25_565);

/// `doc/proxy-protocol.txt` of HAProxy, section 2.2: what version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Clients that never were there before: a connection from an address that was in use a moment ago would meet what is
/// left of its predecessor (TIME_WAIT), and measure that.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next: Cell<u32>,
}

// === impl Clients ===

impl Clients {
    /// Ports of one address that are used before the next address is.
    const PORTS: u32 = 50_000;

    fn next(&self) -> SocketAddrV4 {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        // 10.0.0.7, 10.0.1.7, …
        let ip = Ipv4Addr::from(0x0a00_0007 + ((number / Self::PORTS) << 8 & 0x00ff_ff00));
        SocketAddrV4::new(ip, 2000 + (number % Self::PORTS) as u16)
    }

    /// A header that names a new client, over TCP.
    pub(crate) fn stream_header(&self, version: HeaderVersion) -> Vec<u8> {
        let client = self.next();
        match version {
            HeaderVersion::V1 => format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                client.ip(),
                DESTINATION.ip(),
                client.port(),
                DESTINATION.port()
            )
            .into_bytes(),
            HeaderVersion::V2 => v2(client, 0x11),
        }
    }

    /// A header that names a new client, over UDP. Only version 2 has those.
    pub(crate) fn datagram_header(&self) -> Vec<u8> {
        v2(self.next(), 0x12)
    }
}

fn v2(client: SocketAddrV4, family_and_transport: u8) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(0x21); // version 2, PROXY
    header.push(family_and_transport);
    header.extend(12u16.to_be_bytes()); // length
    header.extend(client.ip().octets());
    header.extend(DESTINATION.ip().octets());
    header.extend(client.port().to_be_bytes());
    header.extend(DESTINATION.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommproxy::header::{Decoded, Transport, decode};
    use std::collections::HashSet;

    #[test]
    fn no_client_comes_twice() {
        let clients = Clients::default();
        let seen: HashSet<SocketAddrV4> = (0..200_000).map(|_| clients.next()).collect();
        assert_eq!(seen.len(), 200_000);
        assert!(seen.iter().all(|client| client.ip().octets()[0] == 10));
    }

    #[test]
    fn headers_are_what_the_crate_reads() {
        let clients = Clients::default();
        for (header, transport) in [
            (clients.stream_header(HeaderVersion::V1), Transport::Stream),
            (clients.stream_header(HeaderVersion::V2), Transport::Stream),
            (clients.datagram_header(), Transport::Datagram),
        ] {
            let decoded = decode(&header, transport).and_then(Decoded::check);
            let Ok(Decoded::Complete { header, .. }) = decoded else {
                panic!("{decoded:?}");
            };
            let origin = format!("{:?}", header.origin());
            assert!(origin.contains("10.0.0.7:200"), "{origin}");
        }
    }
}
