//! The listening sockets: for each frontend, one of each protocol for every shard.
//!
//! All are bound before any shard starts: in order, because UDP steering names sockets by their place in the reuseport
//! group; and at once, so that a port in use ends the process before it has touched anything.

mod error;
mod group;
mod inherited;
mod socket;

use std::io;
use std::sync::Arc;

use socket2::{Socket, Type};
use tracing::warn;

pub use self::error::BindError;
use self::group::Group;
pub(crate) use self::group::{Steered, Unsteered};
pub use self::inherited::{InheritError, Inherited};
use self::socket::{open, set_transparent, set_up};
use crate::addr::{Frontend, ListenAddr};
use crate::config::UdpHeader;
use crate::transparent::set_stream_options;
use crate::udp::segments::ask_for_pieces;
use crate::udp::steer;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Tries to find a port free for both protocols, if the port is the kernel's choice.
const PORT_TRIES: u32 = 16;

/// One shard's sockets of one frontend.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The frontend, with the port in use.
    pub(crate) frontend: Frontend,
    pub(crate) tcp: Vec<Arc<Socket>>,
    pub(crate) udp: Vec<Arc<Socket>>,
    /// How many UDP sockets the address has, those of other shards included.
    pub(crate) udp_group: u32,
}

/// The listening sockets of the whole process: those of one address together, in bind order. Whoever has them keeps them
/// open.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListeningSockets {
    pub(crate) tcp: Vec<Arc<Socket>>,
    pub(crate) udp: Vec<Arc<Socket>>,
}

/// Sockets bound to one address.
#[derive(Debug)]
struct Listeners {
    /// The address as configured, with the port in use.
    addr: ListenAddr,
    /// One for each shard, or none; as many as there are if they were inherited.
    tcp: Vec<Arc<Socket>>,
    /// As above.
    udp: Vec<Arc<Socket>>,
    /// Whether the latter were inherited, all or some.
    udp_inherited: bool,
}

/// How the sockets of an address are bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How many of each protocol.
    pub(crate) shards: usize,
    /// Whether the kernel may redirect traffic to them (TPROXY). It then chooses a UDP socket of a reuseport group
    /// without running the steering program, by the balancer's address, so only the first shard serves UDP.
    pub(crate) transparent: bool,
    /// What UDP datagrams begin with: they are steered by it.
    pub(crate) header: UdpHeader,
    /// Whether the sockets that are inherited are another instance's, which is to notice nothing yet.
    pub(crate) takeover: bool,
}

/// Binds the sockets of all frontends, unless they are inherited, and returns each shard's, in the order of the
/// frontends; all of them; and those that are steered as another instance wants them.
pub(crate) fn bind_all(
    frontends: &[Frontend],
    tcp: bool,
    udp: bool,
    manner: Manner,
    inherited: &mut Inherited,
) -> Result<(Vec<Vec<Listener>>, ListeningSockets, Unsteered), BindError> {
    let (shards, udp_shards) = (manner.shards, manner.udp_shards());
    let mut of_shards: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut all = ListeningSockets::default();
    let mut unsteered = Unsteered::default();
    for frontend in frontends {
        let Listeners {
            addr,
            tcp,
            udp,
            udp_inherited,
        } = bind(frontend.listen, tcp, udp, manner, inherited)?;
        if let Some(group) = Group::of(addr, &udp, manner.header) {
            if udp_inherited && manner.takeover {
                unsteered.push(group);
            } else {
                group.steer()?;
            }
        }
        if !udp.is_empty() && udp.len() < udp_shards {
            warn!(
                listen_addr = %addr, sockets = udp.len(), shards,
                "some listeners get no UDP datagrams, as there are fewer sockets than listeners: pass one for each \
                 (systemd: ReusePort=yes), or use fewer --listeners"
            );
        }
        for (shard, of_shard) in of_shards.iter_mut().enumerate() {
            of_shard.push(Listener {
                frontend: Frontend {
                    listen: addr,
                    ..*frontend
                },
                tcp: tcp_of(&tcp, shard, shards),
                udp: udp_of(&udp, shard, udp_shards),
                udp_group: udp.len() as u32,
            });
        }
        all.tcp.extend(tcp);
        all.udp.extend(udp);
    }
    Ok((of_shards, all, unsteered))
}

