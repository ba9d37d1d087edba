//! The proxy's admin endpoint, as a scraper sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{Connection, Proxy, wait_for};
use crate::namespace::TestResult;

/// Where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin(SocketAddr);

/// What it answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head in lower case, without the status.
    pub(crate) head: String,
    pub(crate) body: String,
}

// === impl Proxy ===

impl Proxy {
    /// Its endpoint, as it says at its start. It must have `--admin`.
    #[track_caller]
    pub(crate) fn admin(&self) -> TestResult<Admin> {
        let line = self.wait_for_message("admin endpoint")?;
        Ok(Admin(line["addr"].as_str().ok_or("no addr")?.parse()?))
    }
}

// === impl Admin ===

impl Admin {
    pub(crate) fn addr(self) -> SocketAddr {
        self.0
    }

    #[track_caller]
    pub(crate) fn connect(self) -> TestResult<Connection> {
        Connection::new(TcpStream::connect(self.0)?)
    }

    #[track_caller]
    pub(crate) fn get(self, path: &str) -> TestResult<Answer> {
        self.ask("GET", path)
    }

    #[track_caller]
    pub(crate) fn ask(self, method: &str, path: &str) -> TestResult<Answer> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        self.say(request.as_bytes())
    }

    /// Sends these bytes, and reads the answer until the connection ends.
    #[track_caller]
    pub(crate) fn say(self, bytes: &[u8]) -> TestResult<Answer> {
        let connection = self.connect()?;
        let mut stream = connection.stream();
        stream.write_all(bytes)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
        let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = first.split(' ').nth(1).ok_or("no status")?;
        Ok(Answer {
            status: status.parse()?,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    /// Waits until a metric has this value. Name and labels are as in the text.
    #[track_caller]
    pub(crate) fn wait_for_metric(self, sample: &str, value: &str) -> TestResult {
        let mut last = String::new();
        let found = wait_for(|| {
            last = self.get("/metrics")?.body;
            Ok((metric(&last, sample) == Some(value)).then_some(()))
        });
        found.map_err(|error| format!("{sample} {value}: {error:?}; there is {last}").into())
    }

    #[track_caller]
    pub(crate) fn status(self) -> TestResult<Value> {
        Ok(serde_json::from_str(&self.get("/status")?.body)?)
    }
}

/// The value of a sample in a text of metrics.
pub(crate) fn metric<'a>(text: &'a str, sample: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
}
