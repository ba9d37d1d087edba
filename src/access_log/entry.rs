//! One line.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_micros;
use serde_json::json;

use crate::addr::{ClientAddr, ListenAddr, PeerAddr};
use crate::config::LogFormat;

/// A connection or flow that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) ended_at: SystemTime,
    pub(crate) protocol: &'static str,
    pub(crate) client: Option<ClientAddr>,
    pub(crate) peer: PeerAddr,
    pub(crate) listen_addr: ListenAddr,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) bytes_upstream: u64,
    pub(crate) bytes_downstream: u64,
    pub(crate) duration: Duration,
    pub(crate) reason: Cow<'static, str>,
}

// === impl Entry ===

impl Entry {
    /// Adds the line, with its end, to a text.
    pub(super) fn write(&self, format: LogFormat, text: &mut String) -> fmt::Result {
        match format {
            LogFormat::Text => self.write_text(text),
            LogFormat::Json => writeln!(text, "{}", self.json()),
        }
    }

    fn write_text(&self, text: &mut String) -> fmt::Result {
        write!(text, "{} ", format_rfc3339_micros(self.ended_at))?;
        write!(text, "{} client=", self.protocol)?;
        match self.client {
            Some(client) => write!(text, "{client}")?,
            None => text.push('-'),
        }
        write!(text, " peer={} listen={}", self.peer, self.listen_addr)?;
        match self.target {
            Some(target) => write!(text, " target={target}")?,
            None => text.push_str(" target=-"),
        }
        writeln!(
            text,
            " upstream={} downstream={} duration={:.6} reason={:?}",
            self.bytes_upstream,
            self.bytes_downstream,
            self.duration.as_secs_f64(),
            self.reason,
        )
    }

    /// The names are those of the log of single connections.
    fn json(&self) -> serde_json::Value {
        json!({
            "timestamp": format_rfc3339_micros(self.ended_at).to_string(),
            "protocol": self.protocol,
            "client_addr": self.client.map(|addr| addr.to_string()),
            "peer_addr": self.peer.to_string(),
            "listen_addr": self.listen_addr.to_string(),
            "target_addr": self.target.map(|addr| addr.to_string()),
            "bytes_upstream": self.bytes_upstream,
            "bytes_downstream": self.bytes_downstream,
            "duration_seconds": self.duration.as_secs_f64(),
            "reason": self.reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn line(entry: &Entry, format: LogFormat) -> String {
        let mut text = String::new();
        entry.write(format, &mut text).expect("a line");
        text
    }

    #[test]
    fn a_line_tells_all_of_a_connection() {
        let peer = PeerAddr::new(addr("192.0.2.10:51234"));
        let client = ClientAddr::believe(addr("[2001:db8::7]:40000"), peer);
        let mut entry = Entry {
            ended_at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            protocol: "tcp",
            client: Some(client.expect("a client")),
            peer,
            listen_addr: ListenAddr(addr("0.0.0.0:25577")),
            target: Some(addr("[::1]:25565")),
            bytes_upstream: 12,
            bytes_downstream: 3456,
            duration: Duration::from_millis(1500),
            reason: "it said \"no\"\n".into(),
        };
        assert_eq!(
            line(&entry, LogFormat::Text),
            "2023-11-14T22:13:20.000001Z tcp client=[2001:db8::7]:40000 peer=192.0.2.10:51234 \
             listen=0.0.0.0:25577 target=[::1]:25565 upstream=12 downstream=3456 duration=1.500000 \
             reason=\"it said \\\"no\\\"\\n\"\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(&entry, LogFormat::Json)).expect("JSON");
        assert_eq!(
            json,
            json!({
                "timestamp": "2023-11-14T22:13:20.000001Z",
                "protocol": "tcp",
                "client_addr": "[2001:db8::7]:40000",
                "peer_addr": "192.0.2.10:51234",
                "listen_addr": "0.0.0.0:25577",
                "target_addr": "[::1]:25565",
                "bytes_upstream": 12,
                "bytes_downstream": 3456,
                "duration_seconds": 1.5,
                "reason": "it said \"no\"\n",
            })
        );

        (entry.client, entry.target) = (None, None);
        let text = line(&entry, LogFormat::Text);
        assert!(
            text.contains(" client=- ") && text.contains(" target=- "),
            "{text}"
        );
        assert_eq!(line(&entry, LogFormat::Json).lines().count(), 1);
    }
}
