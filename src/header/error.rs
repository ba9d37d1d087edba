//! Why a header is refused.

use thiserror::Error;

use super::LEN_MAX;

/// Why a header is refused, in one line that says what to do about it.
///
/// Numbers in a message are the sender's, so they are safe to log; no text of the sender's is in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The bytes begin with neither signature.
    #[error("no PROXY header: is the sender configured with send-proxy?")]
    Missing,
    /// A datagram begins with a version 1 header (section 2.1: version 1 knows TCP only).
    #[error("a version 1 PROXY header over UDP: configure the sender to use version 2")]
    V1OnDatagram,
    /// A datagram ends before the header in it does (section 2: header and payload share one datagram).
    #[error("the datagram ends before its PROXY header does: the sender must not split a header")]
    Truncated,
    /// A version 2 header announces a length beyond [`LEN_MAX`].
    #[error(
        "the PROXY header announces {announced} bytes, at most {LEN_MAX} are taken: send fewer TLVs"
    )]
    TooLong {
        /// The length of the whole header in bytes.
        announced: usize,
    },
    /// A version 1 line has no CRLF within 107 bytes (section 2.1).
    #[error(
        "the version 1 PROXY line has no CRLF within 107 bytes: the sender breaks the protocol"
    )]
    V1LineTooLong,
    /// A version 1 line names something else than TCP4, TCP6 and UNKNOWN (section 2.1).
    #[error(
        "the version 1 PROXY line must go on with TCP4, TCP6 or UNKNOWN, one space apart and in upper case"
    )]
    V1Protocol,
    /// A version 1 line holds a malformed address, or one of the other family (section 2.1).
    #[error(
        "the version 1 PROXY line has a malformed address: it must be of the announced family, one space apart"
    )]
    V1Address,
    /// A version 1 line holds a malformed port (section 2.1).
    #[error(
        "the version 1 PROXY line has a malformed port: it must be 0 to 65535 without leading zeros"
    )]
    V1Port,
    /// Something else than CRLF follows the ports of a version 1 line (section 2.1).
    #[error(
        "the version 1 PROXY line does not end in CRLF right behind its ports: the sender breaks the protocol"
    )]
    V1LineEnd,
    /// A version 2 signature is followed by another version (section 2.2: "must only accept this value").
    #[error("PROXY header version {0} behind the version 2 signature: only 2 is defined")]
    V2Version(u8),
    /// Neither LOCAL (0) nor PROXY (1).
    #[error("unknown PROXY version 2 command {0}: only LOCAL (0) and PROXY (1) are defined")]
    V2Command(u8),
    /// An address family that is not assigned.
    #[error("unknown PROXY version 2 address family {0}: only 0 to 3 are defined")]
    V2Family(u8),
    /// A transport protocol that is not assigned.
    #[error("unknown PROXY version 2 transport {0}: only 0 to 2 are defined")]
    V2Transport(u8),
    /// PROXY with UNSPEC or UNIX: a client without an address (see the [module](super) for why it is not local).
    #[error(
        "the PROXY header names no IP address for its client: the sender must know TCP or UDP clients by address"
    )]
    V2NoAddress,
    /// DGRAM in a header on a TCP connection.
    #[error("the PROXY header on a TCP connection says UDP: point UDP traffic at the UDP listener")]
    DatagramOnStream,
    /// STREAM in a header in a datagram.
    #[error("the PROXY header in a datagram says TCP: point TCP traffic at the TCP listener")]
    StreamOnDatagram,
    /// The announced length does not hold the family's addresses. Reading them anyway would let the client choose its
    /// own source, because they would be read out of its payload.
    #[error(
        "the PROXY header announces {announced} bytes, its address family takes {needed}: the sender is broken"
    )]
    V2TooShort {
        /// The announced length behind the first 16 bytes.
        announced: u16,
        /// The length of the address block.
        needed: u16,
    },
    /// The TLVs do not fill the header exactly (section 2.2).
    #[error("malformed TLVs in the PROXY header: the last one goes past the header's end")]
    TlvsMalformed,
    /// The value of a CRC32C TLV is not 4 bytes long (section 2.2.3).
    #[error("the CRC32C TLV of the PROXY header has {0} bytes, it must have 4")]
    CrcLength(u16),
    /// Two CRC32C TLVs in one header: neither is the checksum of the whole header with one field zeroed.
    #[error("the PROXY header has more than one CRC32C TLV: the sender is broken")]
    CrcTwice,
    /// The checksum differs (section 2.2.3).
    #[error(
        "CRC32C mismatch in the PROXY header: it says {announced:08x}, its bytes make {computed:08x}; corrupted?"
    )]
    CrcMismatch {
        /// The checksum in the header.
        announced: u32,
        /// The checksum of the header's bytes.
        computed: u32,
    },
    /// There is no CRC32C TLV, and the operator wants one (`--require-crc32c`). Version 1 cannot have any.
    #[error(
        "the PROXY header has no CRC32C TLV, as --require-crc32c wants: make the sender add it, in version 2"
    )]
    CrcMissing,
    /// The value of a UNIQUE_ID TLV is longer than 128 bytes (section 2.2.5).
    #[error(
        "the UNIQUE_ID TLV of the PROXY header has {0} bytes, at most 128 are allowed: send a shorter one"
    )]
    UniqueIdTooLong(u16),
    /// A datagram without a PROXY header begins as Simple Proxy Protocol does.
    #[error(
        "no PROXY header: it looks like Simple Proxy Protocol (Cloudflare Spectrum), which needs --udp-header spp"
    )]
    LooksLikeSpp,
    /// A datagram that is to begin with Simple Proxy Protocol begins otherwise.
    #[error(
        "no Simple Proxy Protocol header: --udp-header spp is for senders that put one on every datagram"
    )]
    SppMissing,
    /// A datagram ends before its Simple Proxy Protocol header does.
    #[error(
        "the datagram ends before its Simple Proxy Protocol header does, which has 38 bytes: the sender is broken"
    )]
    SppTruncated,
    /// A datagram that is to begin with Simple Proxy Protocol has the signature of version 2.
    #[error(
        "a version 2 PROXY header, not Simple Proxy Protocol: this sender needs --udp-header v2 or v2-first"
    )]
    V2InsteadOfSpp,
}

