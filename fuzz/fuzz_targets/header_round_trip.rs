//! Valid headers of every form, made up by the fuzzer. What holds:
//!
//! - A header that is written as the specification says is decoded to what was written, TLVs and all, whatever follows.
//! - The other transport refuses it by name, unless it is LOCAL.
//! - With one byte changed it makes no panic, whatever else it makes.
//! - With a byte of its addresses changed it is refused, if it has a checksum.

#![cfg_attr(not(test), no_main)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::{Arbitrary, Unstructured};
use glommproxy::header::{
    self, Decoded, Details, Header, HeaderError, LEN_MAX, Origin, Tlv, Transport, Version,
};

#[cfg(not(test))]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_LEN: usize = 16;
/// The longest line of version 1.
const LINE_LEN_MAX: usize = 107;
const UNIQUE_ID_LEN_MAX: usize = 128;

#[derive(Debug, Arbitrary)]
struct Case {
    form: Form,
    payload: Vec<u8>,
    change: Change,
}

#[derive(Debug, Arbitrary)]
enum Form {
    Line(Addresses),
    UnknownLine(Vec<u8>),
    Binary(Binary),
}

#[derive(Debug, Arbitrary)]
struct Binary {
    local: bool,
    datagram: bool,
    addresses: Addresses,
    tlvs: Vec<(u8, Vec<u8>)>,
    /// The place of the checksum among the TLVs.
    checksum_at: Option<u8>,
}

#[derive(Debug, Arbitrary)]
enum Addresses {
    V4([(Ipv4Addr, u16); 2]),
    V6([(Ipv6Addr, u16); 2]),
}

/// One byte of the header that is not what it was.
#[derive(Debug, Arbitrary)]
struct Change {
    at: u16,
    bits: u8,
}

pub(crate) fn check(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    match &case.form {
        Form::Line(addresses) => check_line(addresses.line(), addresses.origin(), &case),
        Form::UnknownLine(ignored) => {
            // CR and LF could end the line too early.
            let mut line = b"PROXY UNKNOWN".to_vec();
            line.extend(ignored.iter().filter(|byte| !b"\r\n".contains(byte)));
            line.truncate(LINE_LEN_MAX - 2);
            line.extend(b"\r\n");
            check_line(line, Origin::Local, &case);
        }
        Form::Binary(binary) => check_binary(binary, &case),
    }
}

/// Decodes and checks: what is found in either step is the same here.
fn decode(bytes: &[u8], transport: Transport) -> Result<Decoded<Header<'_>>, HeaderError> {
    header::decode(bytes, transport)?.check()
}

fn check_line(line: Vec<u8>, origin: Origin, case: &Case) {
    let bytes = [line.as_slice(), &case.payload].concat();
    let Ok(Decoded::Complete { header, consumed }) = decode(&bytes, Transport::Stream) else {
        panic!("{case:?} is refused");
    };
    assert_eq!((header.version, header.origin()), (Version::V1, origin));
    assert_eq!(consumed, line.len());
    assert!(header.tlvs.is_empty());
    let datagram = decode(&bytes, Transport::Datagram);
    assert_eq!(datagram, Err(HeaderError::V1OnDatagram));
    decode_changed(bytes, line.len(), &case.change);
}

fn check_binary(binary: &Binary, case: &Case) {
    let (header_bytes, tlvs) = binary.encode();
    let bytes = [header_bytes.as_slice(), &case.payload].concat();
    let (transport, other) = match binary.datagram {
        true => (Transport::Datagram, Transport::Stream),
        false => (Transport::Stream, Transport::Datagram),
    };
    let Ok(Decoded::Complete { header, consumed }) = decode(&bytes, transport) else {
        panic!("{case:?} is refused: {:?}", decode(&bytes, transport));
    };
    let origin = match binary.local {
        true => Origin::Local,
        false => binary.addresses.origin(),
    };
    assert_eq!((header.version, header.origin()), (Version::V2, origin));
    assert_eq!(consumed, header_bytes.len());
    let decoded = header.tlvs.iter().map(|tlv| (tlv.kind, tlv.value));
    assert!(decoded.eq(tlvs.iter().map(|(kind, value)| (*kind, value.as_slice()))));
    assert_eq!(header.tlvs.has_crc32c(), binary.checksum_at.is_some());

    let elsewhere = decode(&bytes, other);
    match (binary.local, other) {
        (true, _) => assert_eq!(elsewhere, decode(&bytes, transport)),
        (false, Transport::Stream) => assert_eq!(elsewhere, Err(HeaderError::DatagramOnStream)),
        (false, Transport::Datagram) => assert_eq!(elsewhere, Err(HeaderError::StreamOnDatagram)),
    }

    let changed_at = decode_changed(bytes.clone(), header_bytes.len(), &case.change);
    let addresses = FIXED_LEN..FIXED_LEN + binary.addresses.block().len();
    if binary.checksum_at.is_some() && changed_at.is_some_and(|at| addresses.contains(&at)) {
        let changed = case.change.apply(bytes, header_bytes.len());
        let refused = decode(&changed, transport);
        assert!(matches!(refused, Err(HeaderError::CrcMismatch { .. })));
    }
}

