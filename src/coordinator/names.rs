//! The servers' host names: looked up at the start, and again on SIGHUP.
//!
//! getaddrinfo(3) blocks for as long as the DNS makes it, and cannot be called off. So each lookup has a thread of its own,
//! which is left to itself when it takes too long; a name has at most one.

mod once;

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::once::{Resolved, resolve};

use dns_lookup::AddrInfoHints;
use tracing::{info, warn};

use super::routes::Routes;
use super::shards::{Shards, ShardsError};
use crate::addr::{Frontend, Targets, spans};
use crate::args::{Origin, Quoted};
use crate::config::{NamedTargets, Target, TargetName};
use crate::routing::Family;
use crate::sandbox::Keep;
use crate::shard::deadline::within;
use crate::shard::readiness::{Readiness, Watched};

/// How long a lookup may take: glibc asks each of its DNS servers twice, for 5 s at a time (resolv.conf(5)).
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// The frontends, and the addresses of servers that are named by host.
pub(super) struct Names {
    frontends: Vec<Frontend<NamedTargets>>,
    /// Each host once a family.
    names: Vec<Name>,
    readiness: Readiness,
    /// The capabilities that threads keep for a lookup.
    keep: Keep,
    /// When the lookups that are under way have taken too long; `None` if none is.
    deadline: Option<Instant>,
}

struct Name {
    /// The first target on this host.
    name: TargetName,
    family: Family,
    /// The address in use, without a port.
    current: Option<SocketAddr>,
    /// The one found last, unless it is that.
    new: Option<SocketAddr>,
    lookup: Option<io::Result<Lookup>>,
}

/// A lookup under way on a thread of its own.
struct Lookup {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
    /// Ends when the answer is there.
    over: Watched<UnixStream>,
}

/// A name came to no address. The message is one line.
#[derive(Debug, thiserror::Error)]
#[error(
    "{origin} {value} {problem}: want a host name with an {family} address, or an {family} address"
)]
pub struct NameError {
    origin: Origin,
    value: Quoted,
    problem: String,
    family: Family,
}

// === impl Names ===

impl Names {
    pub(super) fn new(
        frontends: &[Frontend<NamedTargets>],
        readiness: &Readiness,
        keep: Keep,
    ) -> Self {
        let mut names: Vec<Name> = Vec::new();
        for Frontend { targets, .. } in frontends {
            let named = [
                (Family::V4, targets.v4.name()),
                (Family::V6, targets.v6.name()),
            ];
            for (family, name) in named {
                let Some(name) = name else { continue };
                let is_same = |it: &Name| it.family == family && it.name.host == name.host;
                if !names.iter().any(is_same) {
                    names.push(Name {
                        name: name.clone(),
                        family,
                        current: None,
                        new: None,
                        lookup: None,
                    });
                }
            }
        }
        Self {
            frontends: frontends.to_vec(),
            names,
            readiness: readiness.clone(),
            keep,
            deadline: None,
        }
    }

    /// Looks all names up for the first time.
    ///
    /// # Errors
    ///
    /// The first name that came to no address.
    pub(super) async fn first(&mut self) -> Result<Vec<Frontend>, NameError> {
        if !self.names.is_empty() {
            self.look_up();
            self.looked_up().await;
            if let Some(error) = self.take_in().into_iter().next() {
                return Err(error);
            }
        }
        Ok(self.accept())
    }

    /// Begins to look all names up. [`Names::looked_up`] tells when that is over.
    pub(super) fn look_up(&mut self) {
        if self.names.is_empty() {
            return;
        }
        for name in &mut self.names {
            name.look_up(&self.readiness, self.keep);
        }
        self.deadline = Some(Instant::now() + LOOKUP_MAX);
    }

