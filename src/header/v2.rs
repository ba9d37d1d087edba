//! The binary header (section 2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Decoded, Header, HeaderError, LEN_MAX, Origin, Tlvs, Transport, Version};

/// What every version 2 header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_LEN: usize = 16;
/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// The address block of INET: two addresses and two ports.
const INET_LEN: usize = 12;
/// The address block of INET6: two addresses and two ports.
const INET6_LEN: usize = 36;
/// The address block of UNIX: two paths of 108 bytes.
const UNIX_LEN: usize = 216;

/// The families that name a client by its IP address.
enum Family {
    Inet,
    Inet6,
}

/// The fixed part, if it is there as a whole and bears the signature.
#[inline]
pub(super) fn fixed_part(bytes: &[u8]) -> Option<&[u8; FIXED_LEN]> {
    let fixed = bytes.first_chunk::<FIXED_LEN>()?;
    // Compared as one number: a comparison of slices ends up in a call of memcmp.
    const MASK: u128 = u128::MAX << 32;
    const SIGNED: u128 = {
        let mut padded = [0; FIXED_LEN];
        let mut at = 0;
        while at < SIGNATURE.len() {
            padded[at] = SIGNATURE[at];
            at += 1;
        }
        u128::from_be_bytes(padded)
    };
    (u128::from_be_bytes(*fixed) & MASK == SIGNED).then_some(fixed)
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

/// Decodes a header whose fixed part is there. `bytes` begins with that part.
#[inline]
pub(super) fn decode<'a>(
    fixed: &[u8; FIXED_LEN],
    bytes: &'a [u8],
    transport: Transport,
) -> Result<Decoded<'a>, HeaderError> {
    let &[.., version_command, family_transport, high, low] = fixed;
    if let Some(plain) = decode_plain(
        u32::from_be_bytes([version_command, family_transport, high, low]),
        bytes,
        transport,
    ) {
        return Ok(plain);
    }

    let length = u16::from_be_bytes([high, low]);
    if version_command != PROXY {
        return match decode_local(version_command, family_transport, length, bytes, transport)? {
            Some((header, tlvs)) => Ok(complete(header.len(), Origin::Local, tlvs)),
            None => Ok(Decoded::Partial),
        };
    }

    match family(family_transport, transport)? {
        Family::Inet => decode_proxied(length, bytes, transport, inet),
        Family::Inet6 => decode_proxied(length, bytes, transport, inet6),
    }
}

/// Decodes a whole header that names TCP or UDP addresses and has no TLVs, or gives none. Such are most headers, and
/// what stands between their signature and their addresses is one of four constants: `decode` would come to the same by
/// a longer way.
#[inline]
fn decode_plain(behind_signature: u32, bytes: &[u8], transport: Transport) -> Option<Decoded<'_>> {
    let (_, block) = bytes.split_first_chunk::<FIXED_LEN>()?;
    match (behind_signature, transport) {
        (0x2111_000C, Transport::Stream) | (0x2112_000C, Transport::Datagram) => {
            let origin = inet(block.first_chunk()?);
            Some(complete(FIXED_LEN + INET_LEN, origin, Tlvs::default()))
        }
        (0x2121_0024, Transport::Stream) | (0x2122_0024, Transport::Datagram) => {
            let origin = inet6(block.first_chunk()?);
            Some(complete(FIXED_LEN + INET6_LEN, origin, Tlvs::default()))
        }
        _ => None,
    }
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

/// Decodes a PROXY header whose block begins with `LEN` bytes of addresses, which `origin` reads.
#[inline]
fn decode_proxied<const LEN: usize>(
    length: u16,
    bytes: &[u8],
    transport: Transport,
    origin: impl Fn(&[u8; LEN]) -> Origin,
) -> Result<Decoded<'_>, HeaderError> {
    if usize::from(length) < LEN {
        return Err(HeaderError::V2TooShort {
            announced: length,
            needed: LEN as u16,
        });
    }
    let Some(header) = whole(length, bytes, transport)? else {
        return Ok(Decoded::Partial);
    };
    let Some((_, block)) = header.split_first_chunk::<FIXED_LEN>() else {
        return Err(HeaderError::Truncated);
    };
    let Some(addresses) = block.first_chunk() else {
        return Err(HeaderError::Truncated);
    };

    let tlvs = Tlvs::parse(header, FIXED_LEN + LEN)?;
    Ok(complete(header.len(), origin(addresses), tlvs))
}

