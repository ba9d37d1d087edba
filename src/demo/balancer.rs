//! A balancer that speaks for clients which do not exist, with headers as HAProxy's `doc/proxy-protocol.txt` has them.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use super::{GREETING, PATIENCE};

/// Section 2.2: the 12 bytes that begin version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Section 2.2: version 2, command PROXY.
const V2_PROXY: u8 = 0x21;

/// The port that clients connected to at the balancer.
const DESTINATION_PORT: u16 = 25565;

/// How a client comes through the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    TcpV1,
    TcpV2,
    UdpV2,
}

// === impl Way ===

impl Way {
    /// Says hello to the proxy in a client's name, and returns what the server answers.
    pub(super) fn greet(self, proxy: SocketAddr, client: SocketAddr) -> io::Result<String> {
        let message = [self.header(client).as_slice(), GREETING].concat();
        let answer = match self {
            Self::TcpV1 | Self::TcpV2 => over_tcp(proxy, &message)?,
            Self::UdpV2 => over_udp(proxy, &message)?,
        };
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The header that says who the client is.
    fn header(self, client: SocketAddr) -> Vec<u8> {
        let destination: IpAddr = match client {
            SocketAddr::V4(_) => [198, 51, 100, 1].into(),
            SocketAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x443].into(),
        };
        match self {
            Self::TcpV1 => v1(client, destination).into_bytes(),
            Self::TcpV2 => v2(0x1, client, destination),
            Self::UdpV2 => v2(0x2, client, destination),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TcpV1 => "version 1, TCP",
            Self::TcpV2 => "version 2, TCP",
            Self::UdpV2 => "version 2, UDP",
        })
    }
}

/// Section 2.1.
fn v1(client: SocketAddr, destination: IpAddr) -> String {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, port) = (client.ip(), client.port());
    format!("PROXY {family} {ip} {destination} {port} {DESTINATION_PORT}\r\n")
}

/// Section 2.2, with a transport of 1 for STREAM and 2 for DGRAM.
fn v2(transport: u8, client: SocketAddr, destination: IpAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { 0x10 } else { 0x20 };
    let mut addresses = Vec::with_capacity(36);
    for ip in [client.ip(), destination] {
        match ip {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    addresses.extend(client.port().to_be_bytes());
    addresses.extend(DESTINATION_PORT.to_be_bytes());
    let mut header = SIGNATURE.to_vec();
    header.extend([V2_PROXY, family | transport]);
    // 12 or 36 bytes.
    header.extend([0, addresses.len() as u8]);
    header.extend(addresses);
    header
}

fn over_tcp(proxy: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(message)?;
    let mut answer = Vec::new();
    stream.take(64).read_to_end(&mut answer)?;
    Ok(answer)
}

fn over_udp(proxy: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(message, proxy)?;
    let mut answer = vec![0; 64];
    let (length, _) = socket.recv_from(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Decoded, Origin, Transport, decode};

    #[test]
    fn headers_say_who_the_client_is() {
        for (way, transport) in [
            (Way::TcpV1, Transport::Stream),
            (Way::TcpV2, Transport::Stream),
            (Way::UdpV2, Transport::Datagram),
        ] {
            for client in ["203.0.113.7:40001", "[2001:db8::7]:40001"] {
                let client: SocketAddr = client.parse().expect("an address");
                let bytes = way.header(client);
                let decoded = decode(&bytes, transport).and_then(Decoded::check);
                let Ok(Decoded::Complete { header, consumed }) = decoded else {
                    panic!("{way} {client}: no header");
                };
                let told =
                    matches!(header.origin(), Origin::Proxied { source, .. } if source == client);
                assert!(told, "{way} {client}: {header:?}");
                assert_eq!(consumed, bytes.len());
            }
        }
    }
}
