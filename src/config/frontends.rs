//! Which port leads to which server: `--listen`, `--target-v4` and `--target-v6` put together.

use super::target::{NamedTargets, Target, TargetName};
use super::{ConfigError, Problem};
use crate::addr::{Frontend, ListenAddr};
use crate::args::{Origin, Quoted};
use std::collections::HashSet;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// The most ports to listen on, each with its sockets on every shard. More than that is for one port and a redirection
/// in the kernel.
pub(super) const PORTS_MAX: usize = 4096;

/// The most host names of one family, each of which is looked up by a thread of its own.
pub(super) const NAMES_MAX: usize = 256;

/// An address with a port, or a host name with one.
pub(super) trait Ported: Clone {
    fn port(&self) -> u16;
    fn with_port(&self, port: u16) -> Self;

    /// The name, if it is one.
    fn name(&self) -> Option<&TargetName> {
        None
    }
}

/// One word of a list: an address and port, or a range of ports (`127.0.0.1:2456-2458`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span<A> {
    text: String,
    first: A,
    /// Never 0.
    ports: usize,
}

/// All words a flag was given, and how to call it.
pub(super) struct Spans<A> {
    pub(super) origin: Origin,
    /// Never empty.
    pub(super) words: Vec<Span<A>>,
}

/// Puts ports and servers together: each word of `--listen` with its word of the targets, and in these port by port.
pub(super) fn frontends(
    listen: &Spans<SocketAddr>,
    v4: &Spans<Target<SocketAddrV4>>,
    v6: &Spans<Target<SocketAddrV6>>,
) -> Result<Vec<Frontend<NamedTargets>>, ConfigError> {
    let ports: usize = listen.words.iter().map(|word| word.ports).sum();
    if ports > PORTS_MAX {
        return Err(ConfigError::TooManyPorts {
            listen_origin: listen.origin.clone(),
            ports,
        });
    }
    refuse_overlaps(listen)?;
    let targets = targets(listen, v4)?.into_iter().zip(targets(listen, v6)?);
    let addrs = listen.words.iter().flat_map(Span::addrs);
    let frontends = addrs.zip(targets).map(|(listen, (v4, v6))| Frontend {
        listen: ListenAddr(listen),
        targets: NamedTargets { v4, v6 },
    });
    Ok(frontends.collect())
}

/// The target of every port.
fn targets<A: Ported>(
    listen: &Spans<SocketAddr>,
    targets: &Spans<A>,
) -> Result<Vec<A>, ConfigError> {
    let of_word = |at: usize| match &targets.words[..] {
        [one] => Some(one),
        several => several.get(at),
    };
    if targets.words.len() != 1 && targets.words.len() != listen.words.len() {
        return Err(ConfigError::UnpairedTargets {
            listen_origin: listen.origin.clone(),
            listens: listen.words.len(),
            target_origin: targets.origin.clone(),
            targets: targets.words.len(),
        });
    }
    refuse_many_names(targets)?;
    let mut all = Vec::new();
    for (at, word) in listen.words.iter().enumerate() {
        let Some(target) = of_word(at) else { continue };
        if target.ports == 1 {
            all.extend(std::iter::repeat_n(target.first.clone(), word.ports));
        } else if target.ports == word.ports {
            all.extend(target.addrs());
        } else {
            return Err(ConfigError::UnequalRanges {
                listen: Box::new(word.named(&listen.origin)),
                target: Box::new(target.named(&targets.origin)),
            });
        }
    }
    Ok(all)
}

fn refuse_many_names<A: Ported>(targets: &Spans<A>) -> Result<(), ConfigError> {
    let names = targets.words.iter().filter_map(|word| word.first.name());
    let hosts: HashSet<&str> = names.map(|name| name.host.as_str()).collect();
    if hosts.len() <= NAMES_MAX {
        return Ok(());
    }
    Err(ConfigError::TooManyNames {
        target_origin: targets.origin.clone(),
        names: hosts.len(),
    })
}

/// Two words that name one port of one address would get a part of its connections each.
fn refuse_overlaps(listen: &Spans<SocketAddr>) -> Result<(), ConfigError> {
    for (at, word) in listen.words.iter().enumerate() {
        for earlier in &listen.words[..at] {
            if let Some(port) = word.shared_port(earlier) {
                return Err(ConfigError::Overlap {
                    origin: listen.origin.clone(),
                    first: Quoted(earlier.text.clone()),
                    second: Quoted(word.text.clone()),
                    port,
                });
            }
        }
    }
    Ok(())
}

