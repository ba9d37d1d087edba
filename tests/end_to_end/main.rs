//! The program as a whole: a balancer in front, a server behind, and what each of them sees.
//!
//! Every test is a host of its own (see `namespace`), so it may add addresses, routes and a proxy that changes both.

mod access_log;
mod admin;
mod check;
mod demo;
mod destination;
mod harness;
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
mod source_port;
mod special_sources;
mod startup;
mod tcp;
mod tlvs;
mod top;
mod transparent;
mod udp;
