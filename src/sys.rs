//! The only unsafe code: system calls that no safe crate offers, or not without an allocation per call.
//!
//! One child for each family of calls. Each wraps its pointers in a type that keeps what they point to alive and in
//! place, so that no caller can get it wrong.

pub(crate) mod activation;
pub(crate) mod bpf;
pub(crate) mod mmsg;
pub(crate) mod namespace;
pub(crate) mod sockopt;
pub(crate) mod uring;
