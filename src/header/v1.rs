//! The line of text (section 2.1): `PROXY TCP4|TCP6 SRC DST SPORT DPORT\r\n` or `PROXY UNKNOWN…\r\n`.
//!
//! The line is read once, from the left, without a search for its end first. Whatever cannot begin a valid line is
//! refused where it stands; where the bytes run out, more of them may help.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{HeaderError, Origin};

/// The longest line, CRLF included.
const LINE_LEN_MAX: usize = 107;
/// What every version 1 header begins with; the space is part of it.
const SIGNATURE: &[u8] = b"PROXY ";
/// Groups of 16 bits in an IPv6 address.
const GROUPS: usize = 8;

/// Why reading stopped before the line's end.
enum Stop {
    /// The bytes ran out, all of them in order so far.
    End,
    /// No further byte could make this a valid line.
    Refused(HeaderError),
}

/// What is left to read of the line.
#[derive(Clone, Copy)]
struct Line<'a> {
    rest: &'a [u8],
}

/// Whether the whole signature is there.
pub(super) fn is_signed(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Decodes the line at the beginning of a stream, and tells its length; none if more bytes are needed.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Origin, usize)>, HeaderError> {
    let window = &bytes[..bytes.len().min(LINE_LEN_MAX)];
    let mut line = Line { rest: window };
    match line.origin() {
        Ok(origin) => Ok(Some((origin, window.len() - line.rest.len()))),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::End) if window.len() == LINE_LEN_MAX => Err(HeaderError::V1LineTooLong),
        Err(Stop::End) => Ok(None),
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    /// The whole line, CRLF included.
    #[inline]
    fn origin(&mut self) -> Result<Origin, Stop> {
        self.literal(SIGNATURE, HeaderError::Missing)?;
        if self.peek()? == b'U' {
            self.literal(b"UNKNOWN", HeaderError::V1Protocol)?;
            self.skip_behind_crlf()?;
            return Ok(Origin::Local);
        }

        self.literal(b"TCP", HeaderError::V1Protocol)?;
        if self.peek()? == b'6' {
            self.literal(b"6 ", HeaderError::V1Protocol)?;
            return self.proxied(Self::ipv6);
        }
        self.literal(b"4 ", HeaderError::V1Protocol)?;
        self.proxied(Self::ipv4)
    }

    /// Everything behind `TCP4 ` or `TCP6 `; `ip` reads an address of that family and gives the line behind it. It
    /// takes the line by value, so that the compiler keeps the place in it in registers: byte by byte, that is what
    /// counts.
    #[inline]
    fn proxied<Ip: Into<IpAddr>>(
        &mut self,
        ip: impl Fn(Line<'a>) -> Result<(Ip, Line<'a>), Stop>,
    ) -> Result<Origin, Stop> {
        let (source_ip, behind_source) = ip(*self)?;
        *self = behind_source;
        self.literal(b" ", HeaderError::V1Address)?;
        let (destination_ip, behind_destination) = ip(*self)?;
        *self = behind_destination;
        self.literal(b" ", HeaderError::V1Address)?;
        let source_port = self.number(HeaderError::V1Port)?;
        self.literal(b" ", HeaderError::V1Port)?;
        let destination_port = self.number(HeaderError::V1Port)?;
        self.literal(b"\r\n", HeaderError::V1LineEnd)?;

        Ok(Origin::Proxied {
            source: SocketAddr::new(source_ip.into(), source_port),
            destination: SocketAddr::new(destination_ip.into(), destination_port),
        })
    }

    #[inline]
    fn ipv4(mut self) -> Result<(Ipv4Addr, Self), Stop> {
        let a = self.number(HeaderError::V1Address)?;
        self.literal(b".", HeaderError::V1Address)?;
        let b = self.number(HeaderError::V1Address)?;
        self.literal(b".", HeaderError::V1Address)?;
        let c = self.number(HeaderError::V1Address)?;
        self.literal(b".", HeaderError::V1Address)?;
        let d = self.number(HeaderError::V1Address)?;
        Ok((Ipv4Addr::new(a, b, c, d), self))
    }

    /// An IPv6 address in any of the forms of RFC 4291, section 2.2. HAProxy writes a v4-mapped address in the third
    /// of them, `::ffff:192.0.2.1`.
    fn ipv6(mut self) -> Result<(Ipv6Addr, Self), Stop> {
        const MALFORMED: Stop = Stop::Refused(HeaderError::V1Address);
        let mut groups = [0; GROUPS];
        let mut count = 0;
        let mut gap = None;

        if self.peek()? == b':' {
            self.literal(b"::", HeaderError::V1Address)?;
            gap = Some(0);
        }
        while gap != Some(count) || self.peek()?.is_ascii_hexdigit() {
            let from_group = self;
            let group = self.group()?;
            if self.peek()? == b'.' {
                let (v4, behind) = from_group.ipv4()?;
                let [a, b, c, d] = v4.octets();
                self = behind;
                let Some(last_two) = groups.get_mut(count..count + 2) else {
                    return Err(MALFORMED);
                };
                last_two.copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
                count += 2;
                break;
            }

            *groups.get_mut(count).ok_or(MALFORMED)? = group;
            count += 1;
            if self.peek()? != b':' {
                break;
            }
            self.skip(1);
            if self.peek()? == b':' {
                if gap.is_some() {
                    return Err(MALFORMED);
                }
                self.skip(1);
                gap = Some(count);
            }
        }

        match gap {
            None if count == GROUPS => {}
            // "::" stands for one group of zeros at least.
            Some(gap) if count < GROUPS => groups[gap..].rotate_right(GROUPS - count),
            _ => return Err(MALFORMED),
        }
        Ok((Ipv6Addr::from(groups), self))
    }

    /// One to four hexadecimal digits, and no digit behind them.
    #[inline]
    fn group(&mut self) -> Result<u16, Stop> {
        let mut value = 0;
        for digits in 0..=4 {
            let digit = match self.peek()? {
                byte @ b'0'..=b'9' => byte - b'0',
                byte @ b'a'..=b'f' => byte - b'a' + 10,
                byte @ b'A'..=b'F' => byte - b'A' + 10,
                _ if digits > 0 => return Ok(value),
                _ => break,
            };
            // The fifth digit is lost here, and the loop ends with it.
            value = value << 4 | u16::from(digit);
            self.skip(1);
        }
        Err(Stop::Refused(HeaderError::V1Address))
    }

    /// A decimal number without sign or leading zeros that fits `N`, and no digit behind it; `error` if there is none.
    #[inline]
    fn number<N: TryFrom<u32>>(&mut self, error: HeaderError) -> Result<N, Stop> {
        // No number of more digits fits what is read here, and five of them fit u32.
        const DIGITS_MAX: usize = 5;
        let mut value = 0;
        for digits in 0..=DIGITS_MAX {
            let digit = match self.peek()? {
                byte @ b'0'..=b'9' => u32::from(byte - b'0'),
                _ if digits > 0 => return N::try_from(value).map_err(|_| Stop::Refused(error)),
                _ => break,
            };
            let leads_with_zero = digits == 1 && value == 0;
            if leads_with_zero || digits == DIGITS_MAX {
                break;
            }
            value = value * 10 + digit;
            self.skip(1);
        }
        Err(Stop::Refused(error))
    }

    /// Takes exactly these bytes, or stops with `error` where they differ.
    #[inline]
    fn literal(&mut self, expected: &[u8], error: HeaderError) -> Result<(), Stop> {
        let Some(rest) = self.rest.strip_prefix(expected) else {
            return Err(if expected.starts_with(self.rest) {
                Stop::End
            } else {
                Stop::Refused(error)
            });
        };
        self.rest = rest;
        Ok(())
    }

    /// Takes everything up to the next CRLF and that, too. A CR or LF of its own does not end the line.
    fn skip_behind_crlf(&mut self) -> Result<(), Stop> {
        let crlf = self
            .rest
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .ok_or(Stop::End)?;
        self.skip(crlf + 2);
        Ok(())
    }

    /// The next byte, which stays.
    #[inline]
    fn peek(&self) -> Result<u8, Stop> {
        self.rest.first().copied().ok_or(Stop::End)
    }

    #[inline]
    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }
}
