//! The only unsafe code: system calls that no safe crate offers, or not without an allocation per call.
//!
//! One child for each family of calls. Each wraps its pointers in a type that keeps what they point to alive and in
//! place, so that no caller can get it wrong.
//!
//! # What is unsafe, and why
//!
//! | where | blocks | what for | what has to hold | why no safe crate |
//! |---|---|---|---|---|
//! | `activation` | 1 | own a descriptor that systemd passes | it is open, and nobody else's: asked once, before anything is opened | `sd-notify` gives numbers; to own one is a claim about the process |
//! | `bpf` | 1 | `setsockopt(SO_ATTACH_REUSEPORT_CBPF)` | the program outlives the call and is as long as it says | `socket2` attaches filters, not this |
//! | `mmsg::address` | 3 | read and write addresses in a `sockaddr_storage` | it is larger than either structure, aligned for both, and initialised | `socket2` and `rustix` own a storage for each address, and there are 64 a call |
//! | `mmsg::control` | 2 | copy C integers out of bytes and into them | `Plain`: any bytes are a value; lengths are checked | `nix` and `rustix` do it within their own receive calls |
//! | `mmsg::inbox` | 3 | `recvmmsg`; bytes it has written; cells for them | each pointer is to a vector of the inbox, which is borrowed mutably while the kernel writes | `nix` wants mutable slices of all buffers anew for each call, `quinn-udp` tells no original destination |
//! | `mmsg::outbox` | 1 | `sendmmsg` | each pointer is to a vector of the outbox, or to payloads that outlive the call | `nix` has one control message for all of a call |
//! | `mmsg` | 1 | structures of zeros | `Zeroable`: integers and raw pointers only | |
//! | `namespace` | 3 | `unshare`; a hook between fork and exec | no descriptor table is parted; the hook makes two system calls and allocates nothing | `rustix` and `std` have them, as unsafe functions |
//! | `receive_queue` | 1 | `getsockopt(SO_MEMINFO)` | the kernel writes no more numbers than there is room for | `socket2` has no name for it |
//! | `seccomp` | 1 | put a filter into force | the program outlives the call and is as long as it says | `seccompiler` does not set these flags |
//! | `sockopt` | 3 | integer options; `SO_PEERCRED`; `SIOCOUTQ` | the kernel reads, or writes, no more than the structure or int has room for, which outlives the call | `socket2` has no names for these; `rustix` knows no process 0 |
//! | `uring` | 3 | ask for a ring; own it; give glommio a descriptor | the parameters are as large as the kernel's; a descriptor has one owner | glommio takes raw descriptors, and its ring only panics where it cannot be had |
//!
//! Beside these there are two unsafe traits, for what the compiler cannot know of C structures: `mmsg::Zeroable` and
//! `mmsg::control::Plain`.
//!
//! # How it is looked at
//!
//! - What makes no system call runs under Miri, with strict provenance: `cargo +nightly miri test --lib sys::`. That is
//!   addresses, control messages, pieces, and the pointers of inbox and outbox, behind which a test reads and writes as the
//!   kernel does.
//! - What makes one is tested with the kernel: here through loopback, and in `tests/end_to_end`.
//! - Clippy refuses a block without a `SAFETY` comment, and every unsafe function's body has blocks of its own.

pub(crate) mod activation;
pub(crate) mod bpf;
pub(crate) mod mmsg;
pub(crate) mod namespace;
pub(crate) mod receive_queue;
pub(crate) mod seccomp;
pub(crate) mod sockopt;
pub(crate) mod uring;
