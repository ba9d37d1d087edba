//! Who has a port: the processes whose sockets are in its way (proc_pid_net(5), proc_pid_fd(5)).

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use socket2::Type;

/// The states of a socket that listens (`TCP_LISTEN`), and of a UDP socket that is not connected (`TCP_CLOSE`), in
/// `include/net/tcp_states.h`.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    name: String,
    is_ours: bool,
}

/// The processes that have sockets in the way of these addresses; of those of other users only root hears.
pub(super) fn holders(addrs: &[SocketAddr], kind: Type) -> Vec<Holder> {
    if addrs.is_empty() {
        return Vec::new();
    }
    let (tables, state) = if kind == Type::STREAM {
        (["tcp", "tcp6"], LISTENS)
    } else {
        (["udp", "udp6"], UNCONNECTED)
    };
    let mut sockets = HashSet::new();
    for table in tables {
        // Without IPv6 there is no such table.
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| {
            let (bound, its_state, inode) = parse(line)?;
            let in_the_way = addrs.iter().any(|addr| collide(*addr, bound));
            (its_state == state && in_the_way).then(|| format!("socket:[{inode}]"))
        }));
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_one_of(*pid, &sockets))
        .map(Holder::of)
        .collect()
}

/// The local address, state and inode of a line of `/proc/net/tcp` and its like.
fn parse(line: &str) -> Option<(SocketAddr, &str, &str)> {
    let mut fields = line.split_whitespace().skip(1);
    let (ip, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32 bits of the address are a number in this machine's byte order.
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
    };
    Some((SocketAddr::new(ip, port), state, inode))
}

/// Whether a socket at one address keeps another from the other. A wildcard address is all addresses.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (wildcard || one.ip().to_canonical() == other.ip().to_canonical())
}

fn has_one_of(pid: u32, sockets: &HashSet<String>) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    descriptors.into_iter().flatten().flatten().any(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|link| link.to_str().is_some_and(|it| sockets.contains(it)))
    })
}

// === impl Holder ===

impl Holder {
    fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim_end().escape_default().to_string();
        let file_name = |path: &Path| Some(path.file_name()?.to_owned());
        let program = |pid: &str| file_name(&fs::read_link(format!("/proc/{pid}/exe")).ok()?);
        let own = program("self");
        let is_ours = name == "glommproxy" || own.is_some() && program(&pid.to_string()) == own;
        Self { pid, name, is_ours }
    }

    /// Whether it is glommproxy.
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, .. } = self;
        write!(f, "{name}, process {pid}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_this_process_by_its_sockets() {
        for ip in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            let ip: IpAddr = ip.parse().expect("an address");
            let tcp = TcpListener::bind((ip, 0)).expect("bound");
            let udp = UdpSocket::bind((ip, 0)).expect("bound");
            for (addr, kind) in [
                (tcp.local_addr(), Type::STREAM),
                (udp.local_addr(), Type::DGRAM),
            ] {
                let found = holders(&[addr.expect("bound")], kind);
                assert_eq!(found.len(), 1, "{ip} {kind:?}: {found:?}");
                assert_eq!(found[0].pid, std::process::id());
                assert!(found[0].is_ours());
            }
        }
    }

    #[test]
    fn addresses_collide_as_sockets_do() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::]:1", "127.0.0.2:1", true),
            ("[::ffff:127.0.0.2]:1", "127.0.0.2:1", true),
            ("[::1]:1", "127.0.0.1:1", false),
        ] {
            let (one, other) = (one.parse().expect("one"), other.parse().expect("other"));
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }
}
