//! Sockets towards the server that speak from the client's own address.
//!
//! `IP_TRANSPARENT` (ip(7)) lets a socket bind to an address that is not this host's. The server sees the client's
//! address and port as its peer; policy routing brings its answers back to this socket (see [`crate::routing`]).

mod broadcast;
pub(crate) mod congestion;
pub(crate) mod own_host;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::addr::{ClientAddr, ListenAddr, PeerAddr, Targets};
use crate::config::SourcePort;
use crate::sys::sockopt::IntOption;

/// How soon a silent peer is probed, and how often: as Go does by default, so that a vanished peer is noticed as soon as
/// with go-mmproxy.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);

/// Probes without an answer after which a peer has vanished, whatever `net.ipv4.tcp_keepalive_probes` says.
const KEEPALIVE_PROBES: u32 = 9;

/// What the sockets towards the server have in common.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// Set on every packet to the server (`SO_MARK`, socket(7)).
    pub(crate) mark: Option<NonZeroU32>,
    /// Which port the server sees a client at.
    pub(crate) source_port: SourcePort,
    /// Whether the UDP server may be bound to the wildcard address.
    pub(crate) wildcard_udp: bool,
    /// Whether TCP over loopback has to do without the host's congestion control ([`congestion::default_paces`]).
    pub(crate) unpaced_loopback: bool,
}

/// A socket on its way to the server.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Socket,
    /// Why the client's port could not be had, if the kernel chose another one.
    pub(crate) port_replaced: Option<io::Error>,
    /// Another socket of the same address and port, for answers that come from another address than the target: those of
    /// a UDP server bound to the wildcard address to a client on this host. Nothing is sent with it.
    pub(crate) other_ear: Option<Socket>,
}

/// What a socket is to carry to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Datagrams,
    Stream,
    /// A stream whose first bytes are there already.
    BegunStream,
}

/// Why there is no socket to the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Typically EMFILE, or EAFNOSUPPORT on a host without IPv6 (or IPv4).
    #[error("cannot make a socket for {target}: {error}")]
    Socket {
        target: SocketAddr,
        error: io::Error,
    },
    #[error(
        "cannot spoof addresses (IP_TRANSPARENT): {0}; the process needs CAP_NET_ADMIN or CAP_NET_RAW: run it as root, or see what `glommproxy check` says"
    )]
    Transparent(io::Error),
    #[error(
        "cannot mark packets (SO_MARK): {0}; the process needs CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW"
    )]
    Mark(io::Error),
    #[error("cannot take the address {source_addr}: {error}")]
    Bind {
        source_addr: SocketAddr,
        error: io::Error,
    },
    /// Taken by a socket of this host, or by an older connection of the client, and another port is not allowed.
    #[error(
        "the client's port cannot be had ({source_addr}: {error}), and --source-port strict allows no other"
    )]
    PortTaken {
        source_addr: SocketAddr,
        error: io::Error,
    },
    /// The kernel may choose the port, and finds none that is free.
    #[error(
        "no port is left between {source_ip} and {target}: widen net.ipv4.ip_local_port_range, which serves IPv6 too"
    )]
    NoPort {
        source_ip: IpAddr,
        target: SocketAddr,
    },
    #[error("cannot connect to {target}: {error}")]
    Connect {
        target: SocketAddr,
        error: io::Error,
    },
    #[error("no answer from {target} within {seconds} s", seconds = .after.as_secs_f32())]
    TimedOut { target: SocketAddr, after: Duration },
    /// Its target has port 0.
    #[error("there is no server for IPv{0} clients: -{0} names its address")]
    NoTarget(u8),
    /// Linux binds to it, but sends from an address of its own choice: the server would see this host.
    #[error(
        "the client's address {0} is a broadcast address of this host: the sender is broken or lied to"
    )]
    Broadcast(SocketAddr),
    /// The server would talk to itself.
    #[error("the client's address {0} is the server's own")]
    Itself(SocketAddr),
    /// The socket is connected to itself (RFC 9293, section 3.5, "simultaneous connection"), and keeps the server from
    /// its port.
    #[error("the kernel chose the server's own port {0}: is the server down?")]
    ServersPort(SocketAddr),
}

// === impl Dialer ===

impl Dialer {
    /// The server for this client; that of the peer's own family if there is no client.
    pub(crate) fn target(
        targets: &Targets,
        client: Option<ClientAddr>,
        peer: PeerAddr,
    ) -> Result<SocketAddr, DialError> {
        let ip = client.map_or(peer.ip(), |client| client.addr().ip());
        match targets.for_ip(ip) {
            target if target.port() == 0 => {
                Err(DialError::NoTarget(if ip.is_ipv4() { 4 } else { 6 }))
            }
            target => Ok(target),
        }
    }

