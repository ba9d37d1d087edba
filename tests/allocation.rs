//! The hot paths allocate nothing: decoding a header, believing its source, looking addresses up, relaying datagrams.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "harness/namespace.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod namespace;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use glommproxy::addr::{ClientAddr, PeerAddr};
use glommproxy::config::{self, Startup};
use glommproxy::coordinator::{self, Inherited};
use glommproxy::header::{Decoded, Origin, Transport, decode, spp};
use glommproxy::sandbox::Sandbox;
use glommproxy::subnets::SubnetSet;
use glommproxy::trust::Trust;
use namespace::{TestResult, isolated};
use rustix::process::{Signal, getpid, kill_process};

/// The system's allocator, which counts what the calling thread asks of it: tests run side by side, each in a thread. And
/// what all threads do, for the test that is alone in its process.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static ALL_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to `System` as it came, which keeps the contract of `GlobalAlloc`. Counting neither
// allocates nor unwinds: the thread's counter is constant-initialised and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `System` by the methods above; the rest is the caller's part of the contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` by the methods above, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count() {
    ALL_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

/// How many allocations this thread makes in `work`.
fn allocations_in<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    black_box(work());
    ALLOCATIONS.with(Cell::get) - before
}

fn headers() -> Vec<Vec<u8>> {
    let v2 = |fixed: &[u8], block: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", fixed, block].concat();
    let mut with_crc = v2(
        b"\x21\x11\x00\x13",
        b"\xCB\x00\x71\x07\xC0\x00\x02\x01\xDC\x04\x01\xBB\x03\x00\x04\0\0\0\0",
    );
    let crc = crc32c::crc32c(&with_crc);
    with_crc[31..].copy_from_slice(&crc.to_be_bytes());

    vec![
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 56324 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(b"\x20\x00\x00\x00", b""),
        v2(
            b"\x21\x11\x00\x0C",
            b"\xCB\x00\x71\x07\xC0\x00\x02\x01\xDC\x04\x01\xBB",
        ),
        v2(
            b"\x21\x21\x00\x28",
            &[b"\x20\x01\x0D\xB8".as_slice(), &[7; 32], b"\x04\x00\x01x"].concat(),
        ),
        with_crc,
    ]
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations_in(|| Box::new(black_box(7))), 1);
    assert!(allocations_in(|| black_box(String::from("an allocation")) + " and one more") >= 2);
}

#[test]
fn decoding_allocates_nothing() {
    let peer = PeerAddr::new("192.0.2.9:4000".parse::<SocketAddr>().expect("an address"));
    for bytes in headers() {
        let allocations = allocations_in(|| {
            let Ok(Decoded::Complete { header, consumed }) = decode(&bytes, Transport::Stream)
            else {
                panic!("no whole header: {}", bytes.escape_ascii());
            };
            assert_eq!(consumed, bytes.len());
            let claimed = header.claimed_source();
            let trust = Trust {
                requires_crc32c: true,
                loopback_clients: true,
            };
            let wanted = trust.check(header).is_ok();
            let Ok(header) = Trust::default().check(header) else {
                panic!("no valid header: {}", bytes.escape_ascii());
            };
            assert_eq!(wanted, header.tlvs.has_crc32c());
            if let Origin::Proxied { source, .. } = header.origin() {
                assert_eq!(claimed, Some(source));
                assert!(ClientAddr::believe(source, peer).is_ok());
            }
            assert!(trust.client(header.origin(), peer).is_ok());
            header.tlvs.iter().map(|tlv| tlv.value.len()).sum::<usize>()
        });
        assert_eq!(allocations, 0, "{}", bytes.escape_ascii());
    }
}

#[test]
fn waiting_and_refusing_allocate_nothing() {
    for bytes in headers() {
        for cut in 0..bytes.len() {
            assert_eq!(
                allocations_in(|| decode(&bytes[..cut], Transport::Stream).is_ok()),
                0
            );
            assert_eq!(
                allocations_in(|| decode(&bytes[..cut], Transport::Datagram).is_err()),
                0
            );
        }
        for at in 0..bytes.len() {
            let mut corrupted = bytes.clone();
            corrupted[at] ^= 0x55;
            assert_eq!(
                allocations_in(|| decode(&corrupted, Transport::Stream)
                    .and_then(Decoded::check)
                    .map_err(|error| error.kind())
                    .is_ok()),
                0
            );
        }
    }
    let announces_too_much = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF";
    assert_eq!(
        allocations_in(|| decode(announces_too_much, Transport::Stream).is_err()),
        0
    );
}

