//! How long it takes to look an address up in lists of 10, 1,000 and 100,000 random prefixes.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use glommproxy::subnets::SubnetSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// As many addresses are looked up in turn, so that neither caches nor branch predictors learn the one answer.
const ADDRESSES: usize = 4096;

fn look_up(c: &mut Criterion) {
    for (family, prefix) in [
        ("v4", v4_prefix as fn(&mut Random) -> IpNet),
        ("v6", v6_prefix),
    ] {
        let mut group = c.benchmark_group(format!("look-up {family}"));
        for len in [10, 1_000, 100_000] {
            let mut random = Random(len as u64);
            let prefixes: Vec<IpNet> = (0..len).map(|_| prefix(&mut random)).collect();
            let set = SubnetSet::parse(&lines(&prefixes)).unwrap_or_default();
            assert_eq!(set.len(), len, "the bench must look up in the whole list");

            let in_a_prefix = |random: &mut Random| {
                let prefix = prefixes[random.next() as usize % len];
                address(prefix, random)
            };
            let anywhere = |random: &mut Random| {
                let prefix = prefix(random);
                address(prefix, random)
            };
            let hits = chosen(&mut random, in_a_prefix, |ip| set.contains(ip));
            let misses = chosen(&mut random, anywhere, |ip| !set.contains(ip));
            for (name, addresses) in [("hit", hits), ("miss", misses)] {
                group.bench_with_input(BenchmarkId::new(name, len), &addresses, |b, addresses| {
                    let mut turn = 0;
                    b.iter(|| {
                        turn = (turn + 1) % ADDRESSES;
                        set.contains(black_box(addresses[turn]))
                    });
                });
            }
        }
        group.finish();
    }
}

fn parse(c: &mut Criterion) {
    let mut random = Random(7);
    let prefixes: Vec<IpNet> = (0..100_000).map(|_| v4_prefix(&mut random)).collect();
    let text = lines(&prefixes);
    c.bench_function("parse 100,000 lines", |b| {
        b.iter(|| SubnetSet::parse(black_box(&text)).is_ok());
    });
}

fn chosen(
    random: &mut Random,
    address: impl Fn(&mut Random) -> IpAddr,
    is_chosen: impl Fn(IpAddr) -> bool,
) -> Vec<IpAddr> {
    let addresses = std::iter::repeat_with(|| address(random));
    addresses
        .filter(|&ip| is_chosen(ip))
        .take(ADDRESSES)
        .collect()
}

fn lines(prefixes: &[IpNet]) -> String {
    prefixes
        .iter()
        .map(|prefix| format!("{prefix}\n"))
        .collect()
}

/// Long enough that most of 100,000 prefixes are apart: a list that merges into a few ranges would be no test.
fn v4_prefix(random: &mut Random) -> IpNet {
    let address = Ipv4Addr::from(random.next() as u32);
    let len = 24 + random.next() as u8 % 9;
    Ipv4Net::new(address, len).unwrap_or_default().into()
}

/// Within 2000::/3, where all the global addresses are.
fn v6_prefix(random: &mut Random) -> IpNet {
    let address = Ipv6Addr::from(1 << 125 | random.wide() >> 3);
    let len = 32 + random.next() as u8 % 33;
    Ipv6Net::new(address, len).unwrap_or_default().into()
}

/// A random address in the prefix.
fn address(prefix: IpNet, random: &mut Random) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = random.next() as u32 & u32::from(net.hostmask());
            IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) | host))
        }
        IpNet::V6(net) => {
            let host = random.wide() & u128::from(net.hostmask());
            IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | host))
        }
    }
}

/// Steele and others' SplitMix64: repeatable without a dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

criterion_group!(subnets, look_up, parse);
criterion_main!(subnets);
