//! The binary header (section 2.2).

use super::addresses::{Addresses, INET_LEN, INET6_LEN};
use super::{HeaderError, LEN_MAX, Transport, Unchecked};

/// What every version 2 header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub(super) const FIXED_LEN: usize = 16;
/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;

/// The families that name a client by its IP address.
enum Family {
    Inet,
    Inet6,
}

/// The fixed part, if it is there as a whole and bears the signature.
pub(super) fn fixed_part(bytes: &[u8]) -> Option<&[u8; FIXED_LEN]> {
    bytes
        .first_chunk()
        .filter(|fixed| fixed.starts_with(&SIGNATURE))
}

/// Whether the whole signature is there.
pub(super) fn is_signed(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Whether these bytes, at least one, begin the signature or begin with it.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .zip(&SIGNATURE)
            .all(|(byte, expected)| byte == expected)
}

/// Decodes a whole header of a client whose length takes one byte, and tells that length: nearly every header there is.
///
/// So it takes no step more than it must. What stands before the length is one of two constants, and it is compared as
/// numbers: a comparison of slices ends up in a call of memcmp. Such a length is far below [`LEN_MAX`].
#[inline(always)]
pub(super) fn decode_short(bytes: &[u8], transport: Transport) -> Option<(Unchecked<'_>, usize)> {
    let fixed = bytes.first_chunk::<FIXED_LEN>()?;
    let header = bytes.get(..FIXED_LEN + usize::from(fixed[FIXED_LEN - 1]))?;
    let (_, block) = header.split_first_chunk::<FIXED_LEN>()?;

    let (inet, inet6) = match transport {
        Transport::Stream => (const { beginning(0x11) }, const { beginning(0x21) }),
        Transport::Datagram => (const { beginning(0x12) }, const { beginning(0x22) }),
    };
    let beginning = halves(fixed);
    let (addresses, tlvs) = if beginning == inet {
        let (block, tlvs) = block.split_first_chunk()?;
        (Addresses::inet(block), tlvs)
    } else if beginning == inet6 {
        let (block, tlvs) = block.split_first_chunk()?;
        (Addresses::inet6(block), tlvs)
    } else {
        return None;
    };
    Some((Unchecked::of_binary(addresses, header, tlvs), header.len()))
}

/// What the header of a client of this family and transport begins with, if its length takes one byte.
const fn beginning(family_transport: u8) -> (u64, u64) {
    let mut fixed = [0; FIXED_LEN];
    let mut at = 0;
    while at < SIGNATURE.len() {
        fixed[at] = SIGNATURE[at];
        at += 1;
    }
    fixed[at] = PROXY;
    fixed[at + 1] = family_transport;
    halves(&fixed)
}

/// Everything before the last byte: the first 8 bytes, and 8 more of which one is among the first.
#[inline]
const fn halves(fixed: &[u8; FIXED_LEN]) -> (u64, u64) {
    let [first @ .., _, _, _, _, _, _, _, _] = fixed;
    let [_, _, _, _, _, _, _, second @ .., _] = fixed;
    (u64::from_le_bytes(*first), u64::from_le_bytes(*second))
}

/// Decodes any header whose fixed part is there, and tells its length; none if a stream must bring more of it. `bytes`
/// begins with that part.
///
/// Nothing is read out of a header before it is there as a whole, and nothing behind its announced end.
pub(super) fn decode<'a>(
    fixed: &[u8; FIXED_LEN],
    bytes: &'a [u8],
    transport: Transport,
) -> Result<Option<(Unchecked<'a>, usize)>, HeaderError> {
    let &[.., version_command, family_transport, high, low] = fixed;
    let family = match version_command {
        LOCAL => None,
        PROXY => Some(family(family_transport, transport)?),
        _ => return Err(command_refused(version_command)),
    };
    let length = u16::from_be_bytes([high, low]);
    let needed = family.as_ref().map_or(0, Family::len);
    if usize::from(length) < needed {
        return Err(HeaderError::V2TooShort {
            announced: length,
            needed: needed as u16,
        });
    }
    let announced = FIXED_LEN + usize::from(length);
    if announced > LEN_MAX {
        return Err(HeaderError::TooLong { announced });
    }

    let Some(header) = bytes.get(..announced) else {
        return match transport {
            Transport::Stream => Ok(None),
            Transport::Datagram => Err(HeaderError::Truncated),
        };
    };
    let block = &header[FIXED_LEN..];
    let found = match family {
        None => Some((Addresses::LOCAL, block)),
        Some(Family::Inet) => block
            .split_first_chunk()
            .map(|(block, tlvs)| (Addresses::inet(block), tlvs)),
        Some(Family::Inet6) => block
            .split_first_chunk()
            .map(|(block, tlvs)| (Addresses::inet6(block), tlvs)),
    };
    let (addresses, tlvs) = found.ok_or(HeaderError::Truncated)?;
    Ok(Some((
        Unchecked::of_binary(addresses, header, tlvs),
        announced,
    )))
}

/// Looks at a piece of a stream that is shorter than the fixed part: is it still worth waiting?
pub(super) fn check_short(bytes: &[u8]) -> Result<(), HeaderError> {
    match bytes.get(SIGNATURE.len()..) {
        Some(&[LOCAL, ..] | &[PROXY] | &[]) | None => {}
        Some(&[PROXY, family_transport, ..]) => {
            family(family_transport, Transport::Stream)?;
        }
        Some(&[version_command, ..]) => return Err(command_refused(version_command)),
    }
    Ok(())
}

/// Tells what is wrong with a version and command that are neither PROXY nor LOCAL.
#[cold]
fn command_refused(version_command: u8) -> HeaderError {
    match (version_command >> 4, version_command & 0x0F) {
        (2, command) => HeaderError::V2Command(command),
        (version, _) => HeaderError::V2Version(version),
    }
}

fn family(family_transport: u8, transport: Transport) -> Result<Family, HeaderError> {
    match (family_transport, transport) {
        (0x11, Transport::Stream) | (0x12, Transport::Datagram) => Ok(Family::Inet),
        (0x21, Transport::Stream) | (0x22, Transport::Datagram) => Ok(Family::Inet6),
        _ => Err(family_refused(family_transport)),
    }
}

/// Tells what is wrong with a family and transport that [`family`] does not take.
#[cold]
fn family_refused(family_transport: u8) -> HeaderError {
    match (family_transport >> 4, family_transport & 0x0F) {
        (family @ 4.., _) => HeaderError::V2Family(family),
        (_, transport @ 3..) => HeaderError::V2Transport(transport),
        (0 | 3, _) | (_, 0) => HeaderError::V2NoAddress,
        (_, 1) => HeaderError::StreamOnDatagram,
        (_, _) => HeaderError::DatagramOnStream,
    }
}

// === impl Family ===

impl Family {
    /// The length of the address block.
    fn len(&self) -> usize {
        match self {
            Self::Inet => INET_LEN,
            Self::Inet6 => INET6_LEN,
        }
    }
}
