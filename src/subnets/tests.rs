//! What a list may look like, and whether look-ups agree with a plain scan of it.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

#[track_caller]
fn set(text: &str) -> SubnetSet {
    match SubnetSet::parse(text) {
        Ok(set) => set,
        Err(error) => panic!("line {}: {error}", error.line()),
    }
}

#[track_caller]
fn contains(set: &SubnetSet, ip: &str) -> bool {
    set.contains(ip.parse().expect("an address"))
}

#[track_caller]
fn error(text: &str) -> String {
    let error = SubnetSet::parse(text).expect_err("a list that is refused");
    format!("list.txt:{}: {error}", error.line())
}

#[test]
fn an_empty_list_contains_nothing() {
    for text in [
        "",
        "\u{FEFF}",
        "\n\n",
        "# nobody\r\n  \t\r\n",
        "   # nobody",
    ] {
        let set = set(text);
        assert!(set.is_empty());
        assert_eq!(set.len(), 0);
        for ip in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:0.0.0.0",
            "ffff::",
        ] {
            assert!(!contains(&set, ip), "{ip}");
        }
    }
}

#[test]
fn lists_are_read_as_people_write_them() {
    let set = set("\u{FEFF}# balancers\r\n\
                   10.0.0.0/8\r\n\
                   \r\n\
                   \t 192.0.2.1 \t# the old one\r\n\
                   2001:db8::/32# documentation\n\
                   ::1");
    assert_eq!(set.len(), 4);
    assert!(!set.is_empty());
    for ip in [
        "10.0.0.0",
        "10.255.255.255",
        "192.0.2.1",
        "2001:db8:ffff::1",
        "::1",
    ] {
        assert!(contains(&set, ip), "{ip}");
    }
    for ip in [
        "9.255.255.255",
        "11.0.0.0",
        "192.0.2.0",
        "192.0.2.2",
        "2001:db7:ffff::1",
        "2001:db9::",
        "::",
        "::2",
    ] {
        assert!(!contains(&set, ip), "{ip}");
    }
}

/// go-mmproxy reads its files with Go's `net.ParseCIDR`, which cuts the bits behind the length off.
#[test]
fn bits_behind_the_length_may_be_set() {
    let set = set("10.1.2.3/8\n2001:db8:1:2::3/32\n192.0.2.77/31");
    assert!(contains(&set, "10.200.0.0") && contains(&set, "2001:db8:ffff::"));
    assert!(contains(&set, "192.0.2.76") && !contains(&set, "192.0.2.78"));
}

#[test]
fn mapped_addresses_are_ipv4_on_both_sides() {
    let mapped = set("::ffff:10.1.2.3/104\n::ffff:192.0.2.1\n::ffff:c633:6400/120");
    for ip in [
        "10.9.9.9",
        "::ffff:10.9.9.9",
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "198.51.100.200",
    ] {
        assert!(contains(&mapped, ip), "{ip}");
    }
    for ip in ["11.0.0.0", "192.0.2.2", "::a00:1", "198.51.101.0"] {
        assert!(!contains(&mapped, ip), "{ip}");
    }

    let every_v4 = set("::ffff:0:0/96");
    assert!(contains(&every_v4, "0.0.0.0") && contains(&every_v4, "255.255.255.255"));
    assert!(!contains(&every_v4, "::"));
}

#[test]
fn a_prefix_may_cover_a_whole_family_but_not_the_other() {
    let v4 = set("0.0.0.0/0\n10.0.0.0/8\n255.255.255.255");
    for ip in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::ffff:1.2.3.4"] {
        assert!(contains(&v4, ip), "{ip}");
    }
    assert!(!contains(&v4, "::") && !contains(&v4, "2001:db8::1"));

    let v6 = set("::/0\nffff::/16");
    for ip in [
        "::",
        "2001:db8::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(contains(&v6, ip), "{ip}");
    }
    assert!(!contains(&v6, "1.2.3.4") && !contains(&v6, "::ffff:1.2.3.4"));
}

#[test]
fn the_first_and_last_addresses_can_be_listed_alone() {
    let set = set("0.0.0.0\n255.255.255.255\n::\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for ip in [
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(contains(&set, ip), "{ip}");
    }
    for ip in [
        "0.0.0.1",
        "255.255.255.254",
        "::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
    ] {
        assert!(!contains(&set, ip), "{ip}");
    }
}