/// A shard's part of the TCP sockets of an address. Those that are too few are shared: a connection is accepted once,
/// whoever does.
fn tcp_of(sockets: &[Arc<Socket>], shard: usize, shards: usize) -> Vec<Arc<Socket>> {
    let shared = sockets.iter().cycle().nth(shard);
    let own = sockets.iter().skip(shard).step_by(shards);
    if sockets.len() < shards {
        shared.into_iter().cloned().collect()
    } else {
        own.cloned().collect()
    }
}

/// A shard's part of the UDP sockets of an address, if the first `shards` serve UDP. A socket belongs to one of them, as a
/// client does.
fn udp_of(sockets: &[Arc<Socket>], shard: usize, shards: usize) -> Vec<Arc<Socket>> {
    let dealt = sockets.iter().zip((0..shards).cycle());
    dealt
        .filter(|&(_, to)| to == shard)
        .map(|(socket, _)| Arc::clone(socket))
        .collect()
}

/// Whether an address is free for a protocol, found out with a socket that never listens. Those of another glommproxy
/// count as well: without SO_REUSEPORT the port cannot be shared with them.
pub(crate) fn probe(addr: ListenAddr, kind: Type, transparent: bool) -> Result<(), BindError> {
    match open(addr, kind, false, transparent) {
        Ok(_) => Ok(()),
        Err(error) => Err(BindError::new(addr, kind, error)),
    }
}

