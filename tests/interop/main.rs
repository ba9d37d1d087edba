//! Other people's software: HAProxy, nginx and dnsdist as balancers and servers, nftables, and libfaketime, as Debian
//! packages them.
//!
//! Every test is a host of its own (see `namespace`). On it live the clients, with addresses of documentation prefixes
//! ([`hosts`]), the balancer, the proxy and the server. A test whose software is not installed says so by name and
//! passes; in continuous integration it fails ([`tool`]).

mod clock;
mod dns;
mod dns_servers;
#[path = "../end_to_end"]
mod end_to_end {
    #[expect(
        dead_code,
        unused_imports,
        reason = "these tests share the harness with the end-to-end tests, which need more of it"
    )]
    pub(crate) mod harness;
}
mod health_checks;
mod hosts;
mod http_servers;
mod mark;
mod metrics;
#[path = "../harness/namespace.rs"]
mod namespace;
#[path = "../harness/other_host.rs"]
mod other_host;
mod software;
mod tcp_balancers;
mod tlvs;
mod tool;

use end_to_end::harness;