#[test]
fn errors_say_where_what_and_what_would_be_right() {
    let example = "write one a line, like 192.0.2.0/24, 192.0.2.1 or 2001:db8::/32";
    for (text, shown) in [
        ("balancer", "balancer"),
        ("10.0.0.0/8, 10.1.0.0/16", "10.0.0.0/8, 10.1.0.0/16"),
        ("10.0.0/8", "10.0.0/8"),
        ("010.0.0.0/8", "010.0.0.0/8"),
        ("/8", "/8"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("; note", "; note"),
        (
            "\u{1b}[2J\u{7}\"\u{202e}x",
            "\\u{1b}[2J\\u{7}\\\"\\u{202e}x",
        ),
    ] {
        let in_text = format!("# first\n\n10.0.0.0/8\r\n  {text}  # why\n!!!");
        let expected = match text {
            // The rest is the length's fault.
            "10.0.0.0/8, 10.1.0.0/16" => {
                "is no prefix: the length behind an IPv4 address is 0 to 32".to_owned()
            }
            _ => format!("is no address or prefix: {example}"),
        };
        assert_eq!(
            error(&in_text),
            format!("list.txt:4: \"{shown}\" {expected}")
        );
    }

    for len in ["33", "+8", "-1", "", " 8", "8/8", "0x8", "256", "255.0.0.0"] {
        let expected = format!(
            "list.txt:1: \"10.0.0.0/{len}\" is no prefix: the length behind an IPv4 address is 0 to 32"
        );
        assert_eq!(error(&format!("10.0.0.0/{len}#")), expected);
    }
    assert_eq!(
        error("2001:db8::/129"),
        "list.txt:1: \"2001:db8::/129\" is no prefix: the length behind an IPv6 address is 0 to 128"
    );
    for len in [0, 8, 95] {
        assert_eq!(
            error(&format!("::ffff:10.0.0.0/{len}")),
            format!(
                "list.txt:1: \"::ffff:10.0.0.0/{len}\" is ambiguous: \
                 the length behind a v4-mapped address is 96 to 128; better write it as IPv4"
            )
        );
    }
}

#[test]
fn an_error_shows_no_more_than_the_beginning_of_a_line() {
    let shown = error(&"x".repeat(100_000));
    assert!(
        shown.contains(&format!("\"{}…\"", "x".repeat(48))),
        "{shown}"
    );
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/12x";
    assert!(error(longest).contains("255.255.255.255/12"));
}

#[test]
fn a_list_has_a_million_prefixes_at_most() {
    let mut text = "192.0.2.1\n".repeat(PREFIXES_MAX);
    assert_eq!(set(&text).len(), PREFIXES_MAX);
    text.push_str("# a comment is no prefix\n192.0.2.2\n");
    assert_eq!(
        error(&text),
        "list.txt:1000002: \"192.0.2.2\" is one prefix too many: a list has at most 1000000"
    );
}

/// A prefix as the list has it, in a small corner of the address space where many meet.
fn prefixes() -> impl Strategy<Value = IpNet> {
    let v4 = (0_u32..4096, any::<bool>(), 18_u8..=32).prop_map(|(host, is_last, len)| {
        let corner = if is_last { 0xFFFF_F000 } else { 0x0A00_0000 };
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(corner | host), len))
    });
    let v6 = (0_u128..4096, any::<bool>(), 114_u8..=128).prop_map(|(host, is_last, len)| {
        let corner = if is_last {
            u128::MAX - 4095
        } else {
            0x2001_0DB8 << 96
        };
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(corner | host), len))
    });
    prop_oneof![v4, v6]
}

/// What a look-up must agree with.
fn scan(prefixes: &[IpNet], ip: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&ip))
}

proptest! {
    #[test]
    fn look_ups_agree_with_a_scan(
        prefixes in prop::collection::vec(prefixes(), 0..400),
        hosts in prop::collection::vec(0_u32..4096, 50),
    ) {
        let text: String = prefixes.iter().map(|prefix| format!("{prefix}\n")).collect();
        let set = set(&text);
        prop_assert_eq!(set.len(), prefixes.len());

        // The edges of every prefix, and both neighbours of each, are where a mistake would show.
        let edges = prefixes.iter().flat_map(|prefix| [prefix.network(), prefix.broadcast()]);
        let around_edges = edges.flat_map(|ip| match ip {
            IpAddr::V4(v4) => [0, 1, u32::MAX].map(|by| IpAddr::V4(u32::from(v4).wrapping_add(by).into())),
            IpAddr::V6(v6) => [0, 1, u128::MAX].map(|by| IpAddr::V6(u128::from(v6).wrapping_add(by).into())),
        });
        let anywhere = hosts.iter().flat_map(|&host| {
            [
                IpAddr::V4((0x0A00_0000 | host).into()),
                IpAddr::V4((0xFFFF_F000 | host).into()),
                IpAddr::V6((0x2001_0DB8 << 96 | u128::from(host)).into()),
            ]
        });
        for ip in around_edges.chain(anywhere) {
            prop_assert_eq!(set.contains(ip), scan(&prefixes, ip), "{}", ip);
            if let IpAddr::V4(v4) = ip {
                prop_assert_eq!(set.contains(v4.to_ipv6_mapped().into()), scan(&prefixes, ip));
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,200}", nearly in "([0-9a-f:./# \r\n]{0,20}){0,20}") {
        for text in [text, nearly] {
            if let Err(error) = SubnetSet::parse(&text) {
                prop_assert!(error.line() >= 1 && error.line() <= text.lines().count());
                prop_assert!(!error.to_string().contains(|char: char| char.is_control()));
            }
        }
    }
}
