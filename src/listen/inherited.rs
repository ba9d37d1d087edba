//! Listening sockets that this process has not opened itself: systemd or another instance passed them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Socket, Type};

use crate::addr::ListenAddr;

/// Sockets that wait for the addresses they are for.
#[derive(Debug, Default)]
pub struct Inherited(Vec<InheritedSocket>);

/// One of them: a TCP listener, or a UDP socket that is not connected.
#[derive(Debug)]
struct InheritedSocket {
    /// What messages call it.
    name: String,
    kind: Type,
    addr: SocketAddr,
    socket: Socket,
}

/// A descriptor that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// It is none of a socket, or not one of IPv4 or IPv6.
    #[error("{name} is no internet socket: pass TCP and UDP sockets only{}", reason(.error))]
    NotInternet {
        /// What it is called.
        name: String,
        /// Why nothing is known of it.
        error: Option<io::Error>,
    },
    /// A stream socket that does not listen, or something that is neither TCP nor UDP.
    #[error(
        "{name} ({addr}) neither accepts TCP connections nor receives UDP datagrams: pass listening sockets (systemd: \
         ListenStream without Accept=yes, ListenDatagram)"
    )]
    NotListening {
        /// What it is called.
        name: String,
        /// Where it is bound.
        addr: SocketAddr,
    },
    /// It is for an address, or a protocol, that is not listened on.
    #[error(
        "{name} is {protocol} {addr}, and that is not listened on: name the address with -l and the protocol with -p, or \
         do not pass the socket"
    )]
    Unwanted {
        /// What it is called.
        name: String,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// Where it is bound.
        addr: SocketAddr,
    },
}

// === impl Inherited ===

impl Inherited {
    /// Adds a socket that messages call `name`.
    ///
    /// # Errors
    ///
    /// If it cannot be listened on.
    pub fn add(&mut self, name: String, socket: Socket) -> Result<(), InheritError> {
        let not_internet = |name, error| InheritError::NotInternet { name, error };
        let addr = match socket.local_addr() {
            Ok(addr) => addr.as_socket(),
            Err(error) => return Err(not_internet(name, Some(error))),
        };
        let Some(addr) = addr else {
            return Err(not_internet(name, None));
        };
        let kind = match socket.r#type() {
            Ok(Type::STREAM) if socket.is_listener().unwrap_or(false) => Type::STREAM,
            Ok(Type::DGRAM) if socket.peer_addr().is_err() => Type::DGRAM,
            _ => return Err(InheritError::NotListening { name, addr }),
        };
        self.0.push(InheritedSocket {
            name,
            kind,
            addr,
            socket,
        });
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of this name are left.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|socket| socket.name == name).count()
    }

    /// What is left of this name, each address and protocol once, as messages tell it.
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        let left = self.0.iter().filter(|socket| socket.name == name);
        let mut told: Vec<_> = left
            .map(|socket| format!("{} {}", socket.protocol(), socket.addr))
            .collect();
        told.dedup();
        told
    }

    /// The addresses, each once, in order.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let mut addrs = Vec::new();
        for socket in &self.0 {
            if !addrs.contains(&socket.addr) {
                addrs.push(socket.addr);
            }
        }
        addrs
    }

    /// Takes out the sockets of an address, in order.
    pub(super) fn take(&mut self, addr: ListenAddr, kind: Type) -> Vec<Arc<Socket>> {
        let taken = self
            .0
            .extract_if(.., |it| it.kind == kind && is_for(it.addr, addr.0));
        taken.map(|it| Arc::new(it.socket)).collect()
    }

    /// Complains if there is one that nobody has taken.
    ///
    /// # Errors
    ///
    /// One that names it.
    pub(crate) fn expect_none_left(&self) -> Result<(), InheritError> {
        let Some(left) = self.0.first() else {
            return Ok(());
        };
        Err(InheritError::Unwanted {
            name: left.name.clone(),
            protocol: left.protocol(),
            addr: left.addr,
        })
    }
}

// === impl InheritedSocket ===

impl InheritedSocket {
    fn protocol(&self) -> &'static str {
        if self.kind == Type::STREAM {
            "tcp"
        } else {
            "udp"
        }
    }
}

/// Whether a socket bound to `bound` is what listens on `addr`. All wildcard addresses are one: see [`super::open`].
fn is_for(bound: SocketAddr, addr: SocketAddr) -> bool {
    let everywhere = bound.ip().is_unspecified() && addr.ip().is_unspecified();
    let scope = |addr: SocketAddr| match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    bound.port() == addr.port()
        && (everywhere || bound.ip() == addr.ip() && scope(bound) == scope(addr))
}

fn reason(error: &Option<io::Error>) -> impl fmt::Display {
    let error = error.as_ref().map(|error| format!(" ({error})"));
    error.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    fn add(socket: impl Into<Socket>) -> Result<Inherited, InheritError> {
        let mut inherited = Inherited::default();
        inherited.add("it".to_owned(), socket.into())?;
        Ok(inherited)
    }

    #[test]
    fn sockets_are_found_by_address_and_protocol() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = tcp.local_addr().expect("bound");
        let mut inherited = add(tcp).expect("a listener");
        assert_eq!(inherited.addrs(), [addr]);
        for other in ["127.0.0.2", "0.0.0.0", "::"] {
            let other = SocketAddr::new(other.parse().expect("an address"), addr.port());
            assert!(inherited.take(ListenAddr(other), Type::STREAM).is_empty());
        }
        assert!(inherited.take(ListenAddr(addr), Type::DGRAM).is_empty());
        assert!(inherited.expect_none_left().is_err());
        assert_eq!(inherited.take(ListenAddr(addr), Type::STREAM).len(), 1);
        assert!(inherited.expect_none_left().is_ok());
    }

    #[test]
    fn a_wildcard_socket_is_for_both_wildcard_addresses() {
        for bound in ["0.0.0.0:7", "[::]:7"] {
            for addr in ["0.0.0.0:7", "[::]:7"] {
                assert!(is_for(
                    bound.parse().expect("an address"),
                    addr.parse().expect("an address")
                ));
            }
        }
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = tcp.local_addr().expect("bound");
        let connected = TcpStream::connect(addr).expect("listening");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        udp.connect(addr).expect("loopback");
        for socket in [Socket::from(connected), Socket::from(udp)] {
            let error = add(socket).expect_err("it does not listen");
            assert!(matches!(error, InheritError::NotListening { .. }));
        }
        let unix = UnixDatagram::unbound().expect("a socket");
        let error = add(unix).expect_err("it is no internet socket");
        assert!(matches!(error, InheritError::NotInternet { .. }));
    }
}