/// Decodes the header with the change made to it, and reads what it tells; gives the place of the change, if any.
fn decode_changed(bytes: Vec<u8>, header_len: usize, change: &Change) -> Option<usize> {
    let changed = change.apply(bytes, header_len);
    for transport in [Transport::Stream, Transport::Datagram] {
        if let Ok(Decoded::Complete { header, consumed }) = decode(&changed, transport) {
            assert!(consumed <= changed.len());
            Details::of(header.tlvs);
        }
    }
    (change.bits != 0).then(|| change.place(header_len))
}

// === impl Binary ===

impl Binary {
    /// The header's bytes, and its TLVs as they are to be decoded.
    fn encode(&self) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let (family, block) = match &self.addresses {
            Addresses::V4(_) => (0x10, self.addresses.block()),
            Addresses::V6(_) => (0x20, self.addresses.block()),
        };
        let mut tlvs = self.valid_tlvs(LEN_MAX - FIXED_LEN - block.len());
        let len: usize = tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
        let len = u16::try_from(block.len() + len).expect("below LEN_MAX");

        let mut header = SIGNATURE.to_vec();
        header.push(if self.local { 0x20 } else { 0x21 });
        header.push(family | if self.datagram { 2 } else { 1 });
        header.extend(len.to_be_bytes());
        header.extend(block);
        let mut checksum_at = None;
        for (kind, value) in &tlvs {
            header.push(*kind);
            header.extend((value.len() as u16).to_be_bytes());
            if *kind == Tlv::CRC32C {
                checksum_at = Some(header.len());
            }
            header.extend(value);
        }
        if let Some(at) = checksum_at {
            let checksum = crc32c(&header).to_be_bytes();
            header[at..at + 4].copy_from_slice(&checksum);
            if let Some((_, value)) = tlvs.iter_mut().find(|(kind, _)| *kind == Tlv::CRC32C) {
                *value = checksum.to_vec();
            }
        }
        (header, tlvs)
    }

    /// The TLVs as far as they are valid and fit, the checksum still zero.
    fn valid_tlvs(&self, len_max: usize) -> Vec<(u8, Vec<u8>)> {
        let mut room = len_max - (3 + 4);
        let mut tlvs = Vec::new();
        for (kind, value) in &self.tlvs {
            let mut value = value.clone();
            if *kind == Tlv::UNIQUE_ID {
                value.truncate(UNIQUE_ID_LEN_MAX);
            }
            if *kind == Tlv::CRC32C || room < 3 + value.len() {
                continue;
            }
            room -= 3 + value.len();
            tlvs.push((*kind, value));
        }
        if let Some(at) = self.checksum_at {
            let at = usize::from(at).min(tlvs.len());
            tlvs.insert(at, (Tlv::CRC32C, vec![0; 4]));
        }
        tlvs
    }
}

// === impl Addresses ===

impl Addresses {
    fn pair(&self) -> [SocketAddr; 2] {
        match *self {
            Self::V4(pair) => pair.map(|(ip, port)| SocketAddr::new(ip.into(), port)),
            Self::V6(pair) => pair.map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        }
    }

    fn origin(&self) -> Origin {
        let [source, destination] = self.pair();
        Origin::Proxied {
            source,
            destination,
        }
    }

    /// The line of version 1.
    fn line(&self) -> Vec<u8> {
        let family = match self {
            Self::V4(_) => "TCP4",
            Self::V6(_) => "TCP6",
        };
        let [source, destination] = self.pair();
        format!(
            "PROXY {family} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        )
        .into_bytes()
    }

    /// The address block of version 2.
    fn block(&self) -> Vec<u8> {
        let ips = match self {
            Self::V4(pair) => pair.map(|(ip, _)| ip.octets()).concat(),
            Self::V6(pair) => pair.map(|(ip, _)| ip.octets()).concat(),
        };
        let ports = self.pair().map(|addr| addr.port().to_be_bytes()).concat();
        [ips, ports].concat()
    }
}

// === impl Change ===

impl Change {
    fn place(&self, header_len: usize) -> usize {
        usize::from(self.at) % header_len
    }

    fn apply(&self, mut bytes: Vec<u8>, header_len: usize) -> Vec<u8> {
        bytes[self.place(header_len)] ^= self.bits;
        bytes
    }
}

/// CRC32C bit by bit (RFC 9260, appendix A), so that it shares nothing with what it is compared to.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82F6_3B78;
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1
                ^ if crc & 1 == 1 {
                    POLYNOMIAL_REFLECTED
                } else {
                    0
                }
        })
    })
}
