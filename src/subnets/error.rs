//! Why a list of subnets is refused.

use std::fmt;

use super::PREFIXES_MAX;

/// How much of the offending text is shown: the longest prefix there is fits.
const SHOWN_LEN_MAX: usize = 48;

/// Why a list is refused, and where. The message names the text and what would be right; the caller, who knows the
/// file, puts `FILE:LINE: ` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetError {
    line: usize,
    /// The offending text, shortened and escaped.
    shown: String,
    problem: SubnetProblem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubnetProblem {
    /// It is no IP address, nor is what stands before its slash.
    Address,
    /// The length of an IPv4 prefix is wrong.
    LengthV4,
    /// The length of an IPv6 prefix is wrong.
    LengthV6,
    /// The length of a v4-mapped prefix is too short to be one.
    LengthMapped,
    /// The list was full before it.
    TooMany,
}

// === impl SubnetError ===

impl SubnetError {
    pub(super) fn new(line: usize, text: &str, problem: SubnetProblem) -> Self {
        // Escaped down to ASCII: what a file holds may be anything, and a terminal obeys some of it.
        let mut shown: String = text
            .chars()
            .take(SHOWN_LEN_MAX)
            .flat_map(char::escape_default)
            .collect();
        if text.chars().nth(SHOWN_LEN_MAX).is_some() {
            shown.push('…');
        }
        Self {
            line,
            shown,
            problem,
        }
    }

    /// The line in the text, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for SubnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.shown;
        match self.problem {
            SubnetProblem::Address => write!(
                f,
                "\"{shown}\" is no address or prefix: write one a line, like 192.0.2.0/24, 192.0.2.1 or 2001:db8::/32"
            ),
            SubnetProblem::LengthV4 => {
                write!(
                    f,
                    "\"{shown}\" is no prefix: the length behind an IPv4 address is 0 to 32"
                )
            }
            SubnetProblem::LengthV6 => {
                write!(
                    f,
                    "\"{shown}\" is no prefix: the length behind an IPv6 address is 0 to 128"
                )
            }
            SubnetProblem::LengthMapped => write!(
                f,
                "\"{shown}\" is ambiguous: the length behind a v4-mapped address is 96 to 128; better write it as IPv4"
            ),
            SubnetProblem::TooMany => {
                write!(
                    f,
                    "\"{shown}\" is one prefix too many: a list has at most {PREFIXES_MAX}"
                )
            }
        }
    }
}

impl std::error::Error for SubnetError {}
