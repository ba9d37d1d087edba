//! The PROXY protocol header: decoding of versions 1 and 2. Cloudflare's other format for UDP is in [`spp`].
//!
//! The source is HAProxy's `doc/proxy-protocol.txt` (text of 2026/04/27); "section" below means a section of that text.
//! Decoding is pure, allocates nothing and never looks at a byte behind the header: one header is read, and whatever
//! follows is payload, a second header too.
//!
//! It comes in two steps. [`decode`] finds the header, and what it gives is [`Unchecked`]: the addresses are where they
//! belong, and nothing is known of the TLVs yet, a checksum among them. A [`Header`], with an [`Origin`] to act on, comes
//! of it by a check only: [`Trust::check`](crate::trust::Trust::check) is the one that also knows what the operator wants.
//!
//! Two kinds of header are a matter of choice for a receiver (section 2.2), and they are chosen here so that an
//! attacker gains nothing:
//!
//! - `LOCAL` (version 2) and `UNKNOWN` (version 1) are [`Origin::Local`]: the connection is the sender's own, such as a
//!   health check.
//! - `PROXY` with the family or transport UNSPEC, or with the family UNIX, is refused. It says that there *is* a client
//!   but not which one. Taken as local, that client would reach the server from our own address, which servers trust
//!   more than any other (the administrator's console that answers 127.0.0.1 only).

mod addresses;
mod details;
mod error;
pub mod spp;
#[cfg(test)]
mod tests;
mod tlv;
mod unchecked;
mod v1;
mod v2;

use std::net::SocketAddr;

use addresses::Addresses;
pub use details::Details;
pub use error::HeaderError;
pub use tlv::{Tlv, TlvIter, Tlvs};
pub use unchecked::Unchecked;

/// The most bytes a header may have, all TLVs included. A receiver's buffer of this size holds every header that is
/// accepted; a header that announces more is refused as soon as its length is read.
///
/// The protocol itself allows 16 + 65535 bytes. Real headers stay far below: AWS NLB sends about 100 bytes, and a TLS
/// client certificate about 2 KiB.
pub const LEN_MAX: usize = 8192;

/// How the header reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection: the header may arrive in any number of pieces.
    Stream,
    /// One UDP datagram: it holds its whole header, or it has none (section 2, "For UDP …").
    Datagram,
}

/// What the bytes at hand amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<H> {
    /// A whole header.
    Complete {
        /// The header: [`Unchecked`], or a [`Header`] once it is checked.
        header: H,
        /// The header's length in bytes; the payload begins there.
        consumed: usize,
    },
    /// The beginning of what may become a valid header: call again with these bytes and more. Only for
    /// [`Transport::Stream`], and never once [`LEN_MAX`] bytes are there.
    Partial,
}

/// One valid header, its TLVs and checksum included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The format the header was written in.
    pub version: Version,
    /// The extensions of a version 2 header; none in version 1.
    pub tlvs: Tlvs<'a>,
    addresses: Addresses,
}

/// The format of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One line of text (section 2.1).
    V1,
    /// The binary format (section 2.2).
    V2,
}

/// On whose behalf a connection or datagram was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On behalf of a client. These are the sender's words: they become an address to act on through
    /// [`ClientAddr::believe`](crate::addr::ClientAddr::believe) only.
    Proxied {
        /// The client, as the header tells it. It may be v4-mapped.
        source: SocketAddr,
        /// The address the client spoke to, as the header tells it. It may be v4-mapped.
        destination: SocketAddr,
    },
    /// The sender's own: there is no client to speak for. Addresses in the header are not read.
    Local,
}

// === impl Decoded ===

impl<'a> Decoded<Unchecked<'a>> {
    /// Checks the header if it is there as a whole.
    ///
    /// # Errors
    ///
    /// Those of [`Unchecked::check`].
    pub fn check(self) -> Result<Decoded<Header<'a>>, HeaderError> {
        match self {
            Self::Complete { header, consumed } => Ok(Decoded::Complete {
                header: header.check()?,
                consumed,
            }),
            Self::Partial => Ok(Decoded::Partial),
        }
    }
}

// === impl Header ===

impl Header<'_> {
    /// On whose behalf the connection or datagram was sent.
    #[inline]
    pub fn origin(&self) -> Origin {
        self.addresses.origin()
    }
}

// === impl Origin ===

impl Origin {
    /// The address the client spoke to, as the header tells it; none if there is no client.
    pub fn destination(self) -> Option<SocketAddr> {
        match self {
            Self::Proxied { destination, .. } => Some(destination),
            Self::Local => None,
        }
    }
}

/// Decodes the one header at the beginning of `bytes`.
///
/// A stream is refused as soon as no further byte could make a valid header of it, so that a sender without the PROXY
/// protocol is told at once and not after the deadline. Any beginning of a valid header, the empty one too, is
/// [`Decoded::Partial`].
///
/// # Errors
///
/// Every way in which the bytes break the protocol, but for those that [`Unchecked::check`] finds; see [`HeaderError`].
/// On a datagram an unfinished header is an error, and so is version 1, which is for TCP only. [`HeaderError::Missing`]
/// means that the bytes do not begin with a signature, so that they may be payload without a header; see
/// [`HeaderError::is_absence`].
// Always, as the compiler finds it too long: a result that goes through memory takes longer than to decode one.
#[inline(always)]
pub fn decode(bytes: &[u8], transport: Transport) -> Result<Decoded<Unchecked<'_>>, HeaderError> {
    let found = match v2::decode_short(bytes, transport) {
        Some(found) => Some(found),
        None => decode_any(bytes, transport)?,
    };
    Ok(match found {
        Some((header, consumed)) => Decoded::Complete { header, consumed },
        None => Decoded::Partial,
    })
}

/// Decodes any header, and tells its length; none if a stream must bring more of it. Lines of version 1 are not rare, but
/// what being called cold costs them is lost in the time it takes to read one.
#[cold]
fn decode_any(
    bytes: &[u8],
    transport: Transport,
) -> Result<Option<(Unchecked<'_>, usize)>, HeaderError> {
    if let Some(fixed) = v2::fixed_part(bytes) {
        return v2::decode(fixed, bytes, transport);
    }

    if transport == Transport::Datagram {
        return Err(datagram_without_header(bytes));
    }
    if v2::may_begin(bytes) {
        v2::check_short(bytes)?;
        return Ok(None);
    }

    let line = v1::decode(bytes)?;
    Ok(line.map(|(origin, consumed)| (Unchecked::of_line(origin), consumed)))
}

/// Tells why a datagram without the whole fixed part of a version 2 header is refused. Less than a whole signature is
/// no header but payload that happens to begin alike: "\r\n" is a message a game may send.
fn datagram_without_header(bytes: &[u8]) -> HeaderError {
    if v2::is_signed(bytes) {
        return HeaderError::Truncated;
    }

    if v1::is_signed(bytes) {
        return HeaderError::V1OnDatagram;
    }

    if spp::is_likely(bytes) {
        return HeaderError::LooksLikeSpp;
    }

    HeaderError::Missing
}
