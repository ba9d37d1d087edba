//! Many addresses in few words.

use std::fmt::Write;
use std::net::SocketAddr;

/// The most words written; further ones are counted.
const WORDS_MAX: usize = 16;

/// Addresses as they are typed: consecutive ports of one address as a range, and what was said already is not repeated.
///
/// ```
/// # use glommproxy::addr::spans;
/// let addrs = ["127.0.0.1:2456", "127.0.0.1:2457", "[::1]:443"].map(|addr| addr.parse().unwrap());
/// assert_eq!(spans(addrs), "127.0.0.1:2456-2457,[::1]:443");
/// ```
pub fn spans(addrs: impl IntoIterator<Item = SocketAddr>) -> String {
    let mut words: Vec<(SocketAddr, u16)> = Vec::new();
    for addr in addrs {
        match words.last_mut() {
            Some((first, last)) if continues(*first, addr) && addr.port() <= *last => {}
            Some((first, last)) if continues(*first, addr) && addr.port() - 1 == *last => {
                *last = addr.port();
            }
            _ => words.push((addr, addr.port())),
        }
    }
    let mut text = String::new();
    for (at, (first, last)) in words.iter().take(WORDS_MAX).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{first}");
        if *last > first.port() {
            let _ = write!(text, "-{last}");
        }
    }
    if words.len() > WORDS_MAX {
        let _ = write!(text, " and {} more", words.len() - WORDS_MAX);
    }
    text
}

/// Whether an address differs from another in nothing but a port that is not lower.
fn continues(first: SocketAddr, addr: SocketAddr) -> bool {
    let mut same = addr;
    same.set_port(first.port());
    same == first && addr.port() >= first.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans_of(addrs: &[&str]) -> String {
        spans(addrs.iter().map(|addr| addr.parse().expect("an address")))
    }

    #[test]
    fn consecutive_ports_are_a_range() {
        for (addrs, want) in [
            (&[][..], ""),
            (&["127.0.0.1:0"], "127.0.0.1:0"),
            (&["127.0.0.1:1", "127.0.0.1:1"], "127.0.0.1:1"),
            (
                &["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"],
                "127.0.0.1:1-2",
            ),
            (&["127.0.0.1:1", "127.0.0.1:3"], "127.0.0.1:1,127.0.0.1:3"),
            (&["127.0.0.1:2", "127.0.0.1:1"], "127.0.0.1:2,127.0.0.1:1"),
            (&["127.0.0.1:1", "127.0.0.2:2"], "127.0.0.1:1,127.0.0.2:2"),
            (
                &["[fe80::1%1]:1", "[fe80::1%2]:2"],
                "[fe80::1%1]:1,[fe80::1%2]:2",
            ),
            (&["[::]:65534", "[::]:65535"], "[::]:65534-65535"),
            (&["[::]:0", "[::]:1"], "[::]:0-1"),
        ] {
            assert_eq!(spans_of(addrs), want);
        }
    }

    #[test]
    fn what_would_fill_the_line_is_counted() {
        let addrs = (1..=100).map(|n| SocketAddr::from(([192, 0, 2, n], 1)));
        let text = spans(addrs);
        assert!(text.starts_with("192.0.2.1:1,192.0.2.2:1,"), "{text}");
        assert!(text.ends_with(",192.0.2.16:1 and 84 more"), "{text}");
    }
}
