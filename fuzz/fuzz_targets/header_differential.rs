//! Any bytes, read by this decoder and by two other crates. What holds:
//!
//! - A header that is accepted here is accepted by `ppp` and by `proxy-protocol`, with the same addresses, the same end
//!   and (`ppp`) the same TLVs, but for the differences listed in [`ppp_differs`] and [`proxy_protocol_differs`].
//! - A header that `ppp` accepts is accepted here, but for the differences listed in [`stricter_in_v1`] and
//!   [`stricter_in_v2`].
//!
//! `proxy-protocol` is asked about whole headers only: it panics where a header announces more than there is.

#![cfg_attr(not(test), no_main)]

use std::net::SocketAddr;

use glommproxy::header::{self, Decoded, Header, HeaderError, Origin, Transport, Version};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

/// Addresses of a client and of what it spoke to; `None` if there is no client.
type Client = Option<(SocketAddr, SocketAddr)>;

pub(crate) fn check(data: &[u8]) {
    for transport in [Transport::Stream, Transport::Datagram] {
        let ours = decode(data, transport);
        if let Ok(Decoded::Complete { header, consumed }) = ours {
            check_theirs(data, header, consumed);
        }
        if let Ok(theirs) = ppp::v2::Header::try_from(data) {
            let agreed = matches!(ours, Ok(Decoded::Complete { .. }));
            assert!(agreed || stricter_in_v2(ours), "{ours:?}, {theirs:?}");
        }
    }
    if let Ok(theirs) = ppp::v1::Header::try_from(data) {
        let ours = decode(data, Transport::Stream);
        let agreed = matches!(ours, Ok(Decoded::Complete { .. }));
        assert!(
            agreed || stricter_in_v1(ours, &theirs),
            "{ours:?}, {theirs:?}"
        );
    }
}

/// Decodes and checks: what is found in either step is the same here.
fn decode(bytes: &[u8], transport: Transport) -> Result<Decoded<Header<'_>>, HeaderError> {
    header::decode(bytes, transport)?.check()
}

/// What `ppp` accepts in version 1 and this decoder does not.
fn stricter_in_v1(
    ours: Result<Decoded<Header<'_>>, HeaderError>,
    theirs: &ppp::v1::Header<'_>,
) -> bool {
    match ours {
        // It takes a sign before a port, as `str::parse` does.
        Err(HeaderError::V1Port) => theirs.header.contains(" +"),
        // It takes a space for the CR.
        Err(HeaderError::V1LineEnd) => theirs.header.ends_with(" \n"),
        // The same behind UNKNOWN, where this decoder goes on looking for CRLF.
        Ok(Decoded::Partial) | Err(HeaderError::V1LineTooLong) => {
            theirs.addresses == ppp::v1::Addresses::Unknown && !theirs.header.ends_with("\r\n")
        }
        _ => false,
    }
}

/// What `ppp` accepts in version 2 and this decoder does not: it checks neither the length against a limit, nor the
/// transport against what the bytes came over, nor any TLV, and it leaves it to its caller what a PROXY header without an
/// IP address is good for.
fn stricter_in_v2(ours: Result<Decoded<Header<'_>>, HeaderError>) -> bool {
    matches!(
        ours,
        Err(HeaderError::TooLong { .. }
            | HeaderError::DatagramOnStream
            | HeaderError::StreamOnDatagram
            | HeaderError::V2NoAddress
            | HeaderError::TlvsMalformed
            | HeaderError::CrcLength(_)
            | HeaderError::CrcTwice
            | HeaderError::CrcMismatch { .. }
            | HeaderError::UniqueIdTooLong(_))
    )
}

/// Compares a header that is accepted here with what the other crates make of it.
fn check_theirs(data: &[u8], header: Header<'_>, consumed: usize) {
    let ours = match header.origin() {
        Origin::Proxied {
            source,
            destination,
        } => Some((source, destination)),
        Origin::Local => None,
    };

    let expected = Some((ours, consumed));
    let bytes = &data[..consumed];
    let by_ppp = by_ppp(data, header);
    assert!(
        by_ppp == expected || ppp_differs(bytes, header),
        "{header:?}, by ppp {by_ppp:?}"
    );
    let by_proxy_protocol = by_proxy_protocol(data);
    assert!(
        by_proxy_protocol == expected || proxy_protocol_differs(bytes, header),
        "{header:?}, by proxy-protocol {by_proxy_protocol:?}"
    );
}

