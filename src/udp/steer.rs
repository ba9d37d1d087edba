//! Steering: which shard a datagram goes to.
//!
//! `SO_REUSEPORT` alone spreads datagrams by the *balancer's* address. One client that comes through two balancer sockets
//! would then reach two shards, which would open two sockets with the same 4-tuple. So a small BPF program in the kernel
//! hashes the *client's* address, which it reads out of the header, and returns the shard's number. Datagrams without such
//! a header go to shard 0, which drops and counts them (or, for LOCAL, forwards them).
//!
//! Where only the first datagram of a session has a header (`--udp-header v2-first`), those behind it are known by their
//! peer alone. There, what `SO_REUSEPORT` does is right; `roam` tells what comes of a client on two shards.

use std::io;
use std::os::fd::AsFd;

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC,
    BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR,
};

use crate::config::UdpHeader;
use crate::sys::bpf::{Instruction, attach_reuseport, detach_reuseport, jump, statement};

/// 2^32 divided by the golden ratio, odd: multiplying by it spreads close addresses (Knuth, TAOCP 3, 6.4).
const SPREAD: u32 = 0x9E37_79B1;

/// Where PROXY v2 has what (section 2.2 of the specification): version and command, family and transport, then the
/// addresses.
const COMMAND: u32 = 12;
const PROXY: u32 = 0x21;
const FAMILY: u32 = 13;
const ADDRESSES: u32 = 16;
const INET: u32 = 0x10;
const INET6: u32 = 0x20;

/// Where Simple Proxy Protocol has what: its magic number, then client (16), proxy (16), client port (2), proxy port (2).
const SPP_MAGIC: u32 = 0x56EC;
const SPP_CLIENT: u32 = 2;
const SPP_PORT: u32 = 34;

/// Where a header has the client: the words of its address, and its port.
struct Client {
    words: &'static [u32],
    port: u32,
}

/// INET: source (4), destination (4), source port (2), …
const CLIENT_V4: Client = Client {
    words: &[ADDRESSES],
    port: ADDRESSES + 8,
};
/// INET6: source (16), destination (16), source port (2), …
const CLIENT_V6: Client = Client {
    words: &[ADDRESSES, ADDRESSES + 4, ADDRESSES + 8, ADDRESSES + 12],
    port: ADDRESSES + 32,
};
/// `::ffff:a.b.c.d` is the client a.b.c.d, and has to reach the same shard.
const CLIENT_MAPPED: Client = Client {
    words: &[ADDRESSES + 12],
    port: ADDRESSES + 32,
};
/// IPv4 clients are v4-mapped in every header of Simple Proxy Protocol, so there is one way only to write a client.
const CLIENT_SPP: Client = Client {
    words: &[SPP_CLIENT, SPP_CLIENT + 4, SPP_CLIENT + 8, SPP_CLIENT + 12],
    port: SPP_PORT,
};

/// What a v4-mapped source begins with (RFC 4291, section 2.5.5.2): three words and their places.
const MAPPED: [(u32, u32); 3] = [(ADDRESSES, 0), (ADDRESSES + 4, 0), (ADDRESSES + 8, 0xFFFF)];

/// Has datagrams with this header steered in the reuseport group of `socket`, whose members are the shards' sockets in
/// order. Whatever steered them before, as may be where the sockets are inherited, does so no more.
///
/// # Errors
///
/// As `setsockopt(2)`.
pub(crate) fn attach(socket: impl AsFd, shards: u32, header: UdpHeader) -> io::Result<()> {
    match header {
        UdpHeader::V2 => attach_reuseport(socket, &program(shards)),
        UdpHeader::V2First => detach_reuseport(socket),
        UdpHeader::Spp => attach_reuseport(socket, &program_spp(shards)),
    }
}

/// Has all datagrams of the reuseport group of `socket` go to its first member, as if there were no other.
///
/// # Errors
///
/// As `setsockopt(2)`.
pub(crate) fn attach_to_first(socket: impl AsFd) -> io::Result<()> {
    attach_reuseport(socket, &[statement(BPF_RET | BPF_K, 0)])
}

