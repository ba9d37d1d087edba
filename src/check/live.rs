//! `check --live`: asks the running proxy whether it is ready, as a health check of a container without a shell.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long the answer may take, all in all.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// More than a status line and headers need; of the body, what fits is shown.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Why the proxy is not ready. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nobody is there.
    #[error("cannot ask http://{0}/readyz: {1}; does glommproxy run, with this --admin address?")]
    Unreachable(SocketAddr, io::Error),
    /// It did not answer, or not in time.
    #[error("no answer from http://{0}/readyz: {1}")]
    Silent(SocketAddr, io::Error),
    /// It says no.
    #[error("http://{0}/readyz says {1}")]
    Refused(SocketAddr, String),
}

/// Asks `GET /readyz` of the admin address; of a wildcard address, on loopback.
///
/// # Errors
///
/// Whatever the answer is but "200" (RFC 9110), within two seconds.
pub fn ask_ready(admin: SocketAddr) -> Result<(), NotReady> {
    let ip = match admin.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        _ => admin.ip(),
    };
    let mut addr = admin;
    addr.set_ip(ip);
    let deadline = Instant::now() + ANSWER_MAX;
    let stream = TcpStream::connect_timeout(&addr, ANSWER_MAX)
        .map_err(|error| NotReady::Unreachable(addr, error))?;
    let answer = ask(stream, addr, deadline).map_err(|error| NotReady::Silent(addr, error))?;
    judge(&answer).map_err(|said| NotReady::Refused(addr, said))
}

/// Sends the request and reads the answer to its end, or as much as is of interest.
fn ask(mut stream: TcpStream, addr: SocketAddr, deadline: Instant) -> io::Result<String> {
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "it takes too long"));
        }
        limited.get_ref().set_read_timeout(Some(left))?;
        match limited.read(&mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether it is a 200; otherwise what it says, in one line.
fn judge(answer: &str) -> Result<(), String> {
    let status = answer.lines().next().unwrap_or_default();
    let mut words = status.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let code = words.next().filter(|_| is_http);
    if code == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let said = [status, body.trim()].join(" ");
    let said: String = said.trim().escape_default().take(200).collect();
    Err(match code {
        Some(_) => said,
        None => format!("\"{said}\", which is no HTTP"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ready() {
        assert_eq!(judge("HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(judge("HTTP/1.0 200\r\n"), Ok(()));
        for (answer, said) in [
            (
                "HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\ndraining\n",
                "HTTP/1.1 503 Service Unavailable draining",
            ),
            ("HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 2000 OK"),
            ("200 OK\r\n", "\"200 OK\", which is no HTTP"),
            ("", "\"\", which is no HTTP"),
        ] {
            assert_eq!(judge(answer), Err(said.to_owned()), "{answer:?}");
        }
    }
}
