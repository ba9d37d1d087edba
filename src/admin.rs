//! The admin endpoint (`--admin`): metrics, health and status over HTTP.
//!
//! It has a thread and an executor of its own, and reads what the shards have counted ([`crate::metrics`]) without a word
//! to them: neither a slow nor a hostile client of it can hold them up. Only for the busiest clients are they asked, once a
//! second at most (`clients`).

mod clients;
mod drops;
mod exposition;
mod overview;
mod process;
mod server;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;

use self::clients::Clients;
pub(crate) use self::overview::{Facts, NamedList, Overview};
pub(crate) use self::server::CONNECTIONS_MAX;

use crate::coordinator::census::Census;
use crate::sandbox::Keep;

/// What is to be said of an address that is not on loopback.
pub(crate) const EXPOSED: &str = "everybody who reaches the admin endpoint can read it: it should be on loopback, or \
                                  behind a firewall";

/// The endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve the admin endpoint on {addr}: {error}; name another address or port with --admin"
)]
pub struct AdminError {
    addr: SocketAddr,
    error: io::Error,
}

// === impl AdminError ===

impl AdminError {
    /// Whether somebody else listens there.
    pub(crate) fn in_use(&self) -> bool {
        self.kind() == io::ErrorKind::AddrInUse
    }

    /// What the system refused.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

/// Whether the endpoint could be there, at this moment.
///
/// # Errors
///
/// As `bind(2)`.
pub(crate) fn probe(addr: SocketAddr) -> Result<(), AdminError> {
    let bound = TcpListener::bind(addr);
    bound.map(drop).map_err(|error| AdminError { addr, error })
}

/// The endpoint's listener, before it is served.
#[derive(Debug)]
pub(crate) struct Entrance {
    addr: SocketAddr,
    listener: TcpListener,
    closed: Arc<Notify>,
}

/// The same for whoever has to show it to another process, and to close it.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    closed: Arc<Notify>,
}

/// Serves the endpoint until the process ends, or its door is closed, on a thread of its own that keeps these
/// capabilities. Returns where.
///
/// # Errors
///
/// If there can be no thread or executor.
pub(crate) fn start(
    entrance: Entrance,
    overview: Arc<Overview>,
    census: Census,
    keep: Keep,
) -> Result<SocketAddr, AdminError> {
    let addr = entrance.addr;
    let start = || {
        let bound = entrance.listener.local_addr()?;
        let clients = Clients::new(census, overview.started);
        let server = server::Server::new(entrance, overview, clients)?;
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                keep.apply();
                server.run();
            })?;
        Ok(bound)
    };
    start().map_err(|error| AdminError { addr, error })
}

// === impl Entrance ===

impl Entrance {
    /// Listens there, unless there is a listener already. Port 0 lets the kernel choose.
    ///
    /// # Errors
    ///
    /// As `bind(2)`.
    pub(crate) fn open(
        addr: SocketAddr,
        listener: Option<TcpListener>,
    ) -> Result<Self, AdminError> {
        match listener.map_or_else(|| TcpListener::bind(addr), Ok) {
            Ok(listener) => Ok(Self {
                addr,
                listener,
                closed: Arc::default(),
            }),
            Err(error) => Err(AdminError { addr, error }),
        }
    }

    /// Its door.
    ///
    /// # Errors
    ///
    /// If descriptors have run out.
    pub(crate) fn door(&self) -> io::Result<Door> {
        Ok(Door {
            listener: self.listener.try_clone()?,
            closed: Arc::clone(&self.closed),
        })
    }
}

// === impl Door ===

impl Door {
    /// Leaves the address to whoever else has the listener. Who has been let in is served.
    pub(crate) fn close(self) {
        self.closed.notify_one();
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
