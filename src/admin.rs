//! The admin endpoint (`--admin`): metrics, health and status over HTTP.
//!
//! It has a thread and an executor of its own, and reads what the shards have counted ([`crate::metrics`]) without a word
//! to them: neither a slow nor a hostile client of it can hold them up.

mod drops;
mod exposition;
mod overview;
mod process;
mod server;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

pub(crate) use self::overview::{Facts, NamedList, Overview};

/// The endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve the admin endpoint on {addr}: {error}; name another address or port with --admin"
)]
pub struct AdminError {
    addr: SocketAddr,
    error: io::Error,
}

/// Serves the endpoint until the process ends, on a thread of its own. Returns where: port 0 lets the kernel choose.
///
/// # Errors
///
/// As `bind(2)`, and if there can be no thread or executor.
pub(crate) fn start(addr: SocketAddr, overview: Arc<Overview>) -> Result<SocketAddr, AdminError> {
    let start = || {
        let listener = TcpListener::bind(addr)?;
        let bound = listener.local_addr()?;
        let server = server::Server::new(listener, overview)?;
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || server.run())?;
        Ok(bound)
    };
    start().map_err(|error| AdminError { addr, error })
}
