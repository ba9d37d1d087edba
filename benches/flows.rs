//! The UDP flow table: what each datagram costs to find its flow.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use glommproxy::addr::{ClientAddr, PeerAddr};
use glommproxy::udp::flow::{FlowKey, FlowTable, Party};

/// Flows in the table; the last is the default of `--max-flows`.
const SIZES: [u32; 3] = [10, 1_000, 16_384];

fn key(n: u32) -> FlowKey {
    let peer = PeerAddr::new(SocketAddr::from(([192, 0, 2, 1], 40_000)));
    let ip = u32::to_be_bytes(0x0a00_0000 + n / 50_000);
    let source = SocketAddr::from((ip, 1024 + (n % 50_000) as u16));
    #[allow(clippy::expect_used)] // 10.0.0.0/8 and a port above 1023 can be a client's.
    let client = ClientAddr::believe(source, peer).expect("a client's address");
    FlowKey {
        party: Party::Client(client),
        target: SocketAddr::from(([127, 0, 0, 1], 443)),
    }
}

fn table(size: u32, now: Instant) -> FlowTable<()> {
    let mut table = FlowTable::new(size as usize, Duration::from_secs(60));
    for n in 0..size {
        let Ok(_) = table.insert(key(n), now, |_| Ok::<_, Infallible>(()));
    }
    table
}

fn flows(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("flows");
    for size in SIZES {
        let mut table = table(size, now);
        let keys: Vec<FlowKey> = (0..size).map(key).collect();
        // Steps through all flows in an order the CPU cannot guess.
        let mut at = 0;
        group.bench_function(BenchmarkId::new("find and touch", size), |b| {
            b.iter(|| {
                at = (at + 7_919) % keys.len();
                if let Some(id) = table.find(black_box(&keys[at])) {
                    table.touch(id, now);
                }
            });
        });
        group.bench_function(BenchmarkId::new("evict and insert", size), |b| {
            let mut n = size;
            b.iter(|| {
                n = n.wrapping_add(1) % (8 * size);
                if table.find(&key(n)).is_none() {
                    table.evict();
                    let Ok(_) = table.insert(key(n), now, |_| Ok::<_, Infallible>(()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, flows);
criterion_main!(benches);
