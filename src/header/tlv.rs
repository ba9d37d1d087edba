//! The type-length-value vectors at the end of a version 2 header (section 2.2).
//!
//! Their text is under the influence of whoever reaches the sender (a server name, say): print a [`Tlv`] through its
//! `Display`, which escapes it, and never act on one. NETNS above all is only a name to log.

use std::fmt;

use super::HeaderError;

/// Bytes before a value: one of type, two of length.
const TLV_HEAD_LEN: usize = 3;
/// The length of the checksum in a CRC32C TLV.
const CRC_LEN: usize = 4;
/// The longest header that is copied for its checksum, a little more than AWS NLB sends.
const COPIED_LEN_MAX: usize = 192;
/// The most bytes of a unique id (section 2.2.5).
const UNIQUE_ID_LEN_MAX: u16 = 128;

/// The TLVs of one header, found well-formed, in the order they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a> {
    /// Whole TLVs, one behind the other, and nothing else.
    bytes: &'a [u8],
}

/// One type-length-value vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The type: one of the constants of [`Tlv`] or an unregistered one.
    pub kind: u8,
    /// The value, without type and length.
    pub value: &'a [u8],
}

/// Gives the TLVs of a header one by one.
#[derive(Clone, Debug)]
pub struct TlvIter<'a> {
    rest: &'a [u8],
}

// === impl Tlvs ===

impl<'a> Tlvs<'a> {
    /// Checks the TLVs that are the last `bytes` of `header`, which is the whole header from its signature on: their
    /// framing, their lengths and the checksum, if there is one.
    pub(super) fn parse(header: &[u8], bytes: &'a [u8]) -> Result<Self, HeaderError> {
        // Of most TLVs nothing but the framing matters. Anything else that is found ends the walk, and is looked into.
        let mut rest = bytes;
        while let Some((tlv, behind)) = split_first(rest) {
            match tlv.kind {
                Tlv::CRC32C => break,
                Tlv::UNIQUE_ID if tlv.len() > UNIQUE_ID_LEN_MAX => break,
                _ => rest = behind,
            }
        }
        if !rest.is_empty() {
            check(header, bytes)?;
        }
        Ok(Self { bytes })
    }

    /// The TLVs one by one, in the order they were sent.
    pub fn iter(self) -> TlvIter<'a> {
        TlvIter { rest: self.bytes }
    }

    /// The TLVs inside the value of another. They are not checked: the first that is cut short ends them.
    pub(super) fn within(value: &'a [u8]) -> TlvIter<'a> {
        TlvIter { rest: value }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a checksum of the whole header is among them. It has been verified.
    pub fn has_crc32c(self) -> bool {
        self.iter().any(|tlv| tlv.kind == Tlv::CRC32C)
    }
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = Tlv<'a>;
    type IntoIter = TlvIter<'a>;

    fn into_iter(self) -> TlvIter<'a> {
        self.iter()
    }
}

// === impl TlvIter ===

impl<'a> Iterator for TlvIter<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split_first(self.rest)?;
        self.rest = rest;
        Some(tlv)
    }
}

impl std::iter::FusedIterator for TlvIter<'_> {}

// === impl Tlv ===

impl Tlv<'_> {
    /// The application protocol chosen over TLS (section 2.2.1).
    pub const ALPN: u8 = 0x01;
    /// The host name the client asked for (section 2.2.2).
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the whole header (section 2.2.3).
    pub const CRC32C: u8 = 0x03;
    /// Padding (section 2.2.4).
    pub const NOOP: u8 = 0x04;
    /// The sender's name for the connection, at most 128 bytes (section 2.2.5).
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of the client's TLS connection (section 2.2.6).
    pub const SSL: u8 = 0x20;
    /// Within the value of [`SSL`](Self::SSL): the version of TLS (section 2.2.6).
    pub const SSL_VERSION: u8 = 0x21;
    /// Within the value of [`SSL`](Self::SSL): the common name in the client's certificate (section 2.2.6).
    pub const SSL_CN: u8 = 0x22;
    /// The name of a network namespace (section 2.2.7).
    pub const NETNS: u8 = 0x30;
    /// The first of 16 types for applications (section 2.2.8).
    pub const CUSTOM_MIN: u8 = 0xE0;
    /// The id of an AWS VPC endpoint, within the application range.
    pub const AWS: u8 = 0xEA;
    /// The first byte of the value of [`AWS`](Self::AWS) before a VPC endpoint's id in ASCII (AWS, "Proxy protocol").
    pub const AWS_VPCE_ID: u8 = 0x01;
    /// The id of an Azure private link, within the application range.
    pub const AZURE: u8 = 0xEE;
    /// The first byte of the value of [`AZURE`](Self::AZURE) before a private endpoint's LINKID, four bytes with the
    /// lowest first (Azure Private Link, "Getting connection information using TCP Proxy v2").
    pub const AZURE_LINK_ID: u8 = 0x01;
    /// The last of 16 types for applications (section 2.2.8).
    pub const CUSTOM_MAX: u8 = 0xEF;

    /// The length of the value, which two bytes announced.
    fn len(&self) -> u16 {
        u16::try_from(self.value.len()).unwrap_or(u16::MAX)
    }
}

