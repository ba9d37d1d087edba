//! How long decoding a header takes, next to the crates `ppp` and `proxy-protocol` on the same bytes; and finding out whose
//! a datagram without one is.
//!
//! Of each crate's result the same is read: the client's address and port, and where the payload begins. How much is known
//! of the TLVs by then differs:
//!
//! - "glommproxy", "proxy-protocol" and "ppp": nothing. The TLVs are skipped.
//! - "glommproxy, checked": all that this program wants to know before it acts on a header, as it does with every one: the
//!   framing, the lengths and the checksum, if there is one. Version 1 has nothing to check.
//! - "ppp and its TLVs": the framing. It is what a user of `ppp` can come closest with; `proxy-protocol` keeps no TLVs.
//! - "ppp, its TLVs and the checksum": that, and the checksum with the code that this crate uses, on a copy with the field
//!   zeroed, which is how a user of `ppp` would do it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use glommproxy::addr::{ClientAddr, PeerAddr};
use glommproxy::header::{Decoded, Origin, Tlv, Transport, decode, spp};
use glommproxy::udp::binding::{Bindings, Downstream, Session};
use glommproxy::udp::flow::Party;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const INET: [u8; 12] = [198, 51, 100, 27, 192, 0, 2, 10, 0xDB, 0x0C, 0x69, 0x87];
const INET6: [u8; 36] = [
    0x20, 0x01, 0x0D, 0xB8, 0, 1, 0, 2, 0, 3, 0, 4, 0xAB, 0xCD, 0, 0x27, // source
    0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, // destination
    0xDB, 0x0C, 0x69, 0x87, // ports
];

/// What everybody who decodes a header wants of it, the client's address and port and where the payload begins, folded
/// into one number. A number stays in a register; a struct would be written and read back by the harness, which takes
/// longer than what is measured.
type Outcome = Option<NonZeroU64>;

fn outcome(ip: IpAddr, port: u16, consumed: usize) -> Outcome {
    let folded = match ip {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64 ^ (u128::from(v6) as u64).rotate_left(1),
    };
    NonZeroU64::new(folded ^ u64::from(port) << 40 ^ (consumed as u64) << 56)
}

/// A way to that outcome, with its name.
type Decoder = (&'static str, fn(&[u8]) -> Outcome);

const OURS_CHECKED: Decoder = ("glommproxy, checked", ours_checked);
const PROXY_PROTOCOL: Decoder = ("proxy-protocol", proxy_protocol);

fn v1(c: &mut Criterion) {
    for (name, line) in [
        (
            "v1 TCP4",
            "PROXY TCP4 198.51.100.27 192.0.2.10 56076 27015\r\n",
        ),
        (
            "v1 TCP4 longest",
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ),
        (
            "v1 TCP6",
            "PROXY TCP6 2001:db8:1:2:3:4:abcd:27 2001:db8::10 56076 27015\r\n",
        ),
        (
            "v1 TCP6 mapped",
            "PROXY TCP6 ::ffff:198.51.100.27 ::ffff:192.0.2.10 56076 27015\r\n",
        ),
    ] {
        compare(c, name, line.as_bytes(), &[("ppp", ppp_v1)]);
    }
}

fn v2(c: &mut Criterion) {
    compare(
        c,
        "v2 INET",
        &v2_header(0x11, &INET, &[]),
        &[OURS_CHECKED, ("ppp", ppp_v2)],
    );
    compare(
        c,
        "v2 INET6",
        &v2_header(0x21, &INET6, &[]),
        &[OURS_CHECKED, ("ppp", ppp_v2)],
    );
}

fn v2_with_tlvs(c: &mut Criterion) {
    compare(
        c,
        "v2 INET, unique id and authority",
        &v2_header(0x11, &INET, &named_tlvs()),
        &[
            OURS_CHECKED,
            ("ppp", ppp_v2),
            ("ppp and its TLVs", ppp_v2_tlvs),
        ],
    );
    compare(
        c,
        "v2 INET, as AWS NLB sends it",
        &with_checksum(v2_header(0x11, &INET, &aws_tlvs())),
        &[
            OURS_CHECKED,
            ("ppp", ppp_v2),
            ("ppp and its TLVs", ppp_v2_tlvs),
            ("ppp, its TLVs and the checksum", ppp_v2_checked),
        ],
    );
}

/// The other crates do not have it.
fn simple_proxy_protocol(c: &mut Criterion) {
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xFF, 0xFF, 198, 51, 100, 27]);
    for (name, client) in [("SPP, IPv4", &mapped), ("SPP, IPv6", &[0x20; 16])] {
        let header = [
            &[0x56, 0xEC],
            client.as_slice(),
            &[0x20; 16],
            &[0xDB, 0x0C, 0x69, 0x87],
        ]
        .concat();
        let datagram = [header.as_slice(), &[0; 100]].concat();
        assert!(ours_spp(&datagram).is_some());
        c.bench_function(name, |b| b.iter(|| ours_spp(black_box(&datagram))));
    }
}

