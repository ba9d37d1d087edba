//! TCP through the whole path.

mod addresses;
mod dial;
mod families;
mod health;
mod logs;
mod preface;
mod refusals;
mod relay;
mod resets;
mod sockets;
mod syn_flood;

/// A client like any other.
const CLIENT: &str = "192.0.2.1:4000";

/// A header timeout that no test outlasts: what ends earlier has not been waited for.
const NO_HEADER_TIMEOUT: [&str; 2] = ["--header-timeout", "600"];

/// Bytes without a pattern, the same for the same seed.
fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift64; never zero unless it begins so.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