/// How many ports a word names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPorts {
    /// The flag or variable.
    pub origin: Origin,
    /// The word.
    pub word: Quoted,
    /// How many ports it names.
    pub ports: usize,
}

// === impl NamedPorts ===

impl fmt::Display for NamedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.ports == 1 { "" } else { "s" };
        write!(
            f,
            "{} {} has {} port{plural}",
            self.origin, self.word, self.ports
        )
    }
}

// === impl Span ===

impl<A: Ported> Span<A> {
    /// Reads a word; `read` understands it if it has no range.
    pub(super) fn read(
        text: &str,
        read: impl FnOnce(&str) -> Result<A, Problem>,
    ) -> Result<Self, Problem> {
        let problem = |problem| Problem::new(problem, "a range of ports, such as 2456-2458");
        let Some((start, last)) = split_range(text) else {
            return Ok(Self::one(text, read(text)?));
        };
        let first = read(start)?;
        let last: u16 = last
            .parse()
            .map_err(|_| problem("has a port range that ends beyond 65535"))?;
        if first.port() == 0 {
            return Err(problem("has a port range that begins with port 0"));
        }
        let Some(more) = last.checked_sub(first.port()) else {
            return Err(problem("has a port range that ends before it begins"));
        };
        Ok(Self {
            text: text.to_owned(),
            first,
            ports: usize::from(more) + 1,
        })
    }

    /// A word without a range.
    pub(super) fn one(text: &str, addr: A) -> Self {
        Self {
            text: text.to_owned(),
            first: addr,
            ports: 1,
        }
    }

    fn named(&self, origin: &Origin) -> NamedPorts {
        NamedPorts {
            origin: origin.clone(),
            word: Quoted(self.text.clone()),
            ports: self.ports,
        }
    }

    fn addrs(&self) -> impl Iterator<Item = A> {
        let first = &self.first;
        let ports = (first.port()..=u16::MAX).take(self.ports);
        ports.map(move |port| first.with_port(port))
    }
}

impl Span<SocketAddr> {
    /// A port on which both would receive. A wildcard address is every address, of both families; port 0 is one of the
    /// kernel's choice, which is another each time.
    fn shared_port(&self, other: &Self) -> Option<u16> {
        let (a, b) = (self.first, other.first);
        let anywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
        let first = a.port().max(b.port());
        let ends = |span: &Self| usize::from(span.first.port()) + span.ports;
        let overlap = usize::from(first) < ends(self).min(ends(other));
        let same_ip = a.with_port(0) == b.with_port(0);
        let chosen = a.port() != 0 && b.port() != 0;
        (chosen && overlap && (anywhere || same_ip)).then_some(first)
    }
}

/// `127.0.0.1:2456-2458` as `127.0.0.1:2456` and `2458`; `None` if no range stands behind the last colon.
fn split_range(text: &str) -> Option<(&str, &str)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (start, last) = text.rsplit_once('-')?;
    let (_, first) = start.rsplit_once(':')?;
    (is_number(first) && is_number(last)).then_some((start, last))
}

// === impl Ported ===

impl Ported for SocketAddr {
    fn port(&self) -> u16 {
        SocketAddr::port(self)
    }

    fn with_port(&self, port: u16) -> Self {
        let mut addr = *self;
        addr.set_port(port);
        addr
    }
}

impl Ported for SocketAddrV4 {
    fn port(&self) -> u16 {
        SocketAddrV4::port(self)
    }

    fn with_port(&self, port: u16) -> Self {
        let mut addr = *self;
        addr.set_port(port);
        addr
    }
}

impl Ported for SocketAddrV6 {
    fn port(&self) -> u16 {
        SocketAddrV6::port(self)
    }

    fn with_port(&self, port: u16) -> Self {
        let mut addr = *self;
        addr.set_port(port);
        addr
    }
}

impl<A: Ported> Ported for Target<A> {
    fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Name(name) => name.port,
        }
    }

    fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Addr(addr) => Self::Addr(addr.with_port(port)),
            Self::Name(name) => Self::Name(TargetName {
                port,
                ..name.clone()
            }),
        }
    }

    fn name(&self) -> Option<&TargetName> {
        Target::name(self)
    }
}

#[cfg(test)]
mod tests;
