//! Congestion control of connections that do not leave this host.
//!
//! Nothing is ever congested on loopback. But a host whose default is an algorithm that models the path through a network,
//! as BBR does, has it model that one, too: it paces what could leave at once, keeps little under way, and slows down now and
//! then to measure again. Measured on a host with BBR: without it a flood through 50 connections, and bulk both ways, are
//! 1.8 times as fast, for 0.75 of the CPU time.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::is_loopback;

/// What there is always, for everybody (tcp(7), `tcp_allowed_congestion_control`).
const PLAIN: &str = "reno";

/// They send what the far end has room for, at once.
const UNPACED: [&str; 2] = [PLAIN, "cubic"];

/// Whether this network namespace's default (`net.ipv4.tcp_congestion_control`) is out of place on loopback.
pub(crate) fn default_paces() -> bool {
    let default = Socket::new(Domain::IPV4, Type::STREAM, None)
        .or_else(|_| Socket::new(Domain::IPV6, Type::STREAM, None))
        .and_then(|socket| socket.tcp_congestion());
    default.is_ok_and(|name| paces(&name))
}

/// Takes a socket that has the default out of its hands, if its far end is on loopback; to be called before it is connected, or
/// listens, as pacing once begun goes on. Whoever it accepts inherits it.
pub(crate) fn unpace(socket: &Socket, far_end: SocketAddr) {
    if is_loopback(far_end) {
        // It is as good a connection without.
        let _ = socket.set_tcp_congestion(PLAIN.as_bytes());
    }
}

/// A name as the kernel tells it, filled up with zeros.
fn paces(name: &[u8]) -> bool {
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    !UNPACED.iter().any(|unpaced| unpaced.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_paces_is_out_of_place() {
        assert!(!paces(b"cubic\0\0\0\0\0\0\0\0\0\0\0"));
        assert!(!paces(b"reno\0"));
        assert!(!paces(b"reno"));
        assert!(paces(b"bbr\0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert!(paces(b"cubicle\0"));
    }

    #[test]
    fn loopback_is_unpaced_and_other_hosts_are_left_alone() {
        let name_for = |far_end: &str| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let default = socket.tcp_congestion().expect("a name");
            unpace(&socket, far_end.parse().expect("an address"));
            (default, socket.tcp_congestion().expect("a name"))
        };
        for far_end in [
            "127.0.0.1:0",
            "127.1.2.3:0",
            "[::1]:0",
            "[::ffff:127.0.0.1]:0",
        ] {
            assert!(
                name_for(far_end).1.starts_with(PLAIN.as_bytes()),
                "{far_end}"
            );
        }
        for far_end in ["192.0.2.1:0", "[2001:db8::1]:0", "0.0.0.0:0"] {
            let (default, name) = name_for(far_end);
            assert_eq!(name, default, "{far_end}");
        }
    }
}
