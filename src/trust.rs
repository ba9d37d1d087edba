//! How much of a PROXY header is believed: what the operator decides, beyond what the protocol does.

use crate::addr::{ClientAddr, PeerAddr, SourceError};
use crate::header::{Header, HeaderError, Origin, Unchecked};

/// The operator's choices. The default is to want no checksum, and to believe no loopback source from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whether a header without a checksum is refused (`--require-crc32c`), and so every header of version 1.
    pub requires_crc32c: bool,
    /// Whether a loopback source is believed from a peer that is not on loopback itself (`--allow-loopback-clients`).
    pub loopback_clients: bool,
}

// === impl Trust ===

impl Trust {
    /// Checks that a header keeps to the protocol and has what the operator wants. That goes for LOCAL and UNKNOWN, too: a
    /// health check without a checksum would find a service that its clients do not have.
    ///
    /// # Errors
    ///
    /// Those of [`Unchecked::check`], and [`HeaderError::CrcMissing`] if a checksum is wanted.
    #[inline]
    pub fn check(self, header: Unchecked<'_>) -> Result<Header<'_>, HeaderError> {
        let header = header.check()?;
        if self.requires_crc32c && !header.tlvs.has_crc32c() {
            return Err(HeaderError::CrcMissing);
        }
        Ok(header)
    }

    /// The client of a header from this peer; none if the header is the peer's own.
    ///
    /// # Errors
    ///
    /// If no client can have the source it tells, or not a client of this peer; see [`SourceError`].
    #[inline]
    pub fn client(self, origin: Origin, peer: PeerAddr) -> Result<Option<ClientAddr>, SourceError> {
        match origin {
            Origin::Proxied { source, .. } if self.loopback_clients => {
                ClientAddr::believe_loopback(source).map(Some)
            }
            Origin::Proxied { source, .. } => ClientAddr::believe(source, peer).map(Some),
            Origin::Local => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Decoded, Transport, decode};

    /// A LOCAL header with a checksum (RFC 3720, appendix B.4) behind it.
    const LOCAL_WITH_CRC: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x07\x03\x00\x04";

    fn checked(bytes: &[u8], requires_crc32c: bool) -> Result<(), HeaderError> {
        let Ok(Decoded::Complete { header, .. }) = decode(bytes, Transport::Stream) else {
            panic!("no whole header: {}", bytes.escape_ascii());
        };
        let trust = Trust {
            requires_crc32c,
            ..Trust::default()
        };
        trust.check(header).map(drop)
    }

    #[test]
    fn a_checksum_is_wanted_of_every_header_or_of_none() {
        let mut with_crc = [LOCAL_WITH_CRC, &[0; 4]].concat();
        let crc = crc32c::crc32c(&with_crc);
        with_crc[19..].copy_from_slice(&crc.to_be_bytes());
        let without: [&[u8]; 4] = [
            b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n",
            b"PROXY UNKNOWN\r\n",
            // LOCAL without TLVs, and with one of another type.
            b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
            b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x03\x04\x00\x00",
        ];
        assert_eq!(checked(&with_crc, true), Ok(()));
        assert_eq!(checked(&with_crc, false), Ok(()));
        with_crc[22] ^= 1;
        for requires_crc32c in [true, false] {
            let mismatch = checked(&with_crc, requires_crc32c).map_err(HeaderError::kind);
            assert_eq!(mismatch, Err("crc_mismatch"));
        }
        for bytes in without {
            assert_eq!(checked(bytes, true), Err(HeaderError::CrcMissing));
            assert_eq!(checked(bytes, false), Ok(()));
        }
    }

    #[test]
    fn loopback_sources_of_remote_peers_are_believed_only_where_that_is_allowed() {
        let peer = PeerAddr::new("192.0.2.1:4000".parse().expect("an address"));
        let client = |source: &str, loopback_clients| {
            let addr = |text: &str| text.parse().expect("an address");
            let trust = Trust {
                loopback_clients,
                ..Trust::default()
            };
            let origin = Origin::Proxied {
                source: addr(source),
                destination: addr("203.0.113.1:443"),
            };
            trust.client(origin, peer)
        };
        for source in ["127.0.0.1:5000", "127.9.9.9:5000", "[::1]:5000"] {
            let seen = client(source, true).map(|client| client.map(|it| it.to_string()));
            assert_eq!(seen, Ok(Some(source.to_owned())));
            assert!(matches!(
                client(source, false),
                Err(SourceError::Loopback(_))
            ));
        }
        // It opens nothing else.
        for source in [
            "0.0.0.0:5000",
            "224.0.0.1:5000",
            "[fe80::1]:5000",
            "127.0.0.1:0",
        ] {
            assert!(client(source, true).is_err(), "{source}");
            assert_eq!(client(source, true), client(source, false), "{source}");
        }
        for trust in [
            Trust::default(),
            Trust {
                loopback_clients: true,
                ..Trust::default()
            },
        ] {
            assert_eq!(trust.client(Origin::Local, peer), Ok(None));
        }
    }
}
