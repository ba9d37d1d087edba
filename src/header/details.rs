//! What TLVs tell of a connection beside its addresses, made fit for a log line.
//!
//! Each of them is in the hands of whoever reaches the sender: a client chooses the host name it asks for, and the names
//! in its certificate. So this text is for people to read, and for nothing else. All of it is printable ASCII of a
//! bounded length; NETNS, which names a thing of the sender's host, is left out.

use super::{Tlv, Tlvs};

/// The most bytes of a value that are shown. A DNS name has 255 at most, an ALPN identifier too.
const SHOWN_LEN_MAX: usize = 255;

/// The TLVs of one header that a log line shows, in the form it shows them.
///
/// Of a TLV that is there twice the first counts. One whose value cannot be what its type says is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The host name the client asked for (AUTHORITY, section 2.2.2).
    pub authority: Option<String>,
    /// The application protocol chosen over TLS (ALPN, section 2.2.1).
    pub alpn: Option<String>,
    /// The sender's name for the connection (UNIQUE_ID, section 2.2.5). In hexadecimal behind `0x`, unless it is text.
    pub unique_id: Option<String>,
    /// The version of the client's TLS (section 2.2.6).
    pub ssl_version: Option<String>,
    /// The common name in the client's certificate (section 2.2.6).
    pub ssl_cn: Option<String>,
    /// Whether the client gave a certificate and the sender found it good; `None` without TLS (section 2.2.6).
    pub ssl_verified: Option<bool>,
    /// The VPC endpoint that the client came through, as AWS names it (`PP2_SUBTYPE_AWS_VPCE_ID`).
    pub aws_vpce_id: Option<String>,
    /// The private endpoint that the client came through, as Azure numbers it
    /// (`PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID`).
    pub azure_link_id: Option<u32>,
}

// === impl Details ===

impl Details {
    /// Reads the TLVs of a header.
    pub fn of(tlvs: Tlvs<'_>) -> Self {
        let mut details = Self::default();
        for Tlv { kind, value } in tlvs {
            match kind {
                Tlv::AUTHORITY => keep_first(&mut details.authority, || escaped(value)),
                Tlv::ALPN => keep_first(&mut details.alpn, || escaped(value)),
                Tlv::UNIQUE_ID => keep_first(&mut details.unique_id, || text_or_hex(value)),
                Tlv::SSL => details.read_ssl(value),
                Tlv::AWS => {
                    if let Some((&Tlv::AWS_VPCE_ID, id)) = value.split_first() {
                        keep_first(&mut details.aws_vpce_id, || escaped(id));
                    }
                }
                Tlv::AZURE => {
                    if let &[Tlv::AZURE_LINK_ID, a, b, c, d] = value {
                        keep_first(&mut details.azure_link_id, || {
                            u32::from_le_bytes([a, b, c, d])
                        });
                    }
                }
                _ => {}
            }
        }
        details
    }

    /// Reads `struct pp2_tlv_ssl`: what the client did, whether its certificate is good, and TLVs of its own.
    fn read_ssl(&mut self, value: &[u8]) {
        /// The client spoke TLS to the sender. Nothing else in the value means anything without it.
        const CLIENT_SSL: u8 = 0x01;
        /// The client gave a certificate over this connection, or over another of its TLS session.
        const CLIENT_CERT: u8 = 0x02 | 0x04;

        let Some((&[client, verify @ ..], within)) = value.split_first_chunk::<5>() else {
            return;
        };
        if client & CLIENT_SSL == 0 || self.ssl_verified.is_some() {
            return;
        }
        // HAProxy leaves the result of the verification at "good" where there was nothing to verify.
        self.ssl_verified = Some(client & CLIENT_CERT != 0 && verify == [0; 4]);
        for Tlv { kind, value } in Tlvs::within(within) {
            match kind {
                Tlv::SSL_VERSION => keep_first(&mut self.ssl_version, || escaped(value)),
                Tlv::SSL_CN => keep_first(&mut self.ssl_cn, || escaped(value)),
                _ => {}
            }
        }
    }
}

fn keep_first<T>(place: &mut Option<T>, value: impl FnOnce() -> T) {
    place.get_or_insert_with(value);
}

/// The value with everything but printable ASCII escaped, quotes and backslashes too, and cut if it is long.
///
/// Letters of other alphabets are escaped with the rest: among them are some that turn the direction of a line, or look
/// like others.
fn escaped(value: &[u8]) -> String {
    match value.get(..SHOWN_LEN_MAX) {
        Some(shown) if value.len() > SHOWN_LEN_MAX => {
            format!("{}... ({} bytes)", shown.escape_ascii(), value.len())
        }
        _ => value.escape_ascii().to_string(),
    }
}

/// A unique id is any bytes; most senders make it of text.
fn text_or_hex(value: &[u8]) -> String {
    if value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return escaped(value);
    }

    use std::fmt::Write;
    value.iter().fold("0x".to_owned(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
