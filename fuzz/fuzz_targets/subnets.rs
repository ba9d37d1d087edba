//! Any text as a list of subnets, beside the simplest reading of one. What holds:
//!
//! - There is no panic, and the same lists are accepted.
//! - A list has as many entries as lines that are neither blank nor comments.
//! - It contains what a look at one prefix after the other says: at the ends of every prefix, right outside of them, and in
//!   both spellings of an IPv4 address.
//! - An error carries the number of the first line that is wrong, and is one line of printable characters.

#![cfg_attr(not(test), no_main)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use glommproxy::subnets::SubnetSet;

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

/// Prefixes whose ends are looked up; all of a long list would take the square of the time.
const PROBED_MAX: usize = 64;

/// A prefix: its first and last address as numbers, of one family.
#[derive(Clone, Copy, Debug)]
enum Net {
    V4(u32, u32),
    V6(u128, u128),
}

pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.strip_prefix('\u{FEFF}').unwrap_or(&text).lines();
    let entries = lines.zip(1..).filter_map(|(line, number)| {
        let entry = line
            .find('#')
            .map_or(line, |comment| &line[..comment])
            .trim();
        (!entry.is_empty()).then_some((number, entry))
    });
    let nets: Result<Vec<Net>, usize> = entries
        .map(|(number, entry)| Net::read(entry).ok_or(number))
        .collect();

    match (SubnetSet::parse(&text), nets) {
        (Ok(set), Ok(nets)) => check_look_ups(&set, &nets),
        (Err(error), Err(line)) => {
            assert_eq!(error.line(), line);
            let message = error.to_string();
            let is_printable = |c: char| matches!(c, ' '..='~' | '…');
            assert!(message.chars().all(is_printable), "{message:?}");
        }
        (set, nets) => panic!("{set:?}, by the simplest reading {nets:?}"),
    }
}

fn check_look_ups(set: &SubnetSet, nets: &[Net]) {
    assert_eq!((set.len(), set.is_empty()), (nets.len(), nets.is_empty()));
    let fixed = [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
    ];
    let fixed = fixed.iter().filter_map(|ip| ip.parse().ok());
    let probed = nets.iter().take(PROBED_MAX).flat_map(|net| net.ends());
    for ip in fixed.chain(probed) {
        let listed = nets.iter().any(|net| net.contains(ip));
        assert_eq!(set.contains(ip), listed, "{ip} in {nets:?}");
        if let IpAddr::V4(v4) = ip {
            assert_eq!(set.contains(v4.to_ipv6_mapped().into()), listed);
        }
    }
}

// === impl Net ===

impl Net {
    /// A prefix or an address, with v4-mapped ones as IPv4.
    fn read(entry: &str) -> Option<Self> {
        let (ip, len) = match entry.split_once('/') {
            Some((ip, len)) if len.bytes().all(|byte| byte.is_ascii_digit()) => {
                (ip, Some(len.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (entry, None),
        };
        match ip.parse().ok()? {
            IpAddr::V4(v4) => Self::v4(v4, len.unwrap_or(32)),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => Self::v4(v4, len.unwrap_or(128).checked_sub(96)?),
                None => Self::v6(v6, len.unwrap_or(128)),
            },
        }
    }

    fn v4(ip: Ipv4Addr, len: u32) -> Option<Self> {
        let rest = u32::MAX.checked_shr(len).unwrap_or(0);
        (len <= 32).then_some(Self::V4(u32::from(ip) & !rest, u32::from(ip) | rest))
    }

    fn v6(ip: Ipv6Addr, len: u32) -> Option<Self> {
        let rest = u128::MAX.checked_shr(len).unwrap_or(0);
        (len <= 128).then_some(Self::V6(u128::from(ip) & !rest, u128::from(ip) | rest))
    }

    fn contains(self, ip: IpAddr) -> bool {
        match (self, ip.to_canonical()) {
            (Self::V4(first, last), IpAddr::V4(ip)) => (first..=last).contains(&u32::from(ip)),
            (Self::V6(first, last), IpAddr::V6(ip)) => (first..=last).contains(&u128::from(ip)),
            _ => false,
        }
    }

    /// The first and the last address, and those outside of them, around the end of the numbers if need be.
    fn ends(self) -> [IpAddr; 4] {
        match self {
            Self::V4(first, last) => [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|ip| Ipv4Addr::from(ip).into()),
            Self::V6(first, last) => [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|ip| Ipv6Addr::from(ip).into()),
        }
    }
}
