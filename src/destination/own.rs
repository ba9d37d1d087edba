//! Whether an address is this host's own.
//!
//! Addresses come and go, so the kernel is asked each time. It answers at once, within the call that asks.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;

use crate::routing::OwnAddresses;

thread_local! {
    /// One per shard, as shards share nothing.
    static ADDRESSES: RefCell<Option<OwnAddresses>> = const { RefCell::new(None) };
}

/// Whether this address is this host's own.
///
/// # Errors
///
/// As `socket(2)`, the first time on a thread; ETIMEDOUT if the kernel does not answer.
pub(super) fn is_own(ip: IpAddr) -> io::Result<bool> {
    ADDRESSES.with_borrow_mut(|held| {
        let mut addresses = match held.take() {
            Some(addresses) => addresses,
            None => OwnAddresses::open()?,
        };
        let answer = addresses.contain(ip)?;
        // Not after an error: whatever the socket still has to say is nobody's answer.
        *held = Some(addresses);
        Ok(answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_addresses_of_this_host_from_others() {
        for (ip, own) in [
            ("127.0.0.1", true),
            ("127.8.7.6", true),
            ("127.255.255.255", false),
            ("198.51.100.9", false),
            ("224.0.0.1", false),
            ("2001:db8::9", false),
        ] {
            let told = is_own(ip.parse().expect("an address")).expect("an answer");
            assert_eq!(told, own, "{ip}");
        }
    }
}
