//! Which clients are the busiest, as JSON. The shards are asked, once at a time and once a second at most.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::coordinator::census::{Answers, Census};
use crate::metrics::{Tally, Traffic};

/// Clients in an answer, unless the question says how many (`limit`) …
const CLIENTS: usize = 20;

/// … and at most.
const CLIENTS_MAX: usize = 1000;

/// How long an answer serves for further questions.
const FRESH: Duration = Duration::from_secs(1);

/// How long the shards may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the endpoint knows of clients.
#[derive(Debug)]
pub(super) struct Clients {
    census: Census,
    started: Instant,
    patience: Duration,
    /// Held while the shards are asked.
    latest: Mutex<Option<Arc<Counted>>>,
}

/// An answer of the shards.
#[derive(Debug)]
pub(super) struct Counted {
    at: Instant,
    since_start: Duration,
    /// None if a shard did not answer.
    busiest: Option<Busiest>,
}

#[derive(Debug)]
struct Busiest {
    /// How many clients there are in all.
    clients: u64,
    rows: Vec<(IpAddr, Traffic)>,
}

/// The question cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want /clients, or /clients?limit=N, N from 1 to {CLIENTS_MAX}")]
pub(super) struct QueryError;

// === impl Clients ===

impl Clients {
    /// `started` is what times are told from.
    pub(super) fn new(census: Census, started: Instant) -> Self {
        Self {
            census,
            started,
            patience: PATIENCE,
            latest: Mutex::default(),
        }
    }

    /// The latest count, or a new one if that is old.
    pub(super) async fn count(&self) -> Arc<Counted> {
        let mut latest = self.latest.lock().await;
        if let Some(counted) = latest.as_ref()
            && counted.at.elapsed() < FRESH
        {
            return Arc::clone(counted);
        }
        let busiest = timeout(self.patience, gather(self.census.ask())).await;
        let at = Instant::now();
        let counted = Arc::new(Counted {
            at,
            since_start: at - self.started,
            busiest: busiest.ok().flatten(),
        });
        *latest = Some(Arc::clone(&counted));
        counted
    }
}

/// Adds up what the shards answer; None if one of them does not.
async fn gather(mut answers: Answers) -> Option<Busiest> {
    let mut all = None::<Tally>;
    while let Some(answer) = answers.recv().await {
        let tally = answer?;
        match &mut all {
            Some(all) => all.merge(tally),
            None => all = Some(tally),
        }
    }
    let all = all?;
    Some(Busiest {
        clients: all.clients(),
        rows: all.into_busiest(CLIENTS_MAX),
    })
}

// === impl Counted ===

impl Counted {
    /// The document; None if the shards have not said.
    pub(super) fn json(&self, limit: usize) -> Option<String> {
        let Busiest { clients, rows } = self.busiest.as_ref()?;
        let rows = rows.iter().take(limit).map(|(client, traffic)| {
            json!({
                "client": client.to_string(),
                "connections": traffic.connections,
                "flows": traffic.flows,
                "bytes_upstream": traffic.bytes_upstream,
                "bytes_downstream": traffic.bytes_downstream,
                "open_seconds": self.at.saturating_duration_since(traffic.since).as_secs_f64(),
            })
        });
        let document = json!({
            "uptime_seconds": self.since_start.as_secs_f64(),
            "clients": clients,
            "busiest": rows.collect::<Vec<_>>(),
        });
        Some(format!("{document:#}\n"))
    }
}

/// How many clients a query asks for.
pub(super) fn limit(query: Option<&str>) -> Result<usize, QueryError> {
    let Some(query) = query else {
        return Ok(CLIENTS);
    };
    let limit = query.strip_prefix("limit=").and_then(|it| it.parse().ok());
    limit
        .filter(|it| (1..=CLIENTS_MAX).contains(it))
        .ok_or(QueryError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::census;
    use tokio::runtime::{self, Runtime};
    use tokio::sync::mpsc::unbounded_channel;

    fn tally(client: [u8; 4], bytes: u64) -> Option<Tally> {
        let mut tally = Tally::default();
        let traffic = Traffic::of_connection([bytes, 0], Instant::now());
        tally.add(client.into(), traffic);
        Some(tally)
    }

    fn gathered(all: Vec<Option<Tally>>) -> Option<Busiest> {
        let (sender, answers) = unbounded_channel();
        for answer in all {
            sender.send(answer).expect("heard");
        }
        drop(sender);
        runtime().block_on(gather(answers))
    }

    fn runtime() -> Runtime {
        let mut runtime = runtime::Builder::new_current_thread();
        runtime.enable_time().build().expect("a runtime")
    }

    #[test]
    fn what_the_shards_say_is_added_up() {
        let shards = [
            ([192, 0, 2, 1], 1),
            ([192, 0, 2, 2], 5),
            ([192, 0, 2, 1], 7),
        ];
        let answers = shards.map(|(client, bytes)| tally(client, bytes));
        let busiest = gathered(answers.to_vec()).expect("an answer");
        assert_eq!(busiest.clients, 2);
        let rows: Vec<_> = busiest
            .rows
            .iter()
            .map(|(ip, it)| (ip.to_string(), it.connections, it.bytes_upstream))
            .collect();
        assert_eq!(
            rows,
            [
                ("192.0.2.1".to_owned(), 2, 8),
                ("192.0.2.2".to_owned(), 1, 5)
            ]
        );
    }

    #[test]
    fn half_an_answer_is_none() {
        assert!(gathered(vec![tally([192, 0, 2, 1], 1), None]).is_none());
        assert!(gathered(vec![]).is_none());
    }

    /// A shard may be stuck, and the coordinator, too.
    #[test]
    fn an_answer_is_not_waited_for_for_ever() {
        let (census, _questions) = census::unanswered();
        let mut clients = Clients::new(census, Instant::now());
        clients.patience = Duration::from_millis(1);
        let counted = runtime().block_on(clients.count());
        assert_eq!(counted.json(20), None);
    }

    #[test]
    fn a_query_may_say_how_many() {
        assert_eq!(limit(None), Ok(20));
        assert_eq!(limit(Some("limit=1")), Ok(1));
        assert_eq!(limit(Some("limit=1000")), Ok(1000));
        for query in [
            "",
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit",
            "top=5",
            "limit=1&limit=2",
        ] {
            assert_eq!(limit(Some(query)), Err(QueryError), "{query}");
        }
    }
}
