//! The routes that bring the server's replies back: set up by the proxy, or by whoever reads its log.

pub(crate) mod by_hand;
mod elsewhere;
mod failing;
mod loopback;
mod put_back;
mod set_up;
mod unnamed;

use crate::harness::{Balancer, Header, Proxy};
use crate::namespace::{TestResult, run};

/// Every rule and every route of both families, as iproute2 shows them.
pub(crate) fn tables() -> TestResult<String> {
    run("ip -4 rule && ip -6 rule && ip -4 route show table all && ip -6 route show table all")
}

/// A client of either family talks with a server that echoes.
#[track_caller]
fn expect_service(proxy: &Proxy) -> TestResult {
    for (client, destination) in [
        ("192.0.2.1:4000", "203.0.113.1:443"),
        ("[2001:db8::1]:4000", "[2001:db8::443]:443"),
    ] {
        let header = Header::v2(client, destination)?;
        Balancer::default()
            .connect(proxy, &header)?
            .expect_echo(b"hello")?;
    }
    Ok(())
}
