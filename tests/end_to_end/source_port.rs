//! Which port the server sees a client at: `--source-port`.

mod any;
mod taken;

use std::net::SocketAddr;

use crate::harness::{Header, Proxy, TcpServer, UdpServer};
use crate::namespace::{TestResult, add_address};

/// Addresses of this host, which clients have as well.
const OWN: [&str; 2] = ["198.51.100.9", "2001:db8:9::9"];

/// Servers of both protocols and families, on two ports.
struct Servers {
    tcp: [TcpServer; 2],
    udp: [UdpServer; 2],
}

// === impl Servers ===

impl Servers {
    #[track_caller]
    fn bind() -> TestResult<Self> {
        for ip in OWN {
            add_address(ip)?;
        }
        let tcp = [TcpServer::bind("127.0.0.1")?, TcpServer::bind("::1")?];
        let udp = [
            UdpServer::bind_to(tcp[0].addr()?)?,
            UdpServer::bind_to(tcp[1].addr()?)?,
        ];
        Ok(Self { tcp, udp })
    }

    /// A proxy of both protocols in front of them.
    #[track_caller]
    fn proxy(&self, args: &[&str]) -> TestResult<Proxy> {
        Proxy::builder()
            .args(["-p", "both", "-v", "1", "--listeners", "1"])
            .args(args)
            .and(self.tcp[0].addr()?)
            .and(self.tcp[1].addr()?)
            .start()
    }

    fn tcp_of(&self, client: SocketAddr) -> &TcpServer {
        &self.tcp[usize::from(client.is_ipv6())]
    }

    fn udp_of(&self, client: SocketAddr) -> &UdpServer {
        &self.udp[usize::from(client.is_ipv6())]
    }
}

/// The header of a datagram from this client.
fn udp_header_of(client: SocketAddr) -> TestResult<Header> {
    let destination = if client.is_ipv4() {
        "203.0.113.1:443"
    } else {
        "[2001:db8::443]:443"
    };
    Header::v2_udp(&client.to_string(), destination)
}