/// `AUTHORITY="play.example"`, with everything but printable ASCII escaped: fit for a log line.
impl fmt::Display for Tlv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Self::ALPN => f.write_str("ALPN")?,
            Self::AUTHORITY => f.write_str("AUTHORITY")?,
            Self::CRC32C => f.write_str("CRC32C")?,
            Self::NOOP => f.write_str("NOOP")?,
            Self::UNIQUE_ID => f.write_str("UNIQUE_ID")?,
            Self::SSL => f.write_str("SSL")?,
            Self::NETNS => f.write_str("NETNS")?,
            Self::AWS => f.write_str("AWS")?,
            Self::AZURE => f.write_str("AZURE")?,
            kind => write!(f, "0x{kind:02X}")?,
        }
        write!(f, "=\"{}\"", self.value.escape_ascii())
    }
}

/// The first TLV and the bytes behind it, or none if it is cut short.
#[inline]
fn split_first(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], behind) = bytes.split_first_chunk::<TLV_HEAD_LEN>()?;
    let (value, rest) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, rest))
}

/// Checks the framing, the lengths and the checksum of the TLVs that are the last `bytes` of `header`.
#[cold]
fn check(header: &[u8], bytes: &[u8]) -> Result<(), HeaderError> {
    let mut crc_rest = None;
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((tlv, behind)) = split_first(rest) else {
            return Err(HeaderError::TlvsMalformed);
        };
        rest = behind;

        match tlv.kind {
            Tlv::CRC32C if tlv.value.len() != CRC_LEN => {
                return Err(HeaderError::CrcLength(tlv.len()));
            }
            Tlv::CRC32C if crc_rest.is_some() => return Err(HeaderError::CrcTwice),
            Tlv::CRC32C => crc_rest = Some(behind.len()),
            Tlv::UNIQUE_ID if tlv.len() > UNIQUE_ID_LEN_MAX => {
                return Err(HeaderError::UniqueIdTooLong(tlv.len()));
            }
            _ => {}
        }
    }

    // The checksum comes last: it means something only where the framing holds.
    if let Some(behind_len) = crc_rest {
        check_crc(header, header.len() - behind_len)?;
    }

    Ok(())
}

/// A copy of a short header whose checksum is zeroed. The checksum's instruction takes aligned words: one pass over an
/// aligned copy takes less time than three passes over pieces that begin and end anywhere.
#[repr(align(8))]
struct Zeroed([u8; COPIED_LEN_MAX]);

/// Compares the checksum that ends at `crc_end` with that of the whole header, its own field taken as zero.
fn check_crc(header: &[u8], crc_end: usize) -> Result<(), HeaderError> {
    let (up_to_crc, behind) = header.split_at(crc_end);
    let Some((before, crc)) = up_to_crc.split_last_chunk::<CRC_LEN>() else {
        return Err(HeaderError::TlvsMalformed);
    };

    let announced = u32::from_be_bytes(*crc);
    let mut copy = Zeroed([0; COPIED_LEN_MAX]);
    let computed = match copy.0.get_mut(..header.len()) {
        Some(copy) => {
            copy.copy_from_slice(header);
            copy[crc_end - CRC_LEN..crc_end].fill(0);
            crc32c::crc32c(copy)
        }
        None => {
            let up_to_crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; CRC_LEN]);
            crc32c::crc32c_append(up_to_crc, behind)
        }
    };
    if announced != computed {
        return Err(HeaderError::CrcMismatch {
            announced,
            computed,
        });
    }

    Ok(())
}