// === impl HeaderError ===

impl HeaderError {
    /// Every label [`kind`](Self::kind) gives, for a counter a kind.
    pub const KINDS: [&'static str; 26] = [
        "missing",
        "v1_on_datagram",
        "truncated",
        "too_long",
        "v1_line_too_long",
        "v1_protocol",
        "v1_address",
        "v1_port",
        "v1_line_end",
        "v2_version",
        "v2_command",
        "v2_family",
        "v2_transport",
        "v2_no_address",
        "datagram_on_stream",
        "stream_on_datagram",
        "v2_too_short",
        "tlvs_malformed",
        "crc_malformed",
        "crc_mismatch",
        "crc_missing",
        "unique_id_too_long",
        "looks_like_spp",
        "spp_missing",
        "spp_truncated",
        "v2_instead_of_spp",
    ];

    /// A short, stable label for counters and log fields.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::V1OnDatagram => "v1_on_datagram",
            Self::Truncated => "truncated",
            Self::TooLong { .. } => "too_long",
            Self::V1LineTooLong => "v1_line_too_long",
            Self::V1Protocol => "v1_protocol",
            Self::V1Address => "v1_address",
            Self::V1Port => "v1_port",
            Self::V1LineEnd => "v1_line_end",
            Self::V2Version(_) => "v2_version",
            Self::V2Command(_) => "v2_command",
            Self::V2Family(_) => "v2_family",
            Self::V2Transport(_) => "v2_transport",
            Self::V2NoAddress => "v2_no_address",
            Self::DatagramOnStream => "datagram_on_stream",
            Self::StreamOnDatagram => "stream_on_datagram",
            Self::V2TooShort { .. } => "v2_too_short",
            Self::TlvsMalformed => "tlvs_malformed",
            Self::CrcLength(_) | Self::CrcTwice => "crc_malformed",
            Self::CrcMismatch { .. } => "crc_mismatch",
            Self::CrcMissing => "crc_missing",
            Self::UniqueIdTooLong(_) => "unique_id_too_long",
            Self::LooksLikeSpp => "looks_like_spp",
            Self::SppMissing => "spp_missing",
            Self::SppTruncated => "spp_truncated",
            Self::V2InsteadOfSpp => "v2_instead_of_spp",
        }
    }

    /// Whether the datagram does not have a header of version 2 at all, so that it may be all payload. Every other error
    /// means a header that is broken.
    pub fn is_absence(self) -> bool {
        matches!(
            self,
            Self::Missing | Self::V1OnDatagram | Self::LooksLikeSpp
        )
    }
}