    /// Makes a UDP socket with the client's address (or our own) at this end and the server's at the other. `listen_addr`
    /// is where the client's balancers write to.
    pub(crate) fn associate(
        &self,
        client: Option<ClientAddr>,
        target: SocketAddr,
        listen_addr: ListenAddr,
    ) -> Result<Upstream, DialError> {
        let mut upstream = self.dial(Traffic::Datagrams, client, target)?;
        // A server on the wildcard address has its port alone. Where we listen on it, the other ear could only hear us.
        if let Some(client) = client
            && self.wildcard_udp
            && listen_addr.0.port() != target.port()
        {
            upstream.other_ear = self.other_ear(client, target, &upstream.socket)?;
        }
        Ok(upstream)
    }

    /// Makes the socket that hears what the server on this host may answer from another address than the target.
    fn other_ear(
        &self,
        client: ClientAddr,
        target: SocketAddr,
        socket: &Socket,
    ) -> Result<Option<Socket>, DialError> {
        let in_socket = |error| DialError::Socket { target, error };
        let from = own_host::answers_from(client.addr()).map_err(in_socket)?;
        let Some(from) = from.filter(|&from| from != target.ip()) else {
            return Ok(None);
        };
        // The port may be of the kernel's choice. Two sockets have it only if both agree.
        socket.set_reuse_address(true).map_err(in_socket)?;
        let source = socket.local_addr().map_err(in_socket)?.as_socket();
        let source = source.unwrap_or(client.addr());
        let from = SocketAddr::new(from, target.port());
        self.spoof(Traffic::Datagrams, source, from).map(Some)
    }

    /// Whether this process may spoof and mark, towards servers like these.
    pub(crate) fn check_privileges(&self, targets: &Targets) -> Result<(), DialError> {
        let mut last = Ok(());
        // Either family will do: the other may be missing on this host.
        for target in [targets.v4.into(), targets.v6.into()] {
            last = match self.socket(Traffic::Datagrams, target, true) {
                Ok(_) => return Ok(()),
                Err(DialError::Socket { .. }) if last.is_err() => last,
                Err(error) => Err(error),
            };
            if matches!(last, Err(DialError::Transparent(_) | DialError::Mark(_))) {
                break;
            }
        }
        last
    }

    /// Makes a socket from the client's address, or from our own if there is no client, to the server. A stream is
    /// established when it becomes writable without an error pending.
    pub(crate) fn dial(
        &self,
        traffic: Traffic,
        client: Option<ClientAddr>,
        target: SocketAddr,
    ) -> Result<Upstream, DialError> {
        let Some(client) = client.map(ClientAddr::addr) else {
            // LOCAL and UNKNOWN: no client to speak for, so the kernel chooses our address.
            let socket = self.socket(traffic, target, false)?;
            connect(&socket, target)?;
            check_not_connected_to_itself(&socket, target)?;
            return Ok(Upstream {
                socket,
                port_replaced: None,
                other_ear: None,
            });
        };
        if client == target {
            return Err(DialError::Itself(client));
        }
        match broadcast::is_broadcast(client) {
            Ok(false) => {}
            Ok(true) => return Err(DialError::Broadcast(client)),
            Err(error) => return Err(DialError::Socket { target, error }),
        }
        let any_port = SocketAddr::new(client.ip(), 0);
        let source = match self.source_port {
            SourcePort::Client | SourcePort::Strict => client,
            SourcePort::Any => any_port,
        };
        // Bound already, by a listener of this host or by an older connection of this client.
        let taken = match self.spoof(traffic, source, target) {
            Ok(socket) => {
                return Ok(Upstream {
                    socket,
                    port_replaced: None,
                    other_ear: None,
                });
            }
            Err(
                DialError::Bind {
                    source_addr: _,
                    error,
                }
                | DialError::Connect { target: _, error },
            ) if source == client && port_taken(&error) => error,
            Err(error) => return Err(error),
        };
        if self.source_port == SourcePort::Strict {
            return Err(DialError::PortTaken {
                source_addr: client,
                error: taken,
            });
        }
        Ok(Upstream {
            socket: self.spoof(traffic, any_port, target)?,
            port_replaced: Some(taken),
            other_ear: None,
        })
    }