    /// Waits until the lookups under way are over or have taken too long. May be dropped and called again at any time.
    pub(super) async fn looked_up(&mut self) {
        let Some(deadline) = self.deadline else {
            return pending().await;
        };
        let all_over = async {
            for name in &self.names {
                if let Some(Ok(lookup)) = &name.lookup {
                    lookup.over.readable().await;
                }
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        within(left, all_over).await;
        self.deadline = None;
    }

    /// Has new connections go where the servers are, if that has changed. The routes come first.
    pub(super) async fn follow(
        &mut self,
        routes: &mut Routes,
        shards: &mut Shards,
    ) -> Result<(), ShardsError> {
        for error in self.take_in() {
            warn!(%error, "the server's old address stays in use");
        }
        if !self.have_changed() {
            return Ok(());
        }
        if let Err(error) = routes.follow(&self.latest()) {
            self.reject();
            warn!(%error, "no routes for the server's new address: the old one stays in use");
            return Ok(());
        }
        let frontends = self.accept();
        let targets = frontends.iter().map(|frontend| frontend.targets);
        shards.retarget(&targets.clone().collect()).await?;
        info!(
            target_v4 = spans(targets.clone().map(|it| it.v4.into())),
            target_v6 = spans(targets.map(|it| it.v6.into())),
            "new connections go to the new address"
        );
        Ok(())
    }

    /// Takes the answers in, and returns what is wrong with them.
    fn take_in(&mut self) -> Vec<NameError> {
        let names = self.names.iter_mut();
        names.filter_map(|name| name.take_in().err()).collect()
    }

    /// Whether a server has another address than the one in use.
    fn have_changed(&self) -> bool {
        self.names.iter().any(|name| name.new.is_some())
    }

    /// The frontends, with the servers where they are by the latest answers.
    fn latest(&self) -> Vec<Frontend> {
        let frontends = self.frontends.iter().map(|frontend| Frontend {
            listen: frontend.listen,
            targets: self.targets(&frontend.targets),
        });
        frontends.collect()
    }

    fn targets(&self, targets: &NamedTargets) -> Targets {
        // Port 0 says that there is none, which is so before the first answer only.
        let v4 = match &targets.v4 {
            Target::Addr(addr) => *addr,
            Target::Name(name) => match self.addr(Family::V4, name) {
                Some(SocketAddr::V4(addr)) => addr,
                _ => SocketAddrV4::new([0; 4].into(), 0),
            },
        };
        let v6 = match &targets.v6 {
            Target::Addr(addr) => *addr,
            Target::Name(name) => match self.addr(Family::V6, name) {
                Some(SocketAddr::V6(addr)) => addr,
                _ => SocketAddrV6::new([0; 16].into(), 0, 0, 0),
            },
        };
        Targets { v4, v6 }
    }

    fn addr(&self, family: Family, target: &TargetName) -> Option<SocketAddr> {
        let mut names = self.names.iter();
        let name = names.find(|it| it.family == family && it.name.host == target.host)?;
        let mut addr = name.new.or(name.current)?;
        addr.set_port(target.port);
        Some(addr)
    }

    /// From now on the latest addresses are in use. Returns them.
    fn accept(&mut self) -> Vec<Frontend> {
        for name in &mut self.names {
            if let Some(new) = name.new.take() {
                name.current = Some(new);
            }
        }
        self.latest()
    }

    /// The addresses in use stay so.
    fn reject(&mut self) {
        for name in &mut self.names {
            name.new = None;
        }
    }
}

// === impl Name ===

impl Name {
    fn look_up(&mut self, readiness: &Readiness, keep: Keep) {
        if let Some(Ok(lookup)) = &self.lookup
            && matches!(lookup.answer.try_recv(), Err(TryRecvError::Empty))
        {
            // Still busy since the last time, and as good as a new one.
            return;
        }
        self.lookup = Some(Lookup::start(&self.name.host, self.family, readiness, keep));
    }

    fn take_in(&mut self) -> Result<(), NameError> {
        let answer = match &self.lookup {
            None => return Ok(()),
            Some(Ok(lookup)) => match lookup.answer.try_recv() {
                Ok(answer) => answer,
                Err(TryRecvError::Empty) => {
                    let seconds = LOOKUP_MAX.as_secs();
                    return Err(self.failed(format!("was not found within {seconds} s")));
                }
                Err(TryRecvError::Disconnected) => {
                    Err(io::Error::other("the thread has ended without an answer"))
                }
            },
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        self.lookup = None;
        let addrs =
            answer.map_err(|error| self.failed(format!("cannot be looked up ({error})")))?;
        let usable: Vec<SocketAddr> = addrs.into_iter().filter(is_server).collect();
        let Some(first) = usable.first() else {
            return Err(self.failed(format!("has no {} address of a server", self.family)));
        };
        // Several addresses come in another order each time, and none of them is better than the one in use.
        let kept = self.current.filter(|current| usable.contains(current));
        let addr = kept.unwrap_or(*first);
        self.new = Some(addr).filter(|_| kept.is_none());
        let message = match (self.current, self.new) {
            (None, _) => "host name looked up",
            (Some(_), None) => "the host name has the address it had",
            (Some(_), Some(_)) => "the host name has a new address",
        };
        info!(name = %self.name, address = %addr.ip(), others = usable.len() - 1, "{message}");
        Ok(())
    }

    fn failed(&self, problem: impl Display) -> NameError {
        NameError {
            origin: self.name.origin.clone(),
            value: Quoted(self.name.to_string()),
            problem: problem.to_string(),
            family: self.family,
        }
    }
}

// === impl Lookup ===

impl Lookup {
    fn start(host: &str, family: Family, readiness: &Readiness, keep: Keep) -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let over = readiness.watch(near)?;
        let (sender, answer) = mpsc::channel();
        let host = host.to_owned();
        thread::Builder::new()
            .name("lookup".to_owned())
            .spawn(move || {
                keep.apply();
                // Nobody may wait any more.
                let _ = sender.send(addresses(&host, family));
                drop(far);
            })?;
        Ok(Self { answer, over })
    }
}

/// The addresses of a host, without ports and each once.
fn addresses(host: &str, family: Family) -> io::Result<Vec<SocketAddr>> {
    let hints = AddrInfoHints {
        address: match family {
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        },
        // One of several types, or each address would come once for each.
        socktype: libc::SOCK_STREAM,
        ..AddrInfoHints::default()
    };
    let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints))?;
    let mut addrs = Vec::new();
    for entry in found {
        let addr = entry?.sockaddr;
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    Ok(addrs)
}

/// Whether this can be the address of a server. Filters that block names answer with 0.0.0.0 or `::`, and that is this host.
fn is_server(addr: &SocketAddr) -> bool {
    let is_possible = match addr.ip() {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_none(),
    };
    is_possible && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}
