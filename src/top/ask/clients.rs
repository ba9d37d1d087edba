//! The busiest clients, as the proxy tells them.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::{AskError, document, fetch};

/// As many as it tells: the busiest of now may have moved little so far.
const PATH: &str = "/clients?limit=1000";

/// One answer.
#[derive(Clone, Debug, Default)]
pub(in crate::top) struct Clients {
    /// Seconds since the proxy began.
    at: f64,
    /// How many there are in all.
    pub(in crate::top) count: u64,
    busiest: Vec<Row>,
}

/// What it says of one client.
#[derive(Clone, Debug)]
struct Row {
    client: String,
    connections: f64,
    flows: f64,
    bytes: [f64; 2],
    open_seconds: f64,
}

/// One client between two answers.
#[derive(Debug, PartialEq)]
pub(in crate::top) struct Client<'a> {
    pub(in crate::top) name: &'a str,
    pub(in crate::top) connections: f64,
    pub(in crate::top) flows: f64,
    /// Upstream and downstream, bytes a second.
    pub(in crate::top) rates: [f64; 2],
    /// Both ways, so far.
    pub(in crate::top) bytes: f64,
    pub(in crate::top) open_seconds: f64,
}

// === impl Clients ===

impl Clients {
    /// None if the proxy has none to tell: it cannot count now, or is an older one.
    pub(in crate::top) fn ask(addr: SocketAddr) -> Result<Option<Self>, AskError> {
        let answer = fetch(addr, PATH)?;
        Ok(document(&answer).as_ref().and_then(Self::parse))
    }

    pub(in crate::top) fn parse(document: &Value) -> Option<Self> {
        let rows = document["busiest"].as_array()?.iter();
        Some(Self {
            at: document["uptime_seconds"].as_f64()?,
            count: document["clients"].as_u64()?,
            busiest: rows.map(Row::parse).collect::<Option<_>>()?,
        })
    }

    /// All clients of this answer, those with the highest rates since the one before first.
    pub(in crate::top) fn since<'a>(&'a self, before: &Self) -> Vec<Client<'a>> {
        let passed = self.at - before.at;
        let known = before.busiest.iter().map(|row| (&*row.client, row));
        let known: HashMap<_, _> = known.collect();
        let rows = self.busiest.iter();
        let mut clients: Vec<_> = rows
            .map(|row| row.since(known.get(&*row.client).copied(), passed))
            .collect();
        // A stable sort: of equal rates the one with more bytes so far.
        clients.sort_by(|a, b| b.rate().total_cmp(&a.rate()));
        clients
    }
}

// === impl Row ===

impl Row {
    fn parse(row: &Value) -> Option<Self> {
        Some(Self {
            client: row["client"].as_str()?.to_owned(),
            connections: row["connections"].as_f64()?,
            flows: row["flows"].as_f64()?,
            bytes: [
                row["bytes_upstream"].as_f64()?,
                row["bytes_downstream"].as_f64()?,
            ],
            open_seconds: row["open_seconds"].as_f64()?,
        })
    }

    fn since(&self, before: Option<&Self>, passed: f64) -> Client<'_> {
        let is_new = self.open_seconds <= passed;
        let rate = |way: usize| match before {
            // When a connection has ended, its bytes are missing.
            Some(before) => ((self.bytes[way] - before.bytes[way]) / passed).max(0.0),
            None if is_new => self.bytes[way] / passed,
            // It was not among those that were told.
            None => 0.0,
        };
        Client {
            name: &self.client,
            connections: self.connections,
            flows: self.flows,
            rates: [0, 1].map(|way| if passed > 0.0 { rate(way) } else { 0.0 }),
            bytes: self.bytes.iter().sum(),
            open_seconds: self.open_seconds,
        }
    }
}

// === impl Client ===

impl Client<'_> {
    fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(at: f64, rows: &[(&str, u64, u64, f64)]) -> Clients {
        let rows = rows.iter().map(|(client, up, down, open)| {
            json!({
                "client": client, "connections": 1, "flows": 2,
                "bytes_upstream": up, "bytes_downstream": down, "open_seconds": open,
            })
        });
        let document = json!({
            "uptime_seconds": at,
            "clients": rows.len(),
            "busiest": rows.collect::<Vec<_>>(),
        });
        Clients::parse(&document).expect("an answer")
    }

    #[test]
    fn rates_are_what_has_changed_and_the_highest_comes_first() {
        let before = answer(
            10.0,
            &[
                ("large", 9000, 9000, 9.0),
                ("fast", 100, 0, 9.0),
                ("less", 800, 0, 9.0),
            ],
        );
        let now = answer(
            12.0,
            &[
                ("large", 9000, 9000, 11.0),
                ("untold", 5000, 0, 11.0),
                ("fast", 300, 1000, 11.0),
                ("less", 500, 0, 11.0),
                ("new", 100, 100, 1.5),
            ],
        );
        let clients = now.since(&before);
        let told: Vec<_> = clients
            .iter()
            .map(|it| (it.name, it.rates, it.bytes))
            .collect();
        assert_eq!(
            told,
            [
                ("fast", [100.0, 500.0], 1300.0),
                ("new", [50.0, 50.0], 200.0),
                ("large", [0.0, 0.0], 18000.0),
                ("untold", [0.0, 0.0], 5000.0),
                ("less", [0.0, 0.0], 500.0),
            ]
        );
        assert!(now.since(&now).iter().all(|it| it.rate() == 0.0));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for document in [
            json!({}),
            json!({"busiest": [{}], "clients": 1, "uptime_seconds": 1}),
        ] {
            assert!(Clients::parse(&document).is_none(), "{document}");
        }
    }
}
