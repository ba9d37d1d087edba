//! How the program ends, and how another one takes its place.

mod activation;
mod drain;
mod drain_udp;
mod notify;
mod signals;
mod takeover;
mod takeover_udp;

/// Longer than any test: one that has to wait for it fails.
pub(crate) const FOREVER: [&str; 2] = ["--drain-timeout", "3600"];