/// The place in its group of `members` sockets of the one that gets this datagram, if it is steered on its own: what the
/// program would say of it.
pub(super) fn member(datagram: &[u8], members: u32, header: UdpHeader) -> u32 {
    let word = |at: u32| load(datagram, at).map(u32::from_be_bytes);
    let client = match header {
        UdpHeader::V2 => {
            let [command, family] = load(datagram, COMMAND).unwrap_or_default();
            let is_mapped = || MAPPED.iter().all(|&(at, value)| word(at) == Some(value));
            match (u32::from(command), u32::from(family) & 0xF0) {
                (PROXY, INET) => CLIENT_V4,
                (PROXY, INET6) if is_mapped() => CLIENT_MAPPED,
                (PROXY, INET6) => CLIENT_V6,
                _ => return 0,
            }
        }
        UdpHeader::Spp => match load(datagram, 0).map(u16::from_be_bytes) {
            Some(magic) if u32::from(magic) == SPP_MAGIC => CLIENT_SPP,
            _ => return 0,
        },
        // By peer.
        UdpHeader::V2First => return 0,
    };
    let mut spread = 0;
    for &at in client.words {
        let Some(word) = word(at) else { return 0 };
        spread = (spread ^ word).wrapping_mul(SPREAD);
    }
    let Some(port) = load(datagram, client.port).map(u16::from_be_bytes) else {
        return 0;
    };
    ((spread ^ u32::from(port)).wrapping_mul(SPREAD) >> 16) % members
}

/// The bytes from a place on, if they are all there.
fn load<const N: usize>(datagram: &[u8], at: u32) -> Option<[u8; N]> {
    datagram.get(at as usize..)?.first_chunk().copied()
}

fn program_spp(shards: u32) -> Vec<Instruction> {
    let mut program = vec![
        statement(BPF_LD | BPF_H | BPF_ABS, 0),
        jump(BPF_JMP | BPF_JEQ | BPF_K, SPP_MAGIC, 1, 0),
        statement(BPF_RET | BPF_K, 0),
    ];
    program.extend(hash(CLIENT_SPP, shards));
    program
}

fn program(shards: u32) -> Vec<Instruction> {
    let v4 = hash(CLIENT_V4, shards);
    let v6 = hash(CLIENT_V6, shards);
    let mapped = hash(CLIENT_MAPPED, shards);
    let mut program = vec![
        statement(BPF_LD | BPF_B | BPF_ABS, COMMAND),
        jump(BPF_JMP | BPF_JEQ | BPF_K, PROXY, 1, 0),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_LD | BPF_B | BPF_ABS, FAMILY),
        statement(BPF_ALU | BPF_AND | BPF_K, 0xF0),
        jump(BPF_JMP | BPF_JEQ | BPF_K, INET, 2, 0),
        jump(BPF_JMP | BPF_JEQ | BPF_K, INET6, 1 + v4.len() as u8, 0),
        statement(BPF_RET | BPF_K, 0),
    ];
    program.extend(v4);
    let mut to_v6 = mapped.len() + 2 * MAPPED.len();
    for (at, word) in MAPPED {
        to_v6 -= 2;
        program.push(statement(BPF_LD | BPF_W | BPF_ABS, at));
        program.push(jump(BPF_JMP | BPF_JEQ | BPF_K, word, 0, to_v6 as u8));
    }
    program.extend(mapped);
    program.extend(v6);
    program
}

