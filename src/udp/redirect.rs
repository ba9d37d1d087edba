//! Datagrams that the kernel redirected to a listener (TPROXY): the address and port they were sent to is a frontend of its
//! own, with the listener's targets, and with a socket for its replies. They have to leave from there, port included, or
//! the balancer does not know them.
//!
//! Such a socket is bound to the address and receives nothing: the rule that redirects sees to that, and its receive buffer
//! is as small as can be, should the rule be gone.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::flow::FrontendId;
use super::losses::QueueWatch;
use super::mixed::Intake;
use super::{Exit, Udp, UdpListener, reply_path};
use crate::addr::{Frontend, ListenAddr, PeerAddr};
use crate::limits::Descriptors;
use crate::sys::mmsg::{Destination, LocalAddr};

/// The most original destinations at a time, each with a descriptor. Beyond it, those without flows make room.
pub(crate) const REDIRECTED_MAX: usize = 1024;

/// Frontends of redirected datagrams, by the address of the listener they came to and the one they were sent to. A shard may
/// have several sockets of a listener, and the kernel takes any of them.
pub(super) type Redirected = HashMap<(ListenAddr, SocketAddr), FrontendId>;

/// Why a redirected datagram cannot be answered.
#[derive(Debug, thiserror::Error)]
enum RedirectError {
    #[error("cannot answer from {from}, where it was sent to: {error}{}", hint(.error))]
    Socket { from: SocketAddr, error: io::Error },
    #[error(
        "datagrams of {REDIRECTED_MAX} addresses and ports are redirected already, and all have flows"
    )]
    TooMany,
}

// === impl Udp ===

impl Udp {
    /// The frontend of the datagram in this place, and where its replies go; complains and counts if it cannot be
    /// answered.
    pub(super) fn redirected(
        &mut self,
        listener: FrontendId,
        place: usize,
        from: SocketAddr,
    ) -> Option<(FrontendId, Destination)> {
        let peer = PeerAddr::new(from);
        let Some(sent_to) = self.inbox.original_destination(place) else {
            // The kernel always tells it; without, the listener's own address is the best there is.
            return Some((listener, reply_path(from, None)));
        };
        let listen = self.listeners[listener as usize].frontend.listen.0;
        if sent_to.port() == listen.port() {
            // The listener can send from any address, only not from another port.
            let local = LocalAddr {
                ip: sent_to.ip(),
                interface: scope(sent_to),
            };
            let reply_to = Destination {
                to: from,
                from: Some(local),
            };
            return Some((listener, reply_to));
        }
        match self.frontend_of(listener, sent_to) {
            Ok(frontend) => {
                let reply_to = Destination {
                    to: peer.addr(),
                    from: None,
                };
                Some((frontend, reply_to))
            }
            Err(error) => {
                self.settings.metrics.udp.downstream_errors.increment();
                let subject = self.subject(listener, peer);
                let limit = &self.limits.redirect;
                limit.debug(&subject, "datagram dropped", Some(&error));
                None
            }
        }
    }

    fn frontend_of(
        &mut self,
        listener: FrontendId,
        sent_to: SocketAddr,
    ) -> Result<FrontendId, RedirectError> {
        let key = (self.listeners[listener as usize].frontend.listen, sent_to);
        if let Some(&frontend) = self.redirected.get(&key) {
            return Ok(frontend);
        }
        let failed = |error| RedirectError::Socket {
            from: sent_to,
            error,
        };
        let descriptor = Descriptors::take(1).map_err(failed)?;
        let socket = reply_socket(sent_to).map_err(failed)?;
        let unused = if self.redirected.len() < REDIRECTED_MAX {
            None
        } else {
            Some(self.forget_unused().ok_or(RedirectError::TooMany)?)
        };
        let targets = Rc::clone(&self.listeners[listener as usize].frontend.targets);
        let added = UdpListener {
            queue: QueueWatch::new(&socket),
            frontend: Rc::new(Frontend {
                listen: ListenAddr(sent_to),
                targets,
            }),
            exit: Exit::Redirected {
                socket,
                _descriptor: descriptor,
            },
            flows: 0,
            intake: Intake::Pieces,
            group: self.listeners[listener as usize].group,
        };
        let frontend = match unused {
            Some(id) => {
                self.listeners[id as usize] = added;
                id
            }
            None => {
                self.listeners.push(added);
                // Limited by the ports and REDIRECTED_MAX.
                (self.listeners.len() - 1) as FrontendId
            }
        };
        self.redirected.insert(key, frontend);
        Ok(frontend)
    }

    /// Gives up a redirected frontend without flows, and returns its id for another one.
    fn forget_unused(&mut self) -> Option<FrontendId> {
        let listeners = &self.listeners;
        let unused = self
            .redirected
            .iter()
            .find(|&(_, &id)| listeners[id as usize].flows == 0);
        let (&key, _) = unused?;
        let id = self.redirected.remove(&key)?;
        self.mode.forget(id);
        Some(id)
    }
}

/// A socket that sends from an address that need not be this host's, and that another instance may be sending from: one that
/// has been taken over does until its flows have ended. Only the same user's can share it.
fn reply_socket(from: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM.nonblocking(), None)?;
    if from.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(1)?;
    socket.bind(&SockAddr::from(from))?;
    Ok(socket)
}

fn scope(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; a UDP server of this host is bound to that port: bind it to a loopback address, or to another port"
        }
        _ => "",
    }
}
