//! Balancers and servers that are started, told apart by what they do for a test.

mod dnsdist;
mod haproxy;
mod nginx;
mod openssl;
mod process;
mod prometheus;

use std::net::SocketAddr;

use crate::namespace::TestResult;

pub(crate) use dnsdist::Dnsdist;
pub(crate) use haproxy::HaProxy;
pub(crate) use nginx::{NginxBalancer, NginxServer};
pub(crate) use openssl::{Certificate, TlsClient};
pub(crate) use prometheus::Prometheus;

/// How a balancer listens for IPv4 and IPv6 clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frontend {
    /// With a socket for each family.
    PerFamily,
    /// With one IPv6 socket, to which IPv4 clients are v4-mapped (RFC 4291, section 2.5.5.2).
    DualStack,
}

/// Something in front that clients connect to.
pub(crate) trait Balancer {
    /// The port it listens on, at all addresses it listens on.
    fn port(&self) -> u16;

    /// Where clients reach it at this address of the host.
    fn addr_at(&self, ip: &str) -> TestResult<SocketAddr> {
        Ok(SocketAddr::new(ip.parse()?, self.port()))
    }
}