#[test]
fn simple_proxy_protocol_allocates_nothing() {
    let header = [&b"\x56\xEC"[..], &[0x20; 36]].concat();
    assert_eq!(allocations_in(|| spp::decode(&header).is_ok()), 0);
    for cut in 0..header.len() {
        assert_eq!(allocations_in(|| spp::decode(&header[..cut]).is_err()), 0);
    }
}

#[test]
fn looking_up_allocates_nothing() {
    let text: String = (0..=255)
        .map(|net| format!("10.{net}.0.0/24\n2001:db8:{net:x}::/64\n"))
        .collect();
    let set = SubnetSet::parse(&text).expect("a list");
    for (ip, is_in) in [
        ("10.7.0.1", true),
        ("10.7.1.1", false),
        ("::ffff:10.7.0.1", true),
        ("2001:db8:7::1", true),
        ("2001:db8:7:1::1", false),
    ] {
        let ip: IpAddr = ip.parse().expect("an address");
        assert_eq!(
            allocations_in(|| assert_eq!(set.contains(black_box(ip)), is_in)),
            0
        );
    }
}

/// The whole proxy in this process, with a balancer and a server whose threads allocate nothing either. A shard does
/// allocate when it goes to sleep, or looks after timers: so the datagrams come in bursts, and there are many to one sleep.
#[test]
fn relaying_a_datagram_allocates_nothing() -> TestResult {
    isolated(|| {
        const BURST: usize = 50;
        const BURSTS: usize = 40;
        const CLIENTS: usize = 10;

        let server = UdpSocket::bind("127.0.0.1:0")?;
        let target = server.local_addr()?.to_string();
        // Nobody else is in this namespace.
        let listen: SocketAddr = "127.0.0.1:25577".parse()?;
        let proxy = thread::spawn(move || {
            let words = [
                "-p",
                "udp",
                "--setup-routes",
                "--drain-timeout",
                "0",
                "--listeners",
                "1",
                "-l",
                "127.0.0.1:25577",
                "-4",
            ];
            let words = words.into_iter().map(Into::into).chain([target.into()]);
            let Ok(Startup::Run(config)) = config::load(words, |_| None) else {
                panic!("a good command line is refused");
            };
            coordinator::run(&config, Inherited::default(), Sandbox::off())
                .map_err(|error| error.to_string())
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(&buffer[..len], from);
            }
        });

        let balancer = UdpSocket::bind("127.0.0.1:0")?;
        let datagrams: Vec<_> = (0..CLIENTS as u8)
            .map(|n| {
                let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xC0\0\x02";
                let rest = b"\xCB\x00\x71\x01\x0F\xA0\x01\xBB and the payload";
                [&header[..], &[n + 1], rest].concat()
            })
            .collect();
        let mut buffer = [0; 2048];
        // It is not there at once.
        balancer.set_read_timeout(Some(Duration::from_millis(50)))?;
        while balancer.send_to(&datagrams[0], listen).is_err()
            || balancer.recv(&mut buffer).is_err()
        {}
        balancer.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut relay = |bursts: usize| -> TestResult<usize> {
            let before = ALL_ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..bursts {
                for n in 0..BURST {
                    balancer.send_to(&datagrams[n % CLIENTS], listen)?;
                }
                for _ in 0..BURST {
                    balancer.recv(&mut buffer)?;
                }
            }
            Ok(ALL_ALLOCATIONS.load(Ordering::Relaxed) - before)
        };
        // Flows are made, and queues grow to the size they keep.
        relay(4)?;
        let allocations = relay(BURSTS)?;
        assert!(
            allocations < BURST * BURSTS / 2,
            "{allocations} allocations for {} datagrams",
            BURST * BURSTS
        );
        kill_process(getpid(), Signal::TERM)?;
        let ended = proxy.join().map_err(|_| "the proxy panicked")?;
        Ok(ended?)
    })
}