#[inline(never)]
fn ours_spp(bytes: &[u8]) -> Outcome {
    let header = spp::decode(bytes).ok()?;
    outcome(header.source.ip(), header.source.port(), spp::LEN)
}

/// A datagram behind the first: no header to be found, and its client looked up by its peer.
fn without_header(c: &mut Criterion) {
    const PEERS: u32 = 16_384;
    let now = Instant::now();
    let peer = |n: u32| {
        let ip = Ipv4Addr::from(0xC000_0200 | n >> 10);
        PeerAddr::new(SocketAddr::new(ip.into(), 10_000 + (n % 1024) as u16))
    };
    let from = |n: u32| Downstream {
        peer: peer(n),
        frontend: 0,
    };
    let mut bindings = Bindings::new(PEERS as usize, Duration::from_secs(60));
    for n in 0..PEERS {
        let source = SocketAddr::new(Ipv4Addr::from(0xCB00_7100 + n).into(), 4000);
        if let Ok(client) = ClientAddr::believe(source, peer(n)) {
            let session = Session {
                party: Party::Client(client),
                destination: Some(source),
            };
            bindings.bind(from(n), session, now);
        }
    }
    let payload = [0x5A; 100];
    let mut n = 0;
    c.bench_function("v2-first, without header, 16,384 peers", |b| {
        b.iter(|| {
            n = (n + 7919) % PEERS;
            let absent = decode(black_box(&payload), Transport::Datagram).is_err();
            (absent, bindings.find(from(n), now).is_some())
        });
    });
}

fn compare(c: &mut Criterion, name: &str, header: &[u8], others: &[Decoder]) {
    let mut group = c.benchmark_group(name);
    let expected = ours(header);
    assert!(expected.is_some(), "the bench must decode a valid header");

    group.bench_function("glommproxy", |b| b.iter(|| ours(black_box(header))));
    for (other, decode) in [PROXY_PROTOCOL].iter().chain(others) {
        assert_eq!(
            decode(header),
            expected,
            "{other} must come to the same result"
        );
        group.bench_function(*other, |b| b.iter(|| decode(black_box(header))));
    }
    group.finish();
}

#[inline(never)]
fn ours(bytes: &[u8]) -> Outcome {
    match decode(bytes, Transport::Stream) {
        Ok(Decoded::Complete { header, consumed }) => {
            let source = header.claimed_source()?;
            outcome(source.ip(), source.port(), consumed)
        }
        _ => None,
    }
}

#[inline(never)]
fn ours_checked(bytes: &[u8]) -> Outcome {
    match decode(bytes, Transport::Stream) {
        Ok(Decoded::Complete { header, consumed }) => match header.check().ok()?.origin() {
            Origin::Proxied { source, .. } => outcome(source.ip(), source.port(), consumed),
            Origin::Local => None,
        },
        _ => None,
    }
}

#[inline(never)]
fn proxy_protocol(bytes: &[u8]) -> Outcome {
    use proxy_protocol::{ProxyHeader, version1, version2};

    let mut rest = bytes;
    let source: SocketAddr = match proxy_protocol::parse(&mut rest).ok()? {
        ProxyHeader::Version1 { addresses } => match addresses {
            version1::ProxyAddresses::Ipv4 { source, .. } => source.into(),
            version1::ProxyAddresses::Ipv6 { source, .. } => source.into(),
            version1::ProxyAddresses::Unknown => return None,
        },
        ProxyHeader::Version2 { addresses, .. } => match addresses {
            version2::ProxyAddresses::Ipv4 { source, .. } => source.into(),
            version2::ProxyAddresses::Ipv6 { source, .. } => source.into(),
            _ => return None,
        },
        _ => return None,
    };
    outcome(source.ip(), source.port(), bytes.len() - rest.len())
}

