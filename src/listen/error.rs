//! Why an address cannot be listened on.

use std::io;

use socket2::Type;

use crate::addr::ListenAddr;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {protocol} {addr}: {error}{}", hint(.error))]
pub struct BindError {
    protocol: &'static str,
    addr: ListenAddr,
    error: io::Error,
}

// === impl BindError ===

impl BindError {
    pub(super) fn new(addr: ListenAddr, kind: Type, error: io::Error) -> Self {
        let protocol = if kind == Type::STREAM { "tcp" } else { "udp" };
        Self {
            protocol,
            addr,
            error,
        }
    }

    /// Whether another process has the port.
    pub(crate) fn in_use(&self) -> bool {
        self.kind() == io::ErrorKind::AddrInUse
    }

    /// What the system refused.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process has the port: stop it, or choose another with -l"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this host has no such address: choose one of its own with -l"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
