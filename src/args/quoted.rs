//! Foreign text made fit for one line of a message.

use std::fmt::{self, Write};

/// How many characters of a foreign text a message shows. Every sensible address, path and number fits.
const SHOWN_CHARS_MAX: usize = 80;

/// Shows a text in double quotes, with control characters, line ends and other invisible characters escaped, and cut
/// after 80 characters: a message stays one line and cannot steer the terminal it is printed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(pub String);

// === impl Quoted ===

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (shown, c) in self.0.chars().enumerate() {
            if shown == SHOWN_CHARS_MAX {
                f.write_char('…')?;
                break;
            }
            // A single quote inside double quotes needs no backslash.
            if c == '\'' {
                f.write_char(c)?;
            } else {
                write!(f, "{}", c.escape_debug())?;
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_foreign_text_on_one_line() {
        let cases = [
            ("127.0.0.1:443", r#""127.0.0.1:443""#),
            ("", r#""""#),
            ("it's", r#""it's""#),
            ("a\"b", r#""a\"b""#),
            ("a\nb\r\t\0", r#""a\nb\r\t\0""#),
            ("\u{1b}[31m", r#""\u{1b}[31m""#),
            ("\u{2028}\u{202e}\u{85}", r#""\u{2028}\u{202e}\u{85}""#),
            ("Grüße", r#""Grüße""#),
        ];
        for (text, want) in cases {
            assert_eq!(Quoted(text.into()).to_string(), want);
        }
    }

    #[test]
    fn cuts_long_text() {
        assert_eq!(
            Quoted("x".repeat(80)).to_string(),
            format!("\"{}\"", "x".repeat(80))
        );
        assert_eq!(
            Quoted("ä".repeat(81)).to_string(),
            format!("\"{}…\"", "ä".repeat(80))
        );
    }
}
