//! Faults that the proxy survives: bugs of its own, a kernel without memory or descriptors, bytes of all kinds. And those
//! that it does not, but says so.
//!
//! Bugs and the kernel's refusals are made by `strace` (its option `-e inject`), in the program as it is: it has no code
//! for tests.

mod descriptors;
mod fatal;
mod headers;
mod kernel;
mod panics;
mod scanned;
mod strace;
mod takeover;

use crate::harness::{Balancer, Header, Proxy, UdpBalancer};
use crate::namespace::TestResult;

const ADMIN: [&str; 4] = ["--admin", "127.0.0.1:0", "--listeners", "1"];

/// A connection through the proxy to a server that echoes is served. Its header has a checksum, in case one is required.
#[track_caller]
fn expect_tcp(proxy: &Proxy) -> TestResult {
    let header = Header::of("192.0.2.250:4000")?.crc32c()?.then(b"ping");
    let connection = Balancer::default().connect(proxy, &header)?;
    connection.expect(b"ping")?;
    // So that the next one can have the same address and port at once.
    connection.reset()
}

/// A datagram through the proxy to a server that echoes is served.
#[track_caller]
fn expect_udp(proxy: &Proxy, balancer: &UdpBalancer, header: &Header) -> TestResult {
    balancer.send(proxy, header, b"ping")?;
    let answer = balancer.receive()?;
    if !answer.payload.ends_with(b" ping") {
        return Err(format!("{answer:?} is no answer").into());
    }
    Ok(())
}

/// The value of a metric as a number, 0 if it is not there.
fn count(text: &str, sample: &str) -> u64 {
    let value = crate::harness::metric(text, sample);
    value.and_then(|it| it.parse().ok()).unwrap_or(0)
}
