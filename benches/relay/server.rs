//! The server behind the proxies: it sends back what it gets, or swallows it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::setpriority_process;
use socket2::{Domain, Socket, Type};

use crate::harness::{Poll, Result, Target};

/// More than any workload opens at once; the kernel may allow less.
const BACKLOG: i32 = 8192;
/// What is read at once.
const BUFFER: usize = 256 << 10;
/// The number of the listener; connections count from 0.
const LISTENER: usize = usize::MAX;

/// A server with one thread, which ends with the process.
pub(crate) struct EchoServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether bytes are swallowed instead of sent back.
    swallows: AtomicBool,
    /// Bytes swallowed so far.
    swallowed: AtomicU64,
    /// Whether new connections are answered in the background.
    in_background: AtomicBool,
}

/// A flag that is set as long as this lives.
struct Meanwhile<'a>(&'a AtomicBool);

struct Connection {
    stream: TcpStream,
    /// What the client did not take yet. Nothing is read meanwhile.
    unsent: Vec<u8>,
}

struct Server {
    listener: TcpListener,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

// === impl EchoServer ===

impl EchoServer {
    pub(crate) fn start() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Poll::READABLE)?;
        let shared = Arc::new(Shared::default());
        let mut server = Server {
            listener,
            poll,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; BUFFER],
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("echo server".to_owned())
            .spawn(move || {
                if let Err(error) = server.serve() {
                    eprintln!("the echo server ended: {error}");
                }
            })?;
        Ok(Self { addr, shared })
    }

    /// Swallows what it gets, until what this returns is dropped.
    pub(crate) fn swallow(&self) -> impl Drop {
        Meanwhile::set(&self.shared.swallows)
    }

    /// Answers connections that come from now on in the background, each by a thread of its own, until what this returns is
    /// dropped.
    pub(crate) fn answer_in_background(&self) -> impl Drop {
        Meanwhile::set(&self.shared.in_background)
    }

    /// Bytes swallowed so far.
    pub(crate) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Target for EchoServer {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

// === impl Meanwhile ===

impl<'a> Meanwhile<'a> {
    fn set(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Meanwhile<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

// === impl Server ===

impl Server {
    fn serve(&mut self) -> Result {
        loop {
            for index in 0..self.poll.wait(None)? {
                match self.poll.ready(index) {
                    (LISTENER, _) => self.accept()?,
                    (number, _) => self.turn(number)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client has gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            if self.shared.in_background.load(Ordering::Relaxed) {
                thread::spawn(move || echo_in_background(stream));
                continue;
            }
            stream.set_nonblocking(true)?;
            let number = self.free.pop().unwrap_or(self.connections.len());
            if number == self.connections.len() {
                self.connections.push(None);
            }
            self.poll.add(&stream, number, Poll::READABLE)?;
            let unsent = Vec::new();
            self.connections[number] = Some(Connection { stream, unsent });
        }
    }

    fn turn(&mut self, number: usize) -> Result {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(());
        };
        let was_waiting = !connection.unsent.is_empty();
        let open = if was_waiting {
            connection.send_rest()
        } else {
            connection.answer(&mut self.buffer, &self.shared)
        };
        if !open {
            self.connections[number] = None;
            self.free.push(number);
            return Ok(());
        }
        let waits = !connection.unsent.is_empty();
        if waits != was_waiting {
            let interest = if waits {
                Poll::WRITABLE
            } else {
                Poll::READABLE
            };
            self.poll.change(&connection.stream, number, interest)?;
        }
        Ok(())
    }
}

// === impl Connection ===

impl Connection {
    /// Reads once and sends it back. False at the end of the connection, however it ended.
    fn answer(&mut self, buffer: &mut [u8], shared: &Shared) -> bool {
        let read = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(read) => &buffer[..read],
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if shared.swallows.load(Ordering::Relaxed) {
            shared
                .swallowed
                .fetch_add(read.len() as u64, Ordering::Relaxed);
            return true;
        }
        match self.stream.write(read) {
            Ok(sent) => self.unsent.extend_from_slice(&read[sent..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(read);
            }
            Err(_) => return false,
        }
        true
    }

    fn send_rest(&mut self) -> bool {
        match self.stream.write(&self.unsent) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Leaves the processors to all others, as far as the calling thread is concerned: on Linux each has a nice value of its own
/// (setpriority(2)).
pub(crate) fn run_in_background() -> Result {
    const LOWEST: i32 = 19;
    Ok(setpriority_process(None, LOWEST)?)
}

/// Sends back what comes, until the connection ends, however it does.
fn echo_in_background(mut stream: TcpStream) {
    if let Err(error) = run_in_background() {
        eprintln!("the echo server cannot lower its priority: {error}");
        return;
    }
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
