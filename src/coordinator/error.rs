//! Why the process ends otherwise than by a signal.

use std::io;

use super::{ListError, NameError, ShardsError};
use crate::access_log::AccessLogError;
use crate::admin::AdminError;
use crate::cpus::PlacementError;
use crate::host::HostError;
use crate::listen::{BindError, InheritError};
use crate::panics::Fatal;
use crate::routing::RoutingError;

/// Why the proxy does not run, or runs no more. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host does not allow what shards need.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The executor of the coordinator.
    #[error("cannot start the coordinator: {0}")]
    Executor(String),
    /// A descriptor or signal of the coordinator.
    #[error("cannot set up the coordinator: {0}")]
    Setup(#[from] io::Error),
    /// This process may not spoof, or mark.
    #[error("{0}")]
    Privileges(String),
    /// A list is unreadable or wrong.
    #[error("{0}; it is not started without its list, as everybody could then pose as any client")]
    List(#[from] ListError),
    /// The list of destinations is unreadable or wrong.
    #[error(
        "{0}; it is not started without the list, as headers could then name other destinations"
    )]
    Destinations(ListError),
    /// The list of denied clients is.
    #[error("{0}; it is not started without its list, as clients that are denied would be back")]
    DeniedList(ListError),
    /// A server's host name comes to no address.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `--cpus` cannot be had.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket that was passed cannot be listened on.
    #[error(transparent)]
    Inherited(#[from] InheritError),
    /// The running instance does not give its sockets.
    #[error("cannot take over (--takeover): {0}{hint}; the other instance goes on", hint = takeover_hint(.0))]
    Takeover(io::Error),
    /// Two ways to get listening sockets.
    #[error(
        "--takeover is for sockets of another instance, and systemd has passed some: remove --takeover"
    )]
    TakeoverWithSockets,
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The admin endpoint cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The routes cannot be set up.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// A bug, in whichever thread.
    #[error(transparent)]
    Panicked(#[from] Fatal),
    /// A shard did not start, or ended.
    #[error(transparent)]
    Shards(#[from] ShardsError),
}

/// Whoever may not have the sockets is not answered, and learns no more than that.
fn takeover_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            " (it gives its sockets to its own user and to root only)"
        }
        _ => "",
    }
}