/// Which headers are accepted here and are something else, or nothing, to `ppp`.
fn ppp_differs(bytes: &[u8], header: Header<'_>) -> bool {
    match (header.version, header.origin()) {
        // It reads the line of an UNKNOWN client, too: there may be only so many words, in UTF-8, with a space first, and
        // a lone CR ends them. The specification ignores everything up to CRLF.
        (Version::V1, Origin::Local) => bytes != b"PROXY UNKNOWN\r\n",
        (Version::V2, Origin::Local) => has_foreign_block(bytes),
        (_, Origin::Proxied { .. }) => false,
    }
}

/// Which headers are accepted here and are something else, or nothing, to `proxy-protocol`.
fn proxy_protocol_differs(bytes: &[u8], header: Header<'_>) -> bool {
    header.version == Version::V2 && header.origin() == Origin::Local && has_foreign_block(bytes)
}

/// Whether the block of a LOCAL header is not what its family and transport say: the others refuse it, the specification
/// discards it unread.
fn has_foreign_block(bytes: &[u8]) -> bool {
    let (family, transport) = (bytes[13] >> 4, bytes[13] & 0x0F);
    let needed = match family {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return true,
    };
    transport > 2 || bytes.len() < 16 + needed
}

/// The client and the header's length as `ppp` reads them. The TLVs are compared here.
fn by_ppp(data: &[u8], header: Header<'_>) -> Option<(Client, usize)> {
    if header.version == Version::V1 {
        let theirs = ppp::v1::Header::try_from(data).ok()?;
        let client = match theirs.addresses {
            ppp::v1::Addresses::Unknown => None,
            ppp::v1::Addresses::Tcp4(pair) => Some((
                SocketAddr::new(pair.source_address.into(), pair.source_port),
                SocketAddr::new(pair.destination_address.into(), pair.destination_port),
            )),
            ppp::v1::Addresses::Tcp6(pair) => Some((
                SocketAddr::new(pair.source_address.into(), pair.source_port),
                SocketAddr::new(pair.destination_address.into(), pair.destination_port),
            )),
        };
        return Some((client, theirs.header.len()));
    }

    let theirs = ppp::v2::Header::try_from(data).ok()?;
    let client = match theirs.addresses {
        _ if theirs.command == ppp::v2::Command::Local => None,
        ppp::v2::Addresses::IPv4(pair) => Some((
            SocketAddr::new(pair.source_address.into(), pair.source_port),
            SocketAddr::new(pair.destination_address.into(), pair.destination_port),
        )),
        ppp::v2::Addresses::IPv6(pair) => Some((
            SocketAddr::new(pair.source_address.into(), pair.source_port),
            SocketAddr::new(pair.destination_address.into(), pair.destination_port),
        )),
        ppp::v2::Addresses::Unspecified | ppp::v2::Addresses::Unix(_) => None,
    };
    // What is no list of TLVs in a LOCAL header is discarded here, and none is shown. Behind the family UNSPEC, `ppp` never
    // looks for any.
    let are_read = theirs.addresses != ppp::v2::Addresses::Unspecified;
    if client.is_some() || are_read && !header.tlvs.is_empty() {
        let mut tlvs = theirs.tlvs();
        for ours in header.tlvs {
            let theirs = tlvs.next().and_then(Result::ok).expect("as many TLVs");
            assert_eq!(
                (ours.kind, ours.value),
                (theirs.kind, theirs.value.as_ref())
            );
        }
        assert!(tlvs.next().is_none(), "no more TLVs");
    }
    Some((client, theirs.as_bytes().len()))
}

/// The client and the header's length as `proxy-protocol` reads them. It keeps no TLVs.
fn by_proxy_protocol(data: &[u8]) -> Option<(Client, usize)> {
    use proxy_protocol::{ProxyHeader, version1, version2};

    let mut rest = data;
    let client = match proxy_protocol::parse(&mut rest).ok()? {
        ProxyHeader::Version1 { addresses } => match addresses {
            version1::ProxyAddresses::Unknown => None,
            version1::ProxyAddresses::Ipv4 {
                source,
                destination,
            } => Some((source.into(), destination.into())),
            version1::ProxyAddresses::Ipv6 {
                source,
                destination,
            } => Some((source.into(), destination.into())),
        },
        ProxyHeader::Version2 {
            command: version2::ProxyCommand::Local,
            ..
        } => None,
        ProxyHeader::Version2 { addresses, .. } => match addresses {
            version2::ProxyAddresses::Ipv4 {
                source,
                destination,
            } => Some((source.into(), destination.into())),
            version2::ProxyAddresses::Ipv6 {
                source,
                destination,
            } => Some((source.into(), destination.into())),
            version2::ProxyAddresses::Unspec | version2::ProxyAddresses::Unix { .. } => None,
        },
        other => panic!("a version of its own: {other:?}"),
    };
    Some((client, data.len() - rest.len()))
}
