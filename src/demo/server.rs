//! A server that tells everybody by which address it sees them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{GREETING, PATIENCE, SERVER_PORT};

/// Starts the servers of one family: TCP on the loopback address, UDP on the wildcard address as most game servers have
/// it. They serve until the process ends. False if this host has not got the family.
pub(super) fn start(loopback: IpAddr, wildcard: IpAddr) -> io::Result<bool> {
    let listener = match TcpListener::bind((loopback, SERVER_PORT)) {
        Ok(listener) => listener,
        Err(error) if lacks_family(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let socket = bind_udp(SocketAddr::new(wildcard, SERVER_PORT))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Who does not get an answer shows up in the table.
            let _ = serve(stream);
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(client.to_string().as_bytes(), client);
        }
    });
    Ok(true)
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; GREETING.len()])?;
    stream.write_all(stream.peer_addr()?.to_string().as_bytes())
}

/// A socket of this family only, so that both can have one on the same port.
fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket.into())
}

fn lacks_family(error: &io::Error) -> bool {
    let missing = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    error
        .raw_os_error()
        .is_some_and(|code| missing.contains(&code))
}
