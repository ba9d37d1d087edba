//! glommproxy unwraps the PROXY protocol in front of TCP and UDP servers, and connects to them from the client's own
//! address. This page is its architecture; the README is its manual.
//!
//! ```text
//! client ──► load balancer ──PROXY header──► glommproxy ──client's own address──► server
//! ```
//!
//! # Threads
//!
//! ```text
//! coordinator (a glommio executor)           shard 0 … N-1 (glommio executors, one on each CPU)
//!   lists: load, watch, reload                 TCP listeners ─► a task for each connection
//!   signals, the servers' names    ──────►     UDP listeners ─► one task for all flows
//!   routes                         commands    readiness set, flow table, page buffer, pipes
//! ```
//!
//! Shards share nothing. Each has its own listening sockets (`SO_REUSEPORT`), and the kernel spreads the load: TCP
//! connections by 4-tuple, UDP datagrams by *client* ([`udp`], `steer`), or by peer where only first datagrams name the
//! client. The [`coordinator`] tells them of new lists and server addresses over one glommio shared channel each, and a
//! shard swaps them between two events: no locks. What a shard counts ([`metrics`]) it alone writes. The exception are the
//! [`limits`] of connections, which are worth nothing unless they hold for the process: who sets them pays an atomic, or a
//! short lock, for each connection or flow that begins or ends. A shard that is out of places or descriptors, and has nobody
//! of its own to displace, asks another one (`tcp::lobby`).
//!
//! A shard stays on its CPU while messages queue up; with little to do, and with bulk, the kernel places it
//! (`shard::locality`).
//!
//! With `--admin`, one more thread, with an executor of its own, tells over HTTP what the shards have counted
//! (`admin`). It yields the CPU to them, and says nothing to them; only for the busiest clients it has the coordinator ask
//! them, once a second at most, and they go round their connections and flows (`shard::census`).
//!
//! `glommproxy top` asks that endpoint ([`top`]).
//!
//! With `--access-log`, a thread of its own writes a line for each connection and flow that has ended ([`access_log`]).
//!
//! A shard's lifeline, one end of a socket pair held until its thread ends, tells the coordinator that it listens, and
//! later that it is gone. Half a service is none: the process ends, and its supervisor starts it again. So it does after a
//! panic in any other thread; only one that is of a single connection, flow or request ends no more than that ([`panics`]).
//!
//! `check` and `demo` are not the proxy: [`check`] asks what start-up asks, without an executor, and [`demo`] starts the
//! proxy in a network namespace of its own.
//!
//! # Privileges
//!
//! Once all threads are there, each has only the capabilities that its work needs, none can open files that are not on the
//! list, and none can make system calls that are not ([`sandbox`]; the README has the tables). Landlock comes first, while
//! there is one thread; a thread drops its capabilities as it begins; the seccomp filter comes last, for all threads at once,
//! right before the process is ready. Executors have no pools of threads, which could not drop anything.
//!
//! Whatever needs a new file or a new system call needs a new line in `sandbox::files` or `sandbox::calls`. `dmesg` tells of
//! what is refused. System calls that carry messages have no conditions on their arguments there, as the kernel then answers
//! from a table, without running the filter.
//!
//! # The end
//!
//! On a signal, shards close their TCP listeners, after they have accepted what waits, and each ends when its last session
//! has left its gate and its last flow is idle (`shard::drain`), and the last ones of those shards as well that it has to hand
//! datagrams over to (`udp::handover`). UDP sockets stay open until the last shard has ended: the kernel steers by their places
//! in the group. When another process takes over, it gets descriptors of the listening sockets (`coordinator::takeover`); both
//! then have the very same sockets, the old one takes them out of its readiness sets, and sends through the UDP ones the replies
//! to those clients that have not spoken to the other one yet (`udp::drain`). The program that steers UDP is the sockets' too,
//! so it stays the old one's until the new one is ready (`listen::group`). [`coordinator::State`] says where the process is in
//! its life, and systemd is told ([`systemd`]).
//!
//! # Waiting for sockets
//!
//! Sockets do not go through glommio's own types, which cost several system calls for each accept and a ring submission
//! for each wait. Each shard keeps them in one edge-triggered epoll instance, and a driver task wakes the tasks that wait
//! (`shard::readiness`). While traffic flows the driver sleeps in `epoll_wait`; in silence it sleeps in glommio's ring,
//! which waits for the epoll instance itself. The gap between events decides: 20 datagrams a second are still traffic, as a
//! sleep in the ring costs ten system calls. Deadlines can be 0.1 s late by it; commands come with a bell (`eventfd`).
//!
//! # The path of a byte over TCP
//!
//! Accept → is the peer allowed? (before a byte is read) → the preface: a complete [`header`], under a deadline and a cap
//! → is it believed, and can its source be a client's ([`trust`])? → may that client have a connection
//! (`shard::admission`)? → which server is it for, and may it be had (`destination`)? → dial from that address
//! (`transparent`) → the first bytes → relay both directions until both have ended. A direction copies through the shard's
//! one page buffer while messages are small, and splices through a pooled pipe while they are bulk (`tcp::half`). The end of
//! a stream is passed on as an end, a reset as a reset. What neither side ended (a client that a new list denies, an idle
//! connection) is reset on both (`shard::roster`).
//!
//! # The path of a datagram
//!
//! Up to 64 datagrams a system call → is the peer allowed? → its header, or whom an earlier one bound its peer to
//! ([`udp::binding`]) → its flow, found by client and server, or made, if the client may have one: one connected, spoofed
//! socket (and one to listen with, if the client is on this host: `transparent::own_host`) → all datagrams of a flow in one
//! system call. Replies of all flows are gathered and leave in one system call, each to the latest peer address of its flow,
//! from the address that peer wrote to, behind the client's own header where the format wants it back ([`header::spp`]).
//!
//! With headers on first datagrams only, a client can have flows on two shards, with two sockets of one 4-tuple; `udp::roam`
//! tells who gets the replies.
//!
//! The kernel's own layers are nearly all that a datagram costs. So neighbours of one length and one destination go through
//! them in one *piece* (udp(7), `UDP_SEGMENT`), and who receives them notices nothing; pieces that come in (`UDP_GRO`) are
//! taken apart, as each datagram has its own header (`udp::segments`, `sys::mmsg`). A route that refuses pieces gets
//! datagrams. The kernel steers a piece whole, by the first header in it; what it holds for other shards' clients, where a
//! balancer has one socket for many, is handed over to these (`udp::handover`), and the shards ask for no more pieces there
//! (`udp::mixed`).
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | a header | 8 KiB, announced lengths are never allocated; 107 bytes for v1 |
//! | waiting for it, for the server | `--header-timeout`, `--connect-timeout` |
//! | looking up a server's name | 10 s, on a thread of its own, one a name; 256 names a flag |
//! | rules for servers' former addresses | those of the last 8 changes |
//! | a TCP direction that the far side does not read | 64 KiB, or one pipe (1 MiB), and the kernel's buffers of its two sockets (`tcp_rmem`, `tcp_wmem`) |
//! | a TCP peer that answers no probe; that acknowledges nothing | 150 s; as the kernel says, or `--idle-timeout` |
//! | pipes of a shard | 256, of which 64 are kept when idle, unless connections wait for descriptors |
//! | UDP flows, and peers bound to clients | `--max-flows` each; never-answered ones go first, then those whose client has not spoken since |
//! | what waits for a shard that another has received | 4 MiB, further datagrams are lost and counted |
//! | new flows of a batch while a listener's receive buffer is half full, or what waits for the shard half of its limit | 2 |
//! | TCP connections | `--max-connections`; those without a header make room, further ones wait in the backlog |
//! | connections and flows of a client, new ones a second | `--max-connections-per-client`, `--new-connections-per-second` |
//! | clients whose new connections are remembered | 131,072 a second; those beyond are let in |
//! | a TCP connection without a byte | `--idle-timeout` |
//! | one turn: accepts, bytes of a TCP direction (or rounds), replies of a flow, expiries, connections ended by a list or the clock, connections or flows counted | 64, 512 KiB (8), 32, 256, 64, 1024 |
//! | datagrams of one piece, bytes of one; each of the datagrams counted above may be a piece | 64, 64 KiB |
//! | listening ports | 4096 |
//! | descriptors | RLIMIT_NOFILE, its hard limit; connections and flows leave 24 of them alone, for the admin endpoint and the lists |
//! | addresses and ports redirected to a UDP listener | 1024, those without flows make room |
//! | connections to the admin endpoint, a request's head, its time | 32 (the oldest goes), 8 KiB and 64 lines, 10 s |
//! | clients in a count of what each has moved, in an answer | 65,536 of a shard (those that moved the most stay), 1000 |
//! | log lines of one kind that repeat with every datagram or refusal | one a second and shard, with a count |
//! | log lines waiting for a slow reader | 16,384, further ones are lost |
//! | lines of the access log waiting for a slow disk | 16,384, further ones are lost and counted |
//! | a TLV's text in a log line | 255 bytes, escaped |
//! | a list | 64 MiB, 1,000,000 prefixes; from a pipe, 10 s of silence |
//! | reading a list that never rests; SIGHUP | 5 times a second, and a fifth of a CPU unless that is less than every 2 s |
//! | the end; then, telling the access log what it cuts | `--drain-timeout`; 1 s |
//! | connections accepted from a listener before it is closed | 4096 |
//! | instances of a network namespace that can be taken over | 64 |
//!
//! # What glommio 0.9 makes us mind
//!
//! - There is no public way to wait for a file descriptor; see `shard::readiness` for the one we use, and its test.
//! - Polling a channel's `recv` keeps one more waker each time, and a task counts its wakers in 16 bits. A future that
//!   waits for a channel must not share a task with one that is polled often.
//! - An executor can go to sleep with tasks ready to run, and sleep until its next event: `run_task_queues` runs nothing
//!   if `need_preempt` is true at once, and `run` then parks. That happens when the preemption timer is over by then,
//!   because the thread had to wait for a CPU, and when another executor's wake-up has just come in. So that timer is out
//!   of reach (`shard::PREEMPT`; the driver gives timers and channels their turn), and the coordinator wakes shards again
//!   after it has spoken to them (`coordinator::shards`).
//! - A panic on an executor leaks the futures of its other tasks. Nothing may rely on their being dropped. A panic in a
//!   session or flow does not come so far: it is caught within the task ([`panics`]).
//!
//! # Unsafe code
//!
//! All of it is under `sys`: `recvmmsg`/`sendmmsg`, some socket options, the reuseport BPF program, the descriptors that
//! systemd passes, what glommio's ring needs, putting a seccomp filter into force, and the namespace of `demo`. Its page lists every
//! block, what has to hold there, and how that is tested.
//!
//! # Dependencies
//!
//! `cargo tree --edges normal` has 124 crates, this one and macros included; 64 of them are glommio and what it needs. Each that is
//! named in `Cargo.toml` has its reason there, and no more features than are used. `.ci/deny.toml` says which licences and
//! sources there may be, which crates may be there twice (glommio 0.9.0 needs older ones), and which advisories are known
//! and do not concern us.

#![cfg_attr(test, allow(clippy::expect_used))]

pub mod access_log;
pub mod addr;
mod admin;
pub mod args;
pub mod capabilities;
pub mod check;
pub mod config;
pub mod coordinator;
pub mod cpus;
pub mod demo;
mod destination;
pub mod header;
pub mod host;
pub mod limits;
mod listen;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod routing;
pub mod sandbox;
mod shard;
pub mod subnets;
mod sys;
pub mod systemd;
mod tcp;
pub mod top;
mod transparent;
pub mod trust;
pub mod udp;
