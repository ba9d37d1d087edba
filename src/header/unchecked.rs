//! A header between the two steps of its decoding: found, and not checked yet.

use std::net::SocketAddr;

use super::addresses::{Addresses, INET_LEN, INET6_LEN};
use super::v2::FIXED_LEN;
use super::{Header, HeaderError, Origin, Tlvs, Version};

/// The address block of UNIX: two paths of 108 bytes.
const UNIX_LEN: usize = 216;

/// A header that is there as a whole, and whose TLVs and checksum nobody has looked at yet. There is no way to its
/// [`Origin`] and its [`Tlvs`] but through [`check`](Self::check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a header may be acted on only once it is checked"]
pub struct Unchecked<'a> {
    version: Version,
    addresses: Addresses,
    /// From the signature to the announced end.
    bytes: &'a [u8],
    /// The last of these bytes: the TLVs, or behind LOCAL all of the block. Of a line there is nothing left to check.
    tlvs: &'a [u8],
}

// === impl Unchecked ===

impl<'a> Unchecked<'a> {
    /// What a whole line of version 1 says.
    #[inline]
    pub(super) fn of_line(origin: Origin) -> Self {
        Self {
            version: Version::V1,
            addresses: origin.into(),
            bytes: &[],
            tlvs: &[],
        }
    }

    /// A whole header of version 2, from its signature to its announced end, with what is behind its addresses.
    #[inline]
    pub(super) fn of_binary(addresses: Addresses, bytes: &'a [u8], tlvs: &'a [u8]) -> Self {
        Self {
            version: Version::V2,
            addresses,
            bytes,
            tlvs,
        }
    }

    /// The client that the header claims to speak for, if any. A header that [`check`](Self::check) refuses as corrupted
    /// claims one, too: this is for looking at, and the [`Header`] has the one to act on.
    #[inline]
    pub fn claimed_source(&self) -> Option<SocketAddr> {
        self.addresses.source()
    }

    /// Checks what is left to check: the framing of the TLVs, their lengths, and the checksum if there is one.
    ///
    /// # Errors
    ///
    /// [`HeaderError::TlvsMalformed`], [`HeaderError::UniqueIdTooLong`], [`HeaderError::CrcLength`],
    /// [`HeaderError::CrcTwice`] and [`HeaderError::CrcMismatch`]; behind LOCAL only the last.
    #[inline]
    pub fn check(self) -> Result<Header<'a>, HeaderError> {
        let tlvs = if self.tlvs.is_empty() {
            Tlvs::default()
        } else if self.addresses.are_local() {
            local_tlvs(self.bytes)?
        } else {
            Tlvs::parse(self.bytes, self.tlvs)?
        };
        Ok(Header {
            version: self.version,
            tlvs,
            addresses: self.addresses,
        })
    }
}

/// The TLVs of a LOCAL header, as far as they can be told from the rest of the block.
///
/// The receiver "must accept this connection as valid" and "discard the protocol block including the family which is
/// ignored" (section 2.2), so nothing in the block makes a LOCAL header invalid: not an unassigned family, not
/// addresses where none belong. But a checksum that is provided must be verified (section 2.2.3), and HAProxy sends one
/// behind its health checks' LOCAL if told to. So the family serves for one thing, to find where TLVs would begin, and
/// what is no list of TLVs there is discarded.
#[cold]
fn local_tlvs(header: &[u8]) -> Result<Tlvs<'_>, HeaderError> {
    const FAMILY_AT: usize = 13;
    let addresses_len = match header.get(FAMILY_AT).map(|family| family >> 4) {
        Some(0) => 0,
        Some(1) => INET_LEN,
        Some(2) => INET6_LEN,
        Some(3) => UNIX_LEN,
        _ => return Ok(Tlvs::default()),
    };

    let tlvs = header.get(FIXED_LEN + addresses_len..).unwrap_or_default();
    match Tlvs::parse(header, tlvs) {
        Err(mismatch @ HeaderError::CrcMismatch { .. }) => Err(mismatch),
        Err(_) => Ok(Tlvs::default()),
        Ok(tlvs) => Ok(tlvs),
    }
}
