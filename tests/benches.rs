//! The parts of the benches that can be wrong without anybody seeing it: arguments, statistics, headers, reports. Cargo
//! runs no unit tests of a bench that brings its own `main`, so they run here.

#[allow(dead_code, unused_imports, reason = "each bench uses what it needs")]
#[path = "../benches/harness/mod.rs"]
mod harness;
