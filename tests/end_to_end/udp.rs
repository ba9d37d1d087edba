//! UDP through the whole path.

mod addresses;
mod balancers;
mod capacity;
mod crowd;
mod first;
mod first_limits;
mod first_sessions;
mod first_shards;
mod floods;
mod handover;
mod idle;
mod lists;
mod log;
mod losses;
mod multi_homed;
mod own_host;
mod payload;
mod pieces;
mod refused;
mod reply_path;
mod server;
mod spp;
mod trust;

use crate::harness::Header;
use crate::namespace::TestResult;

/// The header of a datagram from this client. What it says of the destination nobody reads.
fn header_of(client: &str) -> TestResult<Header> {
    let destination = if client.starts_with('[') {
        "[2001:db8::443]:443"
    } else {
        "203.0.113.1:443"
    };
    Header::v2_udp(client, destination)
}
