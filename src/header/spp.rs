//! Simple Proxy Protocol, which Cloudflare Spectrum puts in front of every UDP datagram.
//!
//! The source is Cloudflare's "Simple Proxy Protocol Header" (developers.cloudflare.com, Spectrum, reference). The header
//! has one length and no version, no command and no checksum. Replies carry it back in front of their payload, byte for
//! byte, so it is given as it came, too.

use std::net::{Ipv6Addr, SocketAddr};

use super::{HeaderError, v2};

/// The length of every header in bytes: magic number, two addresses, two ports. The payload begins there.
pub const LEN: usize = 38;

/// What every header begins with.
const MAGIC: [u8; 2] = [0x56, 0xEC];

/// One decoded header. As with a PROXY header, the addresses are the sender's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SppHeader<'a> {
    /// The header as it came, for the replies.
    pub bytes: &'a [u8; LEN],
    /// The client. The format writes IPv4 addresses as v4-mapped ones; they are told as IPv4.
    pub source: SocketAddr,
    /// The address the client spoke to.
    pub destination: SocketAddr,
}

/// Decodes the header at the beginning of a datagram.
///
/// # Errors
///
/// [`HeaderError::SppMissing`] if there is none, [`HeaderError::SppTruncated`] if the datagram ends within it, and
/// [`HeaderError::V2InsteadOfSpp`] if there is a PROXY header in its place.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<SppHeader<'_>, HeaderError> {
    let Some(header) = bytes.first_chunk::<LEN>() else {
        return Err(refused(bytes));
    };
    let Some((&MAGIC, addresses)) = header.split_first_chunk() else {
        return Err(refused(bytes));
    };
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    Ok(SppHeader {
        bytes: header,
        source: SocketAddr::new(ip(&addresses[..16]).to_canonical(), port(32)),
        destination: SocketAddr::new(ip(&addresses[16..32]).to_canonical(), port(34)),
    })
}

/// Whether these bytes, which are no PROXY header, look like this one. The magic number alone is too short to tell.
pub(super) fn is_likely(bytes: &[u8]) -> bool {
    bytes.len() >= LEN && bytes.starts_with(&MAGIC)
}

fn ip(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    Ipv6Addr::from(octets)
}

/// Tells what is wrong with a datagram that does not begin with a whole header.
#[cold]
fn refused(bytes: &[u8]) -> HeaderError {
    if bytes.starts_with(&MAGIC) {
        return HeaderError::SppTruncated;
    }
    if v2::is_signed(bytes) {
        return HeaderError::V2InsteadOfSpp;
    }
    HeaderError::SppMissing
}
