//! TCP on one shard: accept, then a session for each connection.

pub(crate) mod half;
mod late_reset;
mod lobby;
pub(crate) mod pipes;
mod preface;
mod relay;
mod session;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::sync::Gate;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname};
use socket2::Socket;

pub(crate) use self::late_reset::LateResets;
pub(crate) use self::lobby::{Lobbies, Lobby, LobbyEnd};
use self::pipes::PipePool;
use crate::access_log::AccessLog;
use crate::addr::{ListenAddr, PeerAddr, ShardFrontend};
use crate::destination::Destinations;
use crate::limits::{Descriptors, Place, Places};
use crate::listen::BACKLOG;
use crate::logging::{RateLimited, Subject};
use crate::metrics::ShardMetrics;
use crate::shard::admission::Admission;
use crate::shard::doorbell::Doorbell;
use crate::shard::lists::Lists;
use crate::shard::locality::Locality;
use crate::shard::readiness::{Readiness, Watched};
use crate::shard::roster::Roster;
use crate::transparent::Dialer;
use crate::trust::Trust;

/// A connection, on either side.
pub(crate) type Stream = Watched<OwnedFd>;

/// The shard's page-aligned buffer. It is borrowed for single turns only, so one serves all connections.
pub(crate) type Pages = RefCell<glommio::io::DmaBuffer>;

/// Its size. What fills it is worth splicing.
pub(crate) const PAGES_LEN: usize = 64 << 10;

/// What a connection takes: the balancer's side and the server's.
const DESCRIPTORS: u32 = 2;

/// Connections accepted before the shard's other tasks get a turn.
const ACCEPTS_MAX: usize = 64;

/// Connections accepted from a listener that is about to be closed: a whole backlog, but no endless flood.
const ACCEPTS_LAST_MAX: usize = BACKLOG as usize;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long accepting rests while `--max-connections` is reached and connections wait. All shards look as often, so that
/// none is left out; a place that a connection leaves is taken that much later at most.
const FULL_PAUSE: Duration = Duration::from_millis(25);

/// What all sessions of a shard share.
pub(crate) struct Tcp {
    pub(crate) readiness: Readiness,
    pub(crate) dialer: Dialer,
    pub(crate) lists: Rc<Lists>,
    pub(crate) destinations: Rc<Destinations>,
    pub(crate) trust: Trust,
    pub(crate) places: Places,
    pub(crate) lobby: Lobby,
    pub(crate) late_resets: Arc<LateResets>,
    pub(crate) admission: Rc<Admission>,
    /// If there is something that ends relays.
    pub(crate) roster: Option<Rc<Roster>>,
    pub(crate) header_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) pages: Pages,
    pub(crate) pipes: PipePool,
    pub(crate) locality: Rc<Locality>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) access_log: Option<AccessLog>,
    /// The shard's number, for the log.
    pub(crate) listener: usize,
    /// Whether the kernel may redirect connections to the sockets (`--listen-transparent`).
    pub(crate) transparent: bool,
    pub(crate) limits: AcceptLimits,
}

/// One listening socket of a shard.
pub(crate) struct TcpListener {
    pub(crate) frontend: Rc<ShardFrontend>,
    pub(crate) socket: Watched<Arc<Socket>>,
}

/// Accepts connections for as long as the shard lives.
pub(crate) async fn accept(tcp: Rc<Tcp>, listener: Rc<TcpListener>, gate: Gate) {
    let mut was_exhausted = false;
    loop {
        listener.socket.readable().await;
        match accept_some(&tcp, &listener, &gate) {
            Ok(()) => {
                if was_exhausted {
                    was_exhausted = false;
                    let message = "accepting connections again";
                    tcp.limits.resumed.info(tcp.listener, message);
                }
            }
            // Pipes are kept for speed alone.
            Err(Pause::Exhausted(_)) if tcp.pipes.close_spare() => {}
            Err(Pause::Exhausted(error)) => {
                tcp.metrics.tcp.accept_pauses.increment();
                if !was_exhausted {
                    was_exhausted = true;
                    let message = "cannot accept connections, pausing";
                    tcp.limits.paused.warn(tcp.listener, message, &error);
                }
                if !tcp.lobby.make_room() {
                    tcp.lobby.end.ask_for_descriptors();
                    tcp.readiness.rest(ACCEPT_PAUSE).await;
                }
            }
            Err(Pause::Full) => {
                if tcp.lobby.make_room() {
                    let message = "connections without a header make room for others";
                    let error = io::Error::other("--max-connections is reached");
                    tcp.limits.room.warn(tcp.listener, message, &error);
                    tcp.readiness.pause().await;
                    continue;
                }
                tcp.lobby.end.ask_for_room();
                tcp.metrics.tcp.full_pauses.increment();
                let message = "connections wait for others to end";
                let error = io::Error::other("--max-connections is reached");
                tcp.limits.full.warn(tcp.listener, message, &error);
                tcp.readiness.rest(FULL_PAUSE).await;
            }
        }
        // Sessions have been spawned, and there may be more connections.
        tcp.readiness.pause().await;
    }
}