/// Finds the bytes and TLVs of a header that is not PROXY: LOCAL, or nothing that is defined. None if more bytes are
/// needed.
#[cold]
fn decode_local(
    version_command: u8,
    family_transport: u8,
    length: u16,
    bytes: &[u8],
    transport: Transport,
) -> Result<Option<(&[u8], Tlvs<'_>)>, HeaderError> {
    if version_command != LOCAL {
        return Err(command_refused(version_command));
    }
    let Some(header) = whole(length, bytes, transport)? else {
        return Ok(None);
    };

    Ok(Some((header, local_tlvs(header, family_transport)?)))
}

#[inline]
fn complete(consumed: usize, origin: Origin, tlvs: Tlvs<'_>) -> Decoded<'_> {
    Decoded::Complete {
        header: Header {
            version: Version::V2,
            origin,
            tlvs,
        },
        consumed,
    }
}

/// The header from its signature to its announced end, or none if a stream must bring more of it. Nothing is read out
/// of a header before it is there as a whole, and nothing behind its announced end.
#[inline]
fn whole(length: u16, bytes: &[u8], transport: Transport) -> Result<Option<&[u8]>, HeaderError> {
    let announced = FIXED_LEN + usize::from(length);
    if announced > LEN_MAX {
        return Err(HeaderError::TooLong { announced });
    }

    match (bytes.get(..announced), transport) {
        (None, Transport::Datagram) => Err(HeaderError::Truncated),
        (header, _) => Ok(header),
    }
}

/// Tells what is wrong with a version and command that are neither PROXY nor LOCAL.
#[cold]
fn command_refused(version_command: u8) -> HeaderError {
    match (version_command >> 4, version_command & 0x0F) {
        (2, command) => HeaderError::V2Command(command),
        (version, _) => HeaderError::V2Version(version),
    }
}

#[inline]
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

#[inline]
fn inet(block: &[u8; INET_LEN]) -> Origin {
    let &[s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1] = block;
    let source = Ipv4Addr::new(s0, s1, s2, s3);
    let destination = Ipv4Addr::new(d0, d1, d2, d3);
    Origin::Proxied {
        source: SocketAddr::V4(SocketAddrV4::new(source, u16::from_be_bytes([sp0, sp1]))),
        destination: SocketAddr::V4(SocketAddrV4::new(
            destination,
            u16::from_be_bytes([dp0, dp1]),
        )),
    }
}

#[inline]
fn inet6(block: &[u8; INET6_LEN]) -> Origin {
    let ip = |bytes: &[u8]| {
        let mut ip = [0; 16];
        ip.copy_from_slice(bytes);
        Ipv6Addr::from(ip)
    };
    let port = |high, low| u16::from_be_bytes([high, low]);
    let (source, source_port) = (ip(&block[..16]), port(block[32], block[33]));
    let (destination, destination_port) = (ip(&block[16..32]), port(block[34], block[35]));
    Origin::Proxied {
        source: SocketAddr::V6(SocketAddrV6::new(source, source_port, 0, 0)),
        destination: SocketAddr::V6(SocketAddrV6::new(destination, destination_port, 0, 0)),
    }
}

/// The TLVs of a LOCAL header, as far as they can be told from the rest of the block.
///
/// The receiver "must accept this connection as valid" and "discard the protocol block including the family which is
/// ignored" (section 2.2), so nothing in the block makes a LOCAL header invalid: not an unassigned family, not
/// addresses where none belong. But a checksum that is provided must be verified (section 2.2.3), and HAProxy sends one
/// behind its health checks' LOCAL if told to. So the family serves for one thing, to find where TLVs would begin, and
/// what is no list of TLVs there is discarded.
fn local_tlvs(header: &[u8], family_transport: u8) -> Result<Tlvs<'_>, HeaderError> {
    let addresses_len = match family_transport >> 4 {
        0 => 0,
        1 => INET_LEN,
        2 => INET6_LEN,
        3 => UNIX_LEN,
        _ => return Ok(Tlvs::default()),
    };

    match Tlvs::parse(header, FIXED_LEN + addresses_len) {
        Err(mismatch @ HeaderError::CrcMismatch { .. }) => Err(mismatch),
        Err(_) => Ok(Tlvs::default()),
        Ok(tlvs) => Ok(tlvs),
    }
}