/// Binds a socket a shard for each protocol.
fn bind(
    listen: ListenAddr,
    tcp: bool,
    udp: bool,
    manner: Manner,
    inherited: &mut Inherited,
) -> Result<Listeners, BindError> {
    let mut tries = 0;
    loop {
        let mut addr = listen;
        let tcp_sockets = if tcp {
            bind_group(&mut addr, Type::STREAM, manner, inherited)?
        } else {
            Vec::new()
        };
        let inherited_before = inherited.len();
        let udp_sockets = match udp
            .then(|| bind_group(&mut addr, Type::DGRAM, manner.for_udp(), inherited))
            .transpose()
        {
            Ok(sockets) => sockets.unwrap_or_default(),
            // The port the kernel chose for TCP is taken for UDP: ask for another.
            Err(error) if tcp && listen.0.port() == 0 && error.in_use() && tries < PORT_TRIES => {
                tries += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        return Ok(Listeners {
            addr,
            tcp: tcp_sockets,
            udp: udp_sockets,
            udp_inherited: inherited.len() < inherited_before,
        });
    }
}

/// Binds one socket a shard; a port of the kernel's choice is the same for all and noted in `addr`.
fn bind_group(
    addr: &mut ListenAddr,
    kind: Type,
    manner: Manner,
    inherited: &mut Inherited,
) -> Result<Vec<Arc<Socket>>, BindError> {
    let asked = *addr;
    let failed = |error| BindError::new(asked, kind, error);
    let mut sockets = inherited.take(*addr, kind);
    if sockets.is_empty() {
        open_group(addr, kind, manner, &mut sockets).map_err(failed)?;
    } else {
        adopt_group(*addr, kind, manner, &mut sockets).map_err(failed)?;
    }
    if kind == Type::DGRAM {
        sockets.iter().for_each(|socket| ask_for_pieces(socket));
    }
    Ok(sockets)
}

/// Opens a group of sockets.
fn open_group(
    addr: &mut ListenAddr,
    kind: Type,
    manner: Manner,
    sockets: &mut Vec<Arc<Socket>>,
) -> io::Result<()> {
    let Manner {
        shards,
        transparent,
        ..
    } = manner;
    // Sockets with SO_REUSEPORT would quietly share the port with another glommproxy. The first is bound without, and so
    // finds out.
    let first = open(*addr, kind, false, transparent)?;
    if let Some(bound) = first.local_addr()?.as_socket() {
        addr.0.set_port(bound.port());
    }
    if shards > 1 {
        first.set_reuse_port(true)?;
    }
    sockets.push(Arc::new(first));
    for _ in 1..shards {
        sockets.push(Arc::new(open(*addr, kind, true, transparent)?));
    }
    sockets
        .iter()
        .try_for_each(|socket| set_up(socket, kind, *addr, transparent))
}

/// Makes a group of sockets that were inherited, and adds some if there are more shards.
fn adopt_group(
    addr: ListenAddr,
    kind: Type,
    manner: Manner,
    sockets: &mut Vec<Arc<Socket>>,
) -> io::Result<()> {
    let Manner {
        shards,
        transparent,
        takeover,
        ..
    } = manner;
    let is_group = sockets.len() > 1;
    for socket in &*sockets {
        socket.set_nonblocking(true)?;
        if kind == Type::STREAM {
            set_stream_options(socket)?;
        }
        if transparent {
            set_transparent(socket, addr.0)?;
        }
        set_up(socket, kind, addr, transparent)?;
        if sockets.len() < shards {
            socket.set_reuse_port(true)?;
        }
    }
    for _ in sockets.len()..shards {
        // The kernel refuses if the others are another user's. Then those there are have to do.
        let Ok(socket) = open(addr, kind, true, transparent) else {
            break;
        };
        // As of now it is a member like the others. Nobody may ever read what comes to it: this process can still fail. A
        // program that steers by header knows those before alone; one socket had none and gets it here. Only among several
        // without one (headers on first datagrams) some peers are led to the new ones already.
        if kind == Type::DGRAM && takeover && !is_group {
            steer::attach_to_first(&socket)?;
        }
        set_up(&socket, kind, addr, transparent)?;
        sockets.push(Arc::new(socket));
    }
    Ok(())
}

// === impl Manner ===

impl Manner {
    /// How many shards serve UDP: the first ones.
    pub(crate) fn udp_shards(self) -> usize {
        if self.transparent { 1 } else { self.shards }
    }

    fn for_udp(self) -> Self {
        Self {
            shards: self.udp_shards(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Inherited {
        Inherited::default()
    }

    fn listen(text: &str) -> ListenAddr {
        ListenAddr(text.parse().expect("an address"))
    }

    fn manner(shards: usize) -> Manner {
        Manner {
            shards,
            transparent: false,
            header: UdpHeader::V2,
            takeover: false,
        }
    }

    #[test]
    fn all_shards_share_the_port_of_the_kernels_choice() {
        let listeners =
            bind(listen("127.0.0.1:0"), true, true, manner(3), &mut none()).expect("bound");
        assert_ne!(listeners.addr.0.port(), 0);
        for socket in listeners.tcp.iter().chain(&listeners.udp) {
            let bound = socket.local_addr().expect("bound").as_socket();
            assert_eq!(bound, Some(listeners.addr.0));
        }
        assert_eq!((listeners.tcp.len(), listeners.udp.len()), (3, 3));
    }

    /// Inherited ones may be more than the shards that serve UDP, and must all be read.
    #[test]
    fn each_udp_socket_belongs_to_one_of_the_shards_that_serve_udp() {
        let listeners =
            bind(listen("127.0.0.1:0"), false, true, manner(4), &mut none()).expect("bound");
        let dealt = |shards, of| -> Vec<Vec<usize>> {
            let place = |socket: &Arc<Socket>| {
                let same = |it: &Arc<Socket>| Arc::ptr_eq(it, socket);
                listeners.udp.iter().position(same).expect("one of them")
            };
            (0..shards)
                .map(|shard| {
                    udp_of(&listeners.udp, shard, of)
                        .iter()
                        .map(place)
                        .collect()
                })
                .collect()
        };
        assert_eq!(dealt(2, 2), [vec![0, 2], vec![1, 3]]);
        assert_eq!(dealt(3, 3), [vec![0, 3], vec![1], vec![2]]);
        // Only the first serves it.
        assert_eq!(dealt(3, 1), [vec![0, 1, 2, 3], vec![], vec![]]);
    }

    #[test]
    fn a_port_in_use_is_an_error_even_between_reuseport_groups() {
        for shards in [1, 3] {
            let first = bind(
                listen("127.0.0.1:0"),
                true,
                true,
                manner(shards),
                &mut none(),
            )
            .expect("bound");
            for (tcp, udp) in [(true, false), (false, true)] {
                let error = bind(first.addr, tcp, udp, manner(shards), &mut none())
                    .expect_err("the port is in use");
                assert!(error.in_use(), "{error}");
            }
        }
    }

    #[test]
    fn wildcards_listen_for_both_families() {
        for text in ["0.0.0.0:0", "[::]:0"] {
            let listeners = bind(listen(text), true, false, manner(1), &mut none()).expect("bound");
            let port = listeners.addr.0.port();
            for ip in ["127.0.0.1", "::1"] {
                let ip: std::net::IpAddr = ip.parse().expect("an address");
                std::net::TcpStream::connect((ip, port)).expect("listening");
            }
        }
    }
}
