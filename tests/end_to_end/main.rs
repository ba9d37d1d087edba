//! The program as a whole: a balancer in front, a server behind, and what each of them sees.
//!
//! Every test is a host of its own (see `namespace`), so it may add addresses, routes and a proxy that changes both.

mod access_log;
mod admin;
mod check;
mod demo;
mod destination;
mod faults;
mod harness;
mod hostile;
mod lifecycle;
mod limits;
mod lists;
mod logs;
mod many_ports;
mod names;
#[path = "../harness/namespace.rs"]
mod namespace;
#[path = "../harness/other_host.rs"]
mod other_host;
mod routes;
mod sandbox;
mod source_port;
mod special_sources;
mod startup;
mod tcp;
mod tlvs;
#[expect(
    dead_code,
    reason = "the tests with other people's software need more of it"
)]
#[path = "../interop/tool.rs"]
mod tool;
mod top;
mod transparent;
mod udp;