/// X = (… (word * SPREAD ^ word) * SPREAD …); returns its high half, modulo the number of shards.
fn hash(client: Client, shards: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    let words = client.words.iter().map(|&at| (BPF_W, at));
    let loads = words.chain([(BPF_H, client.port)]);
    for (i, (size, at)) in loads.enumerate() {
        code.push(statement(BPF_LD | size | BPF_ABS, at));
        if i > 0 {
            code.push(statement(BPF_ALU | BPF_XOR | BPF_X, 0));
        }
        code.push(statement(BPF_ALU | BPF_MUL | BPF_K, SPREAD));
        code.push(statement(BPF_MISC | BPF_TAX, 0));
    }
    code.push(statement(BPF_ALU | BPF_RSH | BPF_K, 16));
    code.push(statement(BPF_ALU | BPF_MOD | BPF_K, shards));
    code.push(statement(BPF_RET | BPF_A, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::collections::{HashMap, HashSet};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::time::Duration;

    /// A group of sockets as the shards have them, on a port of the kernel's choice.
    fn group(shards: usize, listen: &str) -> (Vec<UdpSocket>, SocketAddr) {
        group_for(UdpHeader::V2, shards, listen)
    }

    fn group_for(header: UdpHeader, shards: usize, listen: &str) -> (Vec<UdpSocket>, SocketAddr) {
        let mut addr: SocketAddr = listen.parse().expect("an address");
        let sockets: Vec<UdpSocket> = (0..shards)
            .map(|_| {
                let socket =
                    Socket::new(Domain::for_address(addr), Type::DGRAM, None).expect("a socket");
                socket.set_reuse_port(true).expect("Linux 3.9");
                socket.bind(&SockAddr::from(addr)).expect("a free port");
                let socket = UdpSocket::from(socket);
                addr = socket.local_addr().expect("bound");
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .expect("a socket");
                socket
            })
            .collect();
        attach(&sockets[0], shards as u32, header).expect("a valid program");
        (sockets, addr)
    }

    fn header_v4(client: [u8; 4], port: u16) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
        header.extend(client);
        header.extend([127, 0, 0, 1]);
        header.extend(port.to_be_bytes());
        header.extend(443u16.to_be_bytes());
        header
    }

    fn header_v6(last: u16, port: u16) -> Vec<u8> {
        let mut client = *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\0";
        client[14..].copy_from_slice(&last.to_be_bytes());
        header_of_v6(client, port)
    }

    fn header_of_v6(client: [u8; 16], port: u16) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x22\0\x24".to_vec();
        header.extend(client);
        header.extend([0; 16]);
        header.extend(port.to_be_bytes());
        header.extend(443u16.to_be_bytes());
        header
    }

    fn header_spp(client: Ipv6Addr, port: u16) -> Vec<u8> {
        let mut header = vec![0x56, 0xEC];
        header.extend(client.octets());
        header.extend([0; 16]);
        header.extend(port.to_be_bytes());
        header.extend(443u16.to_be_bytes());
        header
    }

    /// Sends from a fresh socket (so the kernel's own choice would vary) and tells which member received, as we foretell.
    fn receiver(sockets: &[UdpSocket], to: SocketAddr, datagram: &[u8]) -> usize {
        receiver_for(UdpHeader::V2, sockets, to, datagram)
    }

    fn receiver_for(
        header: UdpHeader,
        sockets: &[UdpSocket],
        to: SocketAddr,
        datagram: &[u8],
    ) -> usize {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let receiver = receiver_from(&sender, sockets, to, datagram);
        let foretold = member(datagram, sockets.len() as u32, header);
        assert_eq!(receiver, foretold as usize, "the kernel says otherwise");
        receiver
    }

    fn receiver_from(
        sender: &UdpSocket,
        sockets: &[UdpSocket],
        to: SocketAddr,
        datagram: &[u8],
    ) -> usize {
        sender
            .send_to(datagram, ("127.0.0.1", to.port()))
            .expect("sent");
        let ready = |socket: &UdpSocket| {
            socket.set_nonblocking(true).expect("a socket");
            socket.recv(&mut [0; 128]).is_ok()
        };
        // Loopback delivers before `send_to` returns.
        sockets
            .iter()
            .position(ready)
            .expect("somebody received it")
    }

    #[test]
    fn a_client_always_reaches_the_same_shard_and_clients_spread() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let (sockets, to) = group(4, listen);
            let mut counts = HashMap::new();
            for n in 0..200u16 {
                for header in [
                    header_v4([203, 0, 113, n as u8], 40_000 + n),
                    header_v6(n, 40_000),
                ] {
                    let first = receiver(&sockets, to, &header);
                    assert_eq!(
                        receiver(&sockets, to, &header),
                        first,
                        "a client changed its shard"
                    );
                    *counts.entry((header.len(), first)).or_insert(0) += 1;
                }
            }
            assert_eq!(
                counts.len(),
                8,
                "both families reach all four shards: {counts:?}"
            );
            assert!(counts.values().all(|&n| n > 20), "uneven: {counts:?}");
        }
    }

    #[test]
    fn a_mapped_client_reaches_the_shard_of_the_ipv4_client() {
        let (sockets, to) = group(4, "127.0.0.1:0");
        let mut reached = HashSet::new();
        for n in 0..100 {
            let (client, port) = (Ipv4Addr::new(203, 0, 113, n), 40_000 + u16::from(n));
            let shard = receiver(&sockets, to, &header_v4(client.octets(), port));
            let mapped = header_of_v6(client.to_ipv6_mapped().octets(), port);
            assert_eq!(receiver(&sockets, to, &mapped), shard, "{client}");
            reached.insert(shard);
        }
        assert_eq!(reached.len(), 4);
    }

    #[test]
    fn a_client_of_simple_proxy_protocol_always_reaches_the_same_shard_and_clients_spread() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let (sockets, to) = group_for(UdpHeader::Spp, 4, listen);
            let mut counts = HashMap::new();
            for n in 0..200u16 {
                for (family, ip) in [
                    (4, Ipv4Addr::new(203, 0, 113, n as u8).to_ipv6_mapped()),
                    (6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)),
                ] {
                    let header = header_spp(ip, 40_000 + n);
                    let first = receiver_for(UdpHeader::Spp, &sockets, to, &header);
                    assert_eq!(
                        receiver_for(UdpHeader::Spp, &sockets, to, &header),
                        first,
                        "{ip} moved"
                    );
                    *counts.entry((family, first)).or_insert(0) += 1;
                }
            }
            assert_eq!(counts.len(), 8, "{counts:?}");
            assert!(counts.values().all(|&n| n > 20), "uneven: {counts:?}");
        }
        let (sockets, to) = group_for(UdpHeader::Spp, 3, "127.0.0.1:0");
        let whole = header_spp(Ipv6Addr::LOCALHOST, 7);
        for datagram in [
            &b""[..],
            b"hello",
            &whole[..35],
            &header_v4([1, 2, 3, 4], 5),
        ] {
            assert_eq!(receiver_for(UdpHeader::Spp, &sockets, to, datagram), 0);
        }
    }

    #[test]
    fn with_headers_on_first_datagrams_a_peer_always_reaches_the_same_shard_and_peers_spread() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let (sockets, to) = group_for(UdpHeader::V2First, 4, listen);
            let mut reached = HashSet::new();
            for n in 0..64 {
                let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
                let header = header_v4([203, 0, 113, n], 40_000);
                let shard = receiver_from(&peer, &sockets, to, &header);
                for datagram in [&b""[..], b"hello", &header_v6(7, 7)] {
                    assert_eq!(receiver_from(&peer, &sockets, to, datagram), shard);
                }
                reached.insert(shard);
            }
            assert_eq!(reached.len(), 4);
        }
    }

    #[test]
    fn what_steered_a_group_before_does_so_no_more() {
        let (sockets, to) = group_for(UdpHeader::Spp, 4, "127.0.0.1:0");
        let headers = (1..).map(|port| header_spp(Ipv6Addr::LOCALHOST, port));
        let mut foretold = headers.map(|spp| (member(&spp, 4, UdpHeader::Spp) as usize, spp));
        // Where nothing else would lead.
        let (elsewhere, spp) = foretold.find(|&(at, _)| at > 0).expect("a client");
        let reached = |datagram: &[u8]| -> HashSet<usize> {
            let fresh = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
            fresh
                .map(|peer| receiver_from(&peer, &sockets, to, datagram))
                .collect()
        };
        assert_eq!(reached(&spp), HashSet::from([elsewhere]));
        // The second time there is nothing left to detach.
        for _ in 0..2 {
            attach(&sockets[0], 4, UdpHeader::V2First).expect("Linux 5.3");
            assert_eq!(reached(&spp).len(), 4);
        }
        attach(&sockets[0], 4, UdpHeader::V2).expect("a valid program");
        assert_eq!(reached(&spp), HashSet::from([0]));
    }

    #[test]
    fn what_has_no_client_goes_to_shard_0() {
        let (sockets, to) = group(3, "127.0.0.1:0");
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        for datagram in [&b""[..], b"hello", local, &header_v4([1, 2, 3, 4], 5)[..20]] {
            assert_eq!(receiver(&sockets, to, datagram), 0);
        }
        // LOCAL, with addresses that mean nothing.
        for n in 0..20 {
            let mut local = header_v4([203, 0, 113, n], 40_000);
            local[12] = 0x20;
            assert_eq!(receiver(&sockets, to, &local), 0);
        }
    }
}