/// Accepts the connections that wait, before the listener is closed and all that still do are reset: those for which there
/// is no place, or no descriptor.
pub(crate) async fn accept_rest(tcp: &Rc<Tcp>, listener: &TcpListener, gate: &Gate) {
    for _ in 0..ACCEPTS_LAST_MAX / ACCEPTS_MAX {
        if !has_waiting(&listener.socket) || accept_some(tcp, listener, gate).is_err() {
            return;
        }
        tcp.readiness.pause().await;
    }
}

/// Gives other shards, whenever they ring the bell, what is worth less than a connection with a header.
pub(crate) async fn give_room(tcp: Rc<Tcp>, bell: Watched<Doorbell>) {
    loop {
        bell.rang().await;
        let wanted = tcp.lobby.end.wanted();
        // Pipes are kept for speed alone, here as well.
        let has_given = wanted.descriptors && tcp.pipes.close_spare();
        if wanted.room && !has_given {
            tcp.lobby.make_room();
        }
    }
}

/// One for each line that may repeat with every connection.
pub(crate) struct AcceptLimits {
    refused: RateLimited,
    paused: RateLimited,
    full: RateLimited,
    resumed: RateLimited,
    panicked: RateLimited,
    room: RateLimited,
}

/// Why accepting has to rest.
enum Pause {
    /// Descriptors or memory have run out: EMFILE, ENFILE, ENOBUFS, ENOMEM (accept(2)).
    Exhausted(io::Error),
    /// `--max-connections` is reached, and connections wait.
    Full,
}

/// A connection, and what has been taken for it.
struct Accepted {
    connection: OwnedFd,
    descriptors: Descriptors,
    place: Place,
    peer: PeerAddr,
}

/// Accepts what has come, up to a limit.
///
/// # Errors
///
/// If accepting has to rest before it goes on.
fn accept_some(tcp: &Rc<Tcp>, listener: &TcpListener, gate: &Gate) -> Result<(), Pause> {
    let TcpListener { frontend, socket } = listener;
    for _ in 0..ACCEPTS_MAX {
        let Some(place) = tcp.places.take() else {
            if has_waiting(socket) {
                return Err(Pause::Full);
            }
            socket.drained();
            return Ok(());
        };
        let descriptors = match Descriptors::take(DESCRIPTORS) {
            Ok(descriptors) => descriptors,
            Err(error) if has_waiting(socket) => return Err(Pause::Exhausted(error)),
            Err(_) => {
                socket.drained();
                return Ok(());
            }
        };
        match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((connection, addr)) => {
                if let Some(addr) = addr.and_then(|addr| SocketAddr::try_from(addr).ok()) {
                    let accepted = Accepted {
                        connection,
                        descriptors,
                        place,
                        peer: PeerAddr::new(addr),
                    };
                    admit(tcp, frontend, accepted, gate);
                }
            }
            Err(Errno::AGAIN) => {
                socket.drained();
                return Ok(());
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                return Err(Pause::Exhausted(error.into()));
            }
            // The connection ended before it was accepted, or had a network error: accept(2) says to go on.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether a connection waits to be accepted. It cannot be accepted to find out.
fn has_waiting(socket: &Watched<Arc<Socket>>) -> bool {
    let mut listener = [PollFd::new(socket, PollFlags::IN)];
    // EINTR, the one error there can be, says that nothing was there either (poll(2)).
    poll(&mut listener, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Begins a session, if the peer may have one.
fn admit(tcp: &Rc<Tcp>, frontend: &Rc<ShardFrontend>, accepted: Accepted, gate: &Gate) {
    let Accepted {
        connection,
        descriptors,
        place,
        peer,
    } = accepted;
    let mut listen_addr = frontend.listen;
    if tcp.transparent
        && let Some(addr) = local_addr(&connection)
    {
        // Where it was redirected from.
        listen_addr = ListenAddr(addr);
    }
    let mut subject = Subject::new(tcp.listener, "tcp", listen_addr, peer);
    if !tcp.lists.allow(peer) {
        tcp.metrics.tcp.peers_refused.increment();
        let message = "connection refused: the peer is not in the allow list";
        tcp.limits.refused.debug(&subject, message, None);
        return;
    }
    tcp.metrics.tcp.accepted.increment();
    // The gate only refuses when the shard is about to end.
    let Ok(pass) = gate.enter() else { return };
    let (tcp, frontend) = (Rc::clone(tcp), Rc::clone(frontend));
    // What the block captures it holds once. Arguments of an async function, and futures handed to `Gate::spawn`, would be
    // there twice, for as long as the connection is open.
    let session = async move {
        session::run(&tcp, &frontend, connection, &mut subject).await;
        drop((place, descriptors));
        drop(pass);
    };
    glommio::spawn_local(session).detach();
}

/// The local address of a connection, unmapped.
fn local_addr(connection: &OwnedFd) -> Option<SocketAddr> {
    let addr = SocketAddr::try_from(getsockname(connection).ok()?).ok()?;
    Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
}

// === impl AcceptLimits ===

impl AcceptLimits {
    pub(crate) fn new() -> Self {
        Self {
            refused: RateLimited::new(),
            paused: RateLimited::new(),
            full: RateLimited::new(),
            resumed: RateLimited::new(),
            panicked: RateLimited::new(),
            room: RateLimited::new(),
        }
    }
}