#[inline(never)]
fn ppp_v1(bytes: &[u8]) -> Outcome {
    let header = ppp::v1::Header::try_from(bytes).ok()?;
    let (ip, port) = match header.addresses {
        ppp::v1::Addresses::Tcp4(ip) => (ip.source_address.into(), ip.source_port),
        ppp::v1::Addresses::Tcp6(ip) => (ip.source_address.into(), ip.source_port),
        ppp::v1::Addresses::Unknown => return None,
    };
    outcome(ip, port, header.header.len())
}

#[inline(never)]
fn ppp_v2(bytes: &[u8]) -> Outcome {
    let header = ppp::v2::Header::try_from(bytes).ok()?;
    let (ip, port) = ppp_v2_source(&header)?;
    outcome(ip, port, header.len())
}

#[inline(never)]
fn ppp_v2_tlvs(bytes: &[u8]) -> Outcome {
    let header = ppp::v2::Header::try_from(bytes).ok()?;
    ppp_checksum(&header)?;
    let (ip, port) = ppp_v2_source(&header)?;
    outcome(ip, port, header.len())
}

#[inline(never)]
fn ppp_v2_checked(bytes: &[u8]) -> Outcome {
    let header = ppp::v2::Header::try_from(bytes).ok()?;
    let checksum = ppp_checksum(&header)??;
    let mut zeroed = [0; 128];
    let zeroed = zeroed.get_mut(..bytes.len())?;
    zeroed.copy_from_slice(bytes);
    zeroed[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    if crc32c::crc32c(zeroed) != checksum {
        return None;
    }

    let (ip, port) = ppp_v2_source(&header)?;
    outcome(ip, port, header.len())
}

fn ppp_v2_source(header: &ppp::v2::Header<'_>) -> Option<(IpAddr, u16)> {
    match header.addresses {
        ppp::v2::Addresses::IPv4(ip) => Some((ip.source_address.into(), ip.source_port)),
        ppp::v2::Addresses::IPv6(ip) => Some((ip.source_address.into(), ip.source_port)),
        _ => None,
    }
}

/// Reads all TLVs, as the framing and the checksum can be checked in no other way; none if the framing is broken.
fn ppp_checksum(header: &ppp::v2::Header<'_>) -> Option<Option<u32>> {
    let mut checksum = None;
    for tlv in header.tlvs() {
        let tlv = tlv.ok()?;
        if tlv.kind == Tlv::CRC32C {
            checksum = Some(u32::from_be_bytes(tlv.value.as_ref().try_into().ok()?));
        }
    }
    Some(checksum)
}

/// Where the value of the first TLV behind INET addresses is.
const CHECKSUM_AT: usize = 16 + 12 + 3;

fn v2_header(family_transport: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + tlvs.len()).unwrap_or(u16::MAX);
    let fixed = [&[0x21, family_transport], length.to_be_bytes().as_slice()].concat();
    [SIGNATURE, &fixed, addresses, tlvs].concat()
}

fn named_tlvs() -> Vec<u8> {
    let id = b"\x05\x00\x20C0A80164:DB0C_C000020A:6987_6712";
    let authority = b"\x02\x00\x10eu1.play.example";
    [id.as_slice(), authority].concat()
}

/// 84 bytes: the checksum, the id of the VPC endpoint, and padding.
fn aws_tlvs() -> Vec<u8> {
    let checksum = b"\x03\x00\x04\x00\x00\x00\x00";
    let endpoint = b"\xEA\x00\x17\x01vpce-0123456789abcdef0";
    let padding = [b"\x04\x00\x30".as_slice(), &[0; 48]].concat();
    [checksum.as_slice(), endpoint, &padding].concat()
}

fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&header);
    header[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
    header
}

criterion_group!(
    header,
    v1,
    v2,
    v2_with_tlvs,
    simple_proxy_protocol,
    without_header
);
criterion_main!(header);
