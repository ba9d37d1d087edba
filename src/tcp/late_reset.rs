//! Resets that a server's kernel asks for again.
//!
//! One that arrives before bytes that were sent before it, because another CPU hands those over, or behind ones that were
//! lost, is not obeyed: the receiver asks back with a challenge ACK (RFC 5961, section 3.2). A host answers that as it
//! answers all segments of connections that it does not know, with the right reset. But Linux does so only in its own name,
//! not in that of a client: the server would keep the connection for ever. A transparent socket that listens at the client's
//! address does have it answered, so there is one for a while.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::Stream;
use crate::limits::Descriptors;
use crate::transparent::own_host::is_on_this_host;

/// How long a question is answered. It comes as soon as the reset does, unless the server's host is busy.
const LASTS: Duration = Duration::from_secs(1);

/// Connections for which that is done at a time. It is rarely needed: the reset has to come while bytes are under way.
const COUNT_MAX: usize = 256;

/// The connections that have lately been reset: of all shards, as their clients may come back to any.
#[derive(Default)]
pub(crate) struct LateResets {
    /// How many, so that nobody waits for others who finds that there are none.
    count: AtomicUsize,
    answering: Mutex<Vec<LateReset>>,
}

struct LateReset {
    client: SocketAddr,
    until: Instant,
    _listener: Socket,
    _descriptors: Descriptors,
}

// === impl LateResets ===

impl LateResets {
    /// Has questions about this connection to a server answered, which is about to be reset. If that cannot be had, for want
    /// of descriptors for example, it is as if it were not tried. To be called on a shard.
    pub(super) fn answer_for(self: &Arc<Self>, upstream: &Stream) {
        if self.count.load(Ordering::Relaxed) >= COUNT_MAX {
            return;
        }
        let Ok(descriptors) = Descriptors::take(1) else {
            return;
        };
        let Ok(Some((client, listener))) = listen_beside(upstream) else {
            return;
        };
        self.change(|answering| {
            answering.push(LateReset {
                client,
                until: Instant::now() + LASTS,
                _listener: listener,
                _descriptors: descriptors,
            });
        });
        let late_resets = Arc::clone(self);
        glommio::spawn_local(async move {
            Timer::new(LASTS).await;
            let now = Instant::now();
            late_resets.change(|answering| answering.retain(|it| it.until > now));
        })
        .detach();
    }

    /// Makes way for a new connection of that client.
    pub(super) fn yield_to(&self, client: SocketAddr) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.change(|answering| answering.retain(|it| it.client != client));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<LateReset>)) {
        // A panic leaves it well, at any point.
        let mut answering = self
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut answering);
        self.count.store(answering.len(), Ordering::Relaxed);
    }
}

/// Listens at the connection's own address, if it is one of those in whose name the kernel does not answer: IPv6 does not
/// look whether it is this host's.
fn listen_beside(upstream: &Stream) -> io::Result<Option<(SocketAddr, Socket)>> {
    let upstream = SockRef::from(&**upstream);
    let Some(client @ SocketAddr::V4(_)) = upstream.local_addr()?.as_socket() else {
        return Ok(None);
    };
    if !upstream.ip_transparent_v4()? {
        return Ok(None);
    }
    // Others could connect to it there.
    if is_on_this_host(client)? {
        return Ok(None);
    }
    let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    // Both have to allow it.
    upstream.set_reuse_address(true)?;
    listener.set_reuse_address(true)?;
    listener.set_ip_transparent_v4(true)?;
    listener.bind(&SockAddr::from(client))?;
    // The reset takes the way that the connection took.
    let mark = upstream.mark()?;
    if mark != 0 {
        listener.set_mark(mark)?;
    }
    listener.listen(0)?;
    Ok(Some((client, listener)))
}
