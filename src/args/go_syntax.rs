//! How Go's `flag` package reads integers and booleans, so that values written for go-mmproxy mean the same here.

/// Why a text is no integer in Go's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnInteger {
    /// The text is no integer at all.
    Syntax,
    /// The text is an integer that 64 bits do not hold.
    Range,
}

/// Reads an integer as `strconv.ParseInt(text, 0, 64)` does: an optional sign, then digits in base 10, or in base 16, 8
/// or 2 behind `0x`, `0o` (or a bare `0`) and `0b`; underscores may stand between digits and behind the prefix.
pub(crate) fn integer(text: &str) -> Result<i64, NotAnInteger> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = split_prefix(unsigned);
    let mut magnitude: Option<i128> = Some(0);
    let mut digit_seen = false;
    // An underscore needs a digit, or the prefix, before it and a digit behind it.
    let mut underscore_allowed = radix != 10;
    let mut underscore_last = false;
    for byte in digits.bytes() {
        if byte == b'_' {
            if !underscore_allowed {
                return Err(NotAnInteger::Syntax);
            }
            underscore_allowed = false;
            underscore_last = true;
            continue;
        }
        let digit = char::from(byte)
            .to_digit(radix)
            .ok_or(NotAnInteger::Syntax)?;
        magnitude = magnitude
            .and_then(|so_far| so_far.checked_mul(radix.into())?.checked_add(digit.into()));
        digit_seen = true;
        underscore_allowed = true;
        underscore_last = false;
    }
    if !digit_seen || underscore_last {
        return Err(NotAnInteger::Syntax);
    }
    magnitude
        .map(|magnitude| if negative { -magnitude } else { magnitude })
        .and_then(|signed| i64::try_from(signed).ok())
        .ok_or(NotAnInteger::Range)
}

/// Reads a boolean as `strconv.ParseBool` does.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn split_prefix(text: &str) -> (u32, &str) {
    let bytes = text.as_bytes();
    // A lone "0" is the number zero, not the prefix of an octal number without digits.
    if bytes.len() < 2 || bytes[0] != b'0' {
        return (10, text);
    }
    match bytes[1] {
        b'x' | b'X' => (16, &text[2..]),
        b'o' | b'O' => (8, &text[2..]),
        b'b' | b'B' => (2, &text[2..]),
        _ => (8, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_read_as_in_go() {
        let cases = [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("00", Ok(0)),
            ("+5", Ok(5)),
            ("-5", Ok(-5)),
            ("123", Ok(123)),
            ("0x7b", Ok(123)),
            ("0X7B", Ok(123)),
            ("0o17", Ok(15)),
            ("0O17", Ok(15)),
            ("017", Ok(15)),
            ("0b1", Ok(1)),
            ("0B101", Ok(5)),
            ("-0x10", Ok(-16)),
            ("1_000", Ok(1000)),
            ("0_7", Ok(7)),
            ("0x_1", Ok(1)),
            ("0x1_0", Ok(16)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NotAnInteger::Range)),
            ("-9223372036854775809", Err(NotAnInteger::Range)),
            (
                "99999999999999999999999999999999999999999999999999999999999999",
                Err(NotAnInteger::Range),
            ),
            (
                "99999999999999999999999999999999999999999999999999999999999x",
                Err(NotAnInteger::Syntax),
            ),
            ("", Err(NotAnInteger::Syntax)),
            ("-", Err(NotAnInteger::Syntax)),
            ("+-5", Err(NotAnInteger::Syntax)),
            (" 5", Err(NotAnInteger::Syntax)),
            ("5 ", Err(NotAnInteger::Syntax)),
            ("5.0", Err(NotAnInteger::Syntax)),
            ("1e3", Err(NotAnInteger::Syntax)),
            ("08", Err(NotAnInteger::Syntax)),
            ("0b2", Err(NotAnInteger::Syntax)),
            ("0x", Err(NotAnInteger::Syntax)),
            ("0x_", Err(NotAnInteger::Syntax)),
            ("_1", Err(NotAnInteger::Syntax)),
            ("1_", Err(NotAnInteger::Syntax)),
            ("1__0", Err(NotAnInteger::Syntax)),
            ("0x__1", Err(NotAnInteger::Syntax)),
            ("٣", Err(NotAnInteger::Syntax)),
        ];
        for (text, want) in cases {
            assert_eq!(integer(text), want, "{text:?}");
        }
    }

    #[test]
    fn booleans_read_as_in_go() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2"] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }
}
