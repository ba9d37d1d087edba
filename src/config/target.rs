//! Servers as the operator names them: by address, or by host name.

use std::fmt;
use std::net::{SocketAddrV4, SocketAddrV6};

use crate::args::Origin;

/// The longest host name (RFC 1035, section 2.3.4), and the longest part between two dots of one.
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// Where the server is, for each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTargets {
    /// For IPv4 clients (`-4`).
    pub v4: Target<SocketAddrV4>,
    /// For IPv6 clients (`-6`).
    pub v6: Target<SocketAddrV6>,
}

/// A server, by its address of one family or by the name of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<A> {
    /// It stays where it is.
    Addr(A),
    /// Its host has to be looked up, and may be elsewhere the next time.
    Name(TargetName),
}

/// A server on a host that has to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetName {
    /// The host, in ASCII.
    pub host: String,
    /// The server's port, which is not 0.
    pub port: u16,
    /// The flag or variable that names it.
    pub origin: Origin,
}

// === impl Target ===

impl<A> Target<A> {
    /// The name, if it has to be looked up.
    pub fn name(&self) -> Option<&TargetName> {
        match self {
            Self::Addr(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl<A: fmt::Display> fmt::Display for Target<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

// === impl TargetName ===

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What keeps a text from being a host name, as the end of a sentence.
///
/// Host names are letters, digits and hyphens in parts between dots (RFC 1123, section 2.1), and underscores, which
/// Docker Compose's service names may have. A name whose last part is a number is a mistyped address: resolvers would read
/// `127.1` and `0x7f.1` as one.
pub(super) fn host_name_problem(text: &str) -> Option<&'static str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if !text.is_ascii() {
        return Some("has a host name that is not ASCII: write it as the DNS does (xn--…)");
    }
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label =
        |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_name_byte);
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        || last
            .to_ascii_lowercase()
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number {
        return Some("is no IP address");
    }
    if text.len() > NAME_LEN_MAX || !text.split('.').all(is_label) || text.starts_with('-') {
        return Some("has neither an IP address nor a host name");
    }
    None
}
