//! A flood of SYN packets from senders that somebody made up: the kernel's to answer, and nobody else is to notice.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Balancer, Connection, Header, Proxy, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated_for, run};
use crate::other_host::OtherHost;

/// Innocent connections, one after the other, without the flood and again with it.
const INNOCENT: u16 = 200;

/// SYN packets that the kernel is to answer with cookies: many times what two backlogs of 4096 hold.
const COOKIES: u64 = 50_000;

/// Where the flood claims to come from. What is sent there gets lost on the other host, which is no router.
const MADE_UP: &str = "198.18.0.0/15";

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let words = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    !((sum & 0xFFFF) + (sum >> 16)) as u16
}

/// The `n`th packet of the flood (RFC 791 and RFC 9293, section 3.1), from a sender that has sent none yet.
fn syn(n: u32, to: SocketAddrV4) -> [u8; 40] {
    let from = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() | (n % (1 << 17)));
    let [source, destination] = [from.octets(), to.ip().octets()];
    let mut packet = [0; 40];
    packet[0] = 0x45; // version 4, five words; the kernel fills in length, identification and checksum (raw(7))
    packet[8] = 64; // time to live
    packet[9] = 6; // TCP
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    let port = 1024 + (n >> 17) as u16;
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&n.to_be_bytes()); // sequence number
    packet[32] = 0x50; // five words
    packet[33] = 0x02; // SYN
    packet[34..36].copy_from_slice(&[0xFF, 0xFF]); // window
    let pseudo_header = [&source[..], &destination, &[0, 6, 0, 20]].concat();
    let sum = checksum(&[&pseudo_header, &packet[20..]].concat());
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Sends as fast as one thread can until it is told to stop, and returns how many packets that were.
fn flood(socket: &Socket, to: SocketAddrV4, stop: &AtomicBool) -> TestResult<u32> {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&syn(sent, to), &to.into())?;
        sent += 1;
    }
    Ok(sent)
}

/// A counter of this host's kernel (proc_pid_net(5), `netstat`).
fn counter(name: &str) -> TestResult<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    // A line of names, and a line of numbers.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().ok_or("no names")?.split_whitespace();
    let numbers = lines.next().ok_or("no numbers")?.split_whitespace();
    let found = names.zip(numbers).find(|(found, _)| *found == name);
    Ok(found.ok_or(format!("no counter {name}"))?.1.parse()?)
}

/// A client that connects from there through a balancer, asks, and is answered.
fn ask(host: &OtherHost, proxy: SocketAddr, client: &str) -> TestResult<Connection> {
    let header = Header::of(client)?.then(b"ping");
    host.inside(move || {
        let connection = Balancer::default().connect_to(proxy, &header)?;
        connection.expect(b"ping")?;
        Ok(connection)
    })
}

/// Innocent clients, one after the other, while another goes on talking. Prints how long they took, from before they
/// connected to the answer.
#[allow(clippy::print_stdout)]
fn ask_again_and_again(
    when: &str,
    client_ip: &str,
    host: &OtherHost,
    proxy: SocketAddr,
    other: &Connection,
) -> TestResult {
    let mut times = Vec::new();
    for n in 0..INNOCENT {
        let begun = Instant::now();
        ask(host, proxy, &format!("{client_ip}:{}", 4000 + n))?;
        times.push(begun.elapsed());
        other.expect_echo(b"still there?")?;
    }
    times.sort_unstable();
    let [median, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
    println!("{when}: median {median:?}, 99th percentile {p99:?}");
    Ok(())
}

#[test]
#[allow(clippy::print_stdout)]
fn a_flood_of_syn_packets_keeps_nobody_out() -> TestResult {
    isolated_for(Duration::from_secs(60), || {
        let host = OtherHost::new(1)?;
        run(&format!("ip route add {MADE_UP} via {}", host.v4()))?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .listen(&format!("{}:0", host.router_v4()))
            .args(["--listeners", "2", "--admin", "127.0.0.1:0"])
            .start()?;
        let SocketAddr::V4(to) = proxy.addr() else {
            return Err("not an IPv4 address".into());
        };
        let other = ask(&host, proxy.addr(), "192.0.2.1:4000")?;
        ask_again_and_again("before", "192.0.2.2", &host, proxy.addr(), &other)?;
        assert_eq!(counter("SyncookiesSent")?, 0);

        let raw = host.inside(|| {
            // IPPROTO_RAW: the IP header is ours to write (raw(7)).
            Ok(Socket::new(
                Domain::IPV4,
                Type::RAW,
                Some(Protocol::from(255)),
            )?)
        })?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&raw, to, &stop));
            let sent_cookies =
                |count| wait_for(|| Ok((counter("SyncookiesSent")? >= count).then_some(())));
            let during = || {
                sent_cookies(1)?;
                ask_again_and_again("meanwhile", "192.0.2.3", &host, proxy.addr(), &other)?;
                sent_cookies(COOKIES)
            };
            let served = during();
            stop.store(true, Ordering::Relaxed);
            let sent = flooding.join().map_err(|_| "the flood panicked")??;
            let cookies = counter("SyncookiesSent")?;
            println!("{sent} SYN packets, {cookies} of them answered with a cookie");
            served
        })?;
        // There was no room for the innocent either: they came by cookies.
        assert_ne!(counter("SyncookiesRecv")?, 0);

        // The program heard of none of it.
        let innocent = 1 + 2 * INNOCENT;
        let admin = proxy.admin()?;
        admin.wait_for_metric("glommproxy_connections_total", &innocent.to_string())?;
        other.expect_echo(b"still there?")?;
        let exit = proxy.stop()?;
        assert_eq!(exit.total("connections")?, u64::from(innocent));
        exit.expect_success()
    })
}
