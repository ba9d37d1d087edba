//! Any bytes, decoded as the beginning of a stream and as a datagram. What holds:
//!
//! - There is no panic, and no more is consumed than there is, nor than `LEN_MAX`.
//! - A stream's bytes are `Partial` up to one length, and from there on the same is said of them for good: that they are
//!   a header that ends right there, or what is wrong with them. So it makes no difference in which pieces they arrive.
//! - `Partial` is said of streams only, and never of `LEN_MAX` bytes.
//! - A datagram that holds a header holds none if it is cut within the header.
//! - Bytes behind the header are not looked at.
//! - What both transports accept has no client: a PROXY header says itself which of them it is for.
//! - Every error has a label that counters know, and is one line of printable ASCII.

#![cfg_attr(not(test), no_main)]

use glommproxy::header::{self, Decoded, Header, HeaderError, LEN_MAX, Origin, Transport};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

/// Version 2: signature, version and command, family and transport, length.
const FIXED_LEN: usize = 16;

pub(crate) fn check(data: &[u8]) {
    check_stream(data);
    check_datagram(data);

    let accepted = |transport| match decode(data, transport) {
        Ok(Decoded::Complete { header, consumed }) => Some((header, consumed)),
        _ => None,
    };
    if let (Some(stream), Some(datagram)) =
        (accepted(Transport::Stream), accepted(Transport::Datagram))
    {
        assert_eq!(stream, datagram);
        assert_eq!(stream.0.origin(), Origin::Local);
    }
}

/// Decodes and checks. In whichever of the two steps a header is refused, it claims the client before that it has after.
fn decode(bytes: &[u8], transport: Transport) -> Result<Decoded<Header<'_>>, HeaderError> {
    let found = header::decode(bytes, transport)?;
    let checked = found.check()?;
    if let (
        Decoded::Complete { header: found, .. },
        Decoded::Complete {
            header: checked, ..
        },
    ) = (found, checked)
    {
        let source = match checked.origin() {
            Origin::Proxied { source, .. } => Some(source),
            Origin::Local => None,
        };
        assert_eq!(found.claimed_source(), source);
    }
    Ok(checked)
}

fn check_stream(data: &[u8]) {
    let decided = (0..=data.len())
        .find(|&len| decode(&data[..len], Transport::Stream) != Ok(Decoded::Partial));
    let Some(len) = decided else {
        for filler in [0, b'0', b' '] {
            let mut filled = data.to_vec();
            filled.resize(LEN_MAX.max(data.len()), filler);
            assert_ne!(decode(&filled, Transport::Stream), Ok(Decoded::Partial));
        }
        return;
    };

    let first = decode(&data[..len], Transport::Stream);
    match first {
        Ok(Decoded::Complete { header, consumed }) => {
            assert_eq!(consumed, len, "it is complete with its last byte");
            check_header(header, consumed);
        }
        Ok(Decoded::Partial) => unreachable!("decided"),
        Err(error) => check_error(error),
    }
    // All longer pieces at once would take the square of the time.
    for longer in (len..data.len()).take(32).chain([data.len()]) {
        assert_eq!(decode(&data[..longer], Transport::Stream), first);
    }
    assert_eq!(
        decode(&with_other_tail(data, len), Transport::Stream),
        first
    );
}

fn check_datagram(data: &[u8]) {
    let whole = decode(data, Transport::Datagram);
    match whole {
        Ok(Decoded::Complete { header, consumed }) => {
            check_header(header, consumed);
            assert!(consumed <= data.len());
            for cut in 0..consumed {
                assert!(decode(&data[..cut], Transport::Datagram).is_err());
            }
            assert_eq!(decode(&data[..consumed], Transport::Datagram), whole);
            let other = with_other_tail(data, consumed);
            assert_eq!(decode(&other, Transport::Datagram), whole);
        }
        Ok(Decoded::Partial) => panic!("a datagram has no more bytes to come"),
        Err(error) => check_error(error),
    }
}

fn check_header(header: Header<'_>, consumed: usize) {
    assert!(consumed <= LEN_MAX);
    let tlvs_len: usize = header.tlvs.iter().map(|tlv| 3 + tlv.value.len()).sum();
    assert!(tlvs_len == 0 || FIXED_LEN + tlvs_len <= consumed);
    assert_eq!(header.tlvs.is_empty(), tlvs_len == 0);
}

fn check_error(error: HeaderError) {
    assert!(HeaderError::KINDS.contains(&error.kind()));
    let message = error.to_string();
    assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')));
}

/// The bytes with everything from `len` on inverted, and with some more behind.
fn with_other_tail(data: &[u8], len: usize) -> Vec<u8> {
    let (kept, tail) = data.split_at(len);
    let tail = tail
        .iter()
        .map(|byte| !byte)
        .chain(*b"\r\n\r\n\0\r\nQUIT\n");
    kept.iter().copied().chain(tail).collect()
}