    /// A socket bound to `source` and connected, or connecting, to `target`.
    fn spoof(
        &self,
        traffic: Traffic,
        source: SocketAddr,
        target: SocketAddr,
    ) -> Result<Socket, DialError> {
        let socket = self.socket(traffic, target, true)?;
        let in_bind = |error| DialError::Bind {
            source_addr: source,
            error,
        };
        if source.port() == 0 {
            IntOption::BIND_ADDRESS_NO_PORT
                .set(&socket, 1)
                .map_err(in_bind)?;
        } else {
            // Connections of one client to several servers, and TIME_WAIT of its older ones, share its port.
            socket.set_reuse_address(true).map_err(in_bind)?;
        }
        socket.bind(&SockAddr::from(source)).map_err(in_bind)?;
        match connect(&socket, target) {
            // What a TCP and a UDP socket say of it.
            Err(DialError::Connect { error, .. })
                if source.port() == 0
                    && (port_taken(&error) || error.kind() == io::ErrorKind::WouldBlock) =>
            {
                Err(DialError::NoPort {
                    source_ip: source.ip(),
                    target,
                })
            }
            Err(error) => Err(error),
            Ok(()) => {
                if source.port() == 0 && source.ip() == target.ip() {
                    check_not_connected_to_itself(&socket, target)?;
                }
                Ok(socket)
            }
        }
    }

    fn socket(
        &self,
        traffic: Traffic,
        target: SocketAddr,
        transparent: bool,
    ) -> Result<Socket, DialError> {
        let in_socket = |error| DialError::Socket { target, error };
        let kind = match traffic {
            Traffic::Datagrams => Type::DGRAM,
            Traffic::Stream | Traffic::BegunStream => Type::STREAM,
        };
        let socket = Socket::new(Domain::for_address(target), kind.nonblocking(), None)
            .map_err(in_socket)?;
        if transparent {
            let set = if target.is_ipv4() {
                Socket::set_ip_transparent_v4
            } else {
                Socket::set_ip_transparent_v6
            };
            set(&socket, true).map_err(DialError::Transparent)?;
        }
        if let Some(mark) = self.mark {
            socket.set_mark(mark.get()).map_err(DialError::Mark)?;
        }
        if kind == Type::STREAM {
            socket.set_tcp_nodelay(true).map_err(in_socket)?;
            // On this host nobody vanishes: its kernel answers for everybody.
            if !is_loopback(target) {
                probe_silence(&socket).map_err(in_socket)?;
            }
            if traffic == Traffic::BegunStream {
                // The handshake ends with the first bytes, not with an acknowledgement of its own before them (tcp(7)). So it
                // would with TCP_DEFER_ACCEPT, but then the server's first bytes are acknowledged late, too, for which it
                // waits, 40 ms, before it sends more if it leaves TCP_NODELAY alone.
                socket.set_tcp_quickack(false).map_err(in_socket)?;
            }
            if self.unpaced_loopback {
                congestion::unpace(&socket, target);
            }
        }
        Ok(socket)
    }
}

// === impl DialError ===

impl DialError {
    /// Whether a descriptor less elsewhere would help.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        let Self::Socket { error, .. } = self else {
            return false;
        };
        [Errno::MFILE, Errno::NFILE]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
}

/// What listeners get, and every socket accepted from them inherits (tcp(7)): no delay of small messages, and probes of silent
/// peers.
pub(crate) fn set_stream_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    probe_silence(socket)
}

/// Has a peer noticed that has vanished.
///
/// No TCP_USER_TIMEOUT: it also ends connections whose peer is there and has no room, as one has that pauses for minutes. That
/// is for `--idle-timeout` to say.
fn probe_silence(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(KEEPALIVE_PROBES),
    )
}

fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

fn connect(socket: &Socket, target: SocketAddr) -> Result<(), DialError> {
    match socket.connect(&SockAddr::from(target)) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(()),
        Err(error) => Err(DialError::Connect { target, error }),
    }
}

/// For a socket whose port the kernel chose: while nobody has the server's port, it is free to choose that.
fn check_not_connected_to_itself(socket: &Socket, target: SocketAddr) -> Result<(), DialError> {
    let local = socket
        .local_addr()
        .map_err(|error| DialError::Connect { target, error })?;
    if local.as_socket() == Some(target) {
        // Gone without a trace: not even in TIME_WAIT does it keep the server from its port.
        let _ = socket.set_linger(Some(Duration::ZERO));
        return Err(DialError::ServersPort(target));
    }
    Ok(())
}

fn port_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}
