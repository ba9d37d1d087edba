//! One listening socket.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::addr::ListenAddr;
use crate::sys::sockopt::IntOption;
use crate::transparent::{congestion, set_stream_options};

/// Room for bursts on a UDP listener, each way, in bytes. Without CAP_NET_ADMIN the kernel cuts it to `net.core.rmem_max`
/// and `net.core.wmem_max`.
const DATAGRAM_BUFFER: i32 = 4 << 20;

/// A bound socket. Wildcard addresses listen for both families, 0.0.0.0 too: that is what Go makes of it, and so what
/// go-mmproxy's users have.
pub(super) fn open(
    addr: ListenAddr,
    kind: Type,
    reuse_port: bool,
    transparent: bool,
) -> io::Result<Socket> {
    let ListenAddr(addr) = addr;
    if !addr.ip().is_unspecified() {
        return open_as(addr, kind, reuse_port, transparent);
    }
    let dual_stack = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), addr.port());
    match open_as(dual_stack, kind, reuse_port, transparent) {
        // This host has no IPv6, or has it switched off.
        Err(error) if addr.is_ipv4() && error.kind() != io::ErrorKind::AddrInUse => {
            open_as(addr, kind, reuse_port, transparent)
        }
        result => result,
    }
}

fn open_as(
    addr: SocketAddr,
    kind: Type,
    reuse_port: bool,
    transparent: bool,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind.nonblocking(), None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // Connections of a former process in TIME_WAIT do not keep the port.
        socket.set_reuse_address(true)?;
        set_stream_options(&socket)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if transparent {
        set_transparent(&socket, addr)?;
    }
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

fn set_datagram_options(socket: &Socket, addr: SocketAddr, transparent: bool) -> io::Result<()> {
    // A smaller buffer works as well, until bursts come.
    if IntOption::RECEIVE_BUFFER_FORCE
        .set(socket, DATAGRAM_BUFFER)
        .is_err()
    {
        let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER as usize);
    }
    if IntOption::SEND_BUFFER_FORCE
        .set(socket, DATAGRAM_BUFFER)
        .is_err()
    {
        let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER as usize);
    }
    if transparent {
        ask_for_original_destination(socket)?;
    } else if addr.ip().is_unspecified() {
        // The address a peer wrote to is the one it wants the reply from.
        ask_for_local_address(socket)?;
    }
    Ok(())
}

/// To one family is as to both: it is one flag of the socket.
pub(super) fn set_transparent(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv6() {
        socket.set_ip_transparent_v6(true)
    } else {
        socket.set_ip_transparent_v4(true)
    }
}

/// Which tells the local address, too.
fn ask_for_original_destination(socket: &Socket) -> io::Result<()> {
    // An IPv6 socket gets IPv4 datagrams with IPv4's control messages.
    IntOption::ORIGINAL_DESTINATION_V4.set(socket.as_fd(), 1)?;
    if socket.domain()? == Domain::IPV6 {
        IntOption::ORIGINAL_DESTINATION_V6.set(socket.as_fd(), 1)?;
    }
    Ok(())
}

fn ask_for_local_address(socket: &Socket) -> io::Result<()> {
    if socket.domain()? == Domain::IPV6 {
        IntOption::PKTINFO_V6.set(socket.as_fd(), 1)
    } else {
        IntOption::PKTINFO_V4.set(socket.as_fd(), 1)
    }
}

pub(super) fn set_up(
    socket: &Socket,
    kind: Type,
    addr: ListenAddr,
    transparent: bool,
) -> io::Result<()> {
    if kind == Type::STREAM {
        // Who reaches a loopback address is on loopback, too.
        if congestion::default_paces() {
            congestion::unpace(socket, addr.0);
        }
        // For one that listens, this sets the backlog.
        socket.listen(BACKLOG)
    } else {
        set_datagram_options(socket, addr.0, transparent)
    }
}
