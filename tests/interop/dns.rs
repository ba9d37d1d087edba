//! As much of DNS (RFC 1035) as it takes to ask for an IPv4 address and to answer.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::harness::PATIENCE;
use crate::hosts::free_port;
use crate::namespace::TestResult;

/// What every name means to [`DnsServer`].
const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Section 4.1.1: identifier, flags and four counts.
const HEADER_LEN: usize = 12;
/// Section 4.1.1: one question, and nothing else.
const COUNTS_OF_QUERY: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
/// The same with one answer.
const COUNTS_OF_ANSWER: [u8; 8] = [0, 1, 0, 1, 0, 0, 0, 0];
/// Section 3.2: type A, class IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];
/// Section 2.3.4.
const UDP_MAX: usize = 512;

/// How a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A server for UDP and TCP that answers every question until the test is over.
pub(crate) struct DnsServer {
    addr: SocketAddr,
    questions: Receiver<Question>,
    /// Those that came while another was waited for.
    others: RefCell<Vec<Question>>,
}

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) from: SocketAddr,
    pub(crate) transport: Transport,
}

/// A message that asks for the address of a name.
#[derive(Debug)]
pub(crate) struct Query(Vec<u8>);

// === impl DnsServer ===

impl DnsServer {
    /// Serves at this address of the host.
    #[track_caller]
    pub(crate) fn start(ip: &str) -> TestResult<Self> {
        let addr = SocketAddr::new(ip.parse::<IpAddr>()?, free_port()?);
        let (datagrams, listener) = (UdpSocket::bind(addr)?, TcpListener::bind(addr)?);
        let (sender, questions) = mpsc::channel();
        let sender_tcp = sender.clone();
        // Whoever asks finds out if these fail.
        thread::spawn(move || serve_udp(&datagrams, &sender).ok());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender_tcp.clone();
                thread::spawn(move || serve_tcp(&stream, &sender).ok());
            }
        });
        Ok(Self {
            addr,
            questions,
            others: RefCell::default(),
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until it has been asked for this name, or finds that it was.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) -> TestResult<Question> {
        let deadline = Instant::now() + PATIENCE;
        let mut others = self.others.borrow_mut();
        if let Some(index) = others.iter().position(|other| other.name == name) {
            return Ok(others.remove(index));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let question = self.questions.recv_timeout(left);
            let question = question.map_err(|_| format!("nobody asked for {name}"))?;
            if question.name == name {
                return Ok(question);
            }
            others.push(question);
        }
    }
}

// === impl Query ===

impl Query {
    pub(crate) fn new(id: u16, name: &str) -> TestResult<Self> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([0x01, 0x00]); // a standard query, recursion desired
        message.extend(COUNTS_OF_QUERY);
        for label in name.split('.') {
            message.push(u8::try_from(label.len())?);
            message.extend(label.as_bytes());
        }
        message.push(0); // the root ends the name
        message.extend(A_IN);
        Ok(Self(message))
    }

    /// Asks over UDP, without waiting for an answer.
    #[track_caller]
    pub(crate) fn send(&self, socket: &UdpSocket) -> TestResult {
        socket.send(&self.0)?;
        Ok(())
    }

    /// The next datagram, which must be the answer.
    #[track_caller]
    pub(crate) fn expect_answer(&self, socket: &UdpSocket) -> TestResult {
        let mut message = [0; UDP_MAX];
        let received = socket.recv(&mut message);
        let length = received.map_err(|error| format!("no answer came: {error}"))?;
        self.expect_to_be_answered_by(&message[..length])
    }

    /// Asks over TCP and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&self, stream: &TcpStream) -> TestResult {
        write_message(stream, &self.0)?;
        self.expect_to_be_answered_by(&read_message(stream)?)
    }

    #[track_caller]
    fn expect_to_be_answered_by(&self, message: &[u8]) -> TestResult {
        let answered = self.0.get(..2) == message.get(..2)
            && message.get(4..HEADER_LEN) == Some(&COUNTS_OF_ANSWER)
            && message.ends_with(&ANSWER.octets());
        if !answered {
            return Err(format!("{message:02x?} does not answer {:02x?}", self.0).into());
        }
        Ok(())
    }
}

fn serve_udp(socket: &UdpSocket, questions: &Sender<Question>) -> io::Result<()> {
    let mut query = [0; UDP_MAX];
    loop {
        let (length, from) = socket.recv_from(&mut query)?;
        if let Some(answer) = answer(&query[..length], from, Transport::Udp, questions) {
            socket.send_to(&answer, from)?;
        }
    }
}

fn serve_tcp(stream: &TcpStream, questions: &Sender<Question>) -> io::Result<()> {
    let from = stream.peer_addr()?;
    loop {
        if let Some(answer) = answer(&read_message(stream)?, from, Transport::Tcp, questions) {
            write_message(stream, &answer)?;
        }
    }
}

/// Notes the question and answers it, if it is one.
fn answer(
    query: &[u8],
    from: SocketAddr,
    transport: Transport,
    questions: &Sender<Question>,
) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut rest = query.get(HEADER_LEN..)?;
    while let [length @ 1..=63, following @ ..] = rest {
        let (label, following) = following.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label));
        rest = following;
    }
    let end = query.len() - rest.len() + 1 + A_IN.len();
    let question = query.get(HEADER_LEN..end)?;
    // Nobody listens any more when the test is over.
    let _ = questions.send(Question {
        name: labels.join("."),
        from,
        transport,
    });
    let mut message = query.get(..2)?.to_vec();
    message.extend([0x81, 0x80]); // a response without error; recursion desired and available
    message.extend(COUNTS_OF_ANSWER);
    message.extend(question);
    message.extend([0xc0, 0x0c]); // the name in the question (section 4.1.4)
    message.extend(A_IN);
    message.extend([0, 0, 0, 0]); // not to be kept
    message.extend([0, 4]);
    message.extend(ANSWER.octets());
    Some(message)
}

/// Section 4.2.2: over TCP, two bytes of length come first.
fn read_message(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
