//! glommproxy unwraps the PROXY protocol in front of TCP and UDP servers.

#![cfg_attr(test, allow(clippy::expect_used))]

pub mod addr;
pub mod args;
pub mod config;
pub mod cpus;
pub mod header;
pub mod host;
mod listen;
pub mod logging;
pub mod metrics;
pub mod routing;
mod shard;
pub mod subnets;
mod sys;
mod tcp;
mod transparent;
pub mod udp;
