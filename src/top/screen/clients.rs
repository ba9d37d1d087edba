//! The busiest clients, as a table.

use std::fmt::{self, Write as _};

use super::{Short, Span};
use crate::top::ask::Clients;

/// Clients shown. There are twenty-four lines in a small terminal.
const ROWS: usize = 10;

/// What clients did between two answers; nothing if there are none.
pub(super) fn write(text: &mut String, before: &Clients, now: &Clients) -> fmt::Result {
    let clients = now.since(before);
    if clients.is_empty() {
        return Ok(());
    }
    let count = match now.count {
        1 => "1 client".to_owned(),
        count => format!("{count} clients"),
    };
    writeln!(
        text,
        "\n{count:<39} {:>9} {:>8} {:>9} {:>9} {:>9} {:>12}",
        "connected", "flows", "up B/s", "down B/s", "bytes", "for"
    )?;
    for client in clients.iter().take(ROWS) {
        let [up, down] = client.rates;
        // A clock of seconds will do.
        let open = client.open_seconds as u64;
        writeln!(
            text,
            "{:<39} {:>9} {:>8} {:>9} {:>9} {:>9} {:>12}",
            client.name,
            Short(client.connections),
            Short(client.flows),
            Short(up),
            Short(down),
            Short(client.bytes),
            Span(open).to_string(),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(at: u64, clients: u64, bytes: u64) -> Clients {
        let rows = (1..=clients).map(|n| {
            json!({
                "client": format!("192.0.2.{n}"), "connections": n, "flows": 0,
                "bytes_upstream": n * bytes, "bytes_downstream": 0, "open_seconds": 61.5,
            })
        });
        let rows: Vec<_> = rows.collect();
        let document = json!({ "uptime_seconds": at, "clients": clients, "busiest": rows });
        Clients::parse(&document).expect("an answer")
    }

    fn shown(before: &Clients, now: &Clients) -> Vec<String> {
        let mut text = String::new();
        write(&mut text, before, now).expect("a text");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect()
    }

    #[test]
    fn the_busiest_are_shown_and_how_many_there_are() {
        let lines = shown(&answer(1, 12, 0), &answer(3, 12, 1000));
        assert_eq!(lines.len(), 2 + ROWS);
        assert_eq!(
            lines[1],
            "12 clients connected flows up B/s down B/s bytes for"
        );
        assert_eq!(lines[2], "192.0.2.12 12 0 6000 0 12.0k 1 min 1 s");
        assert_eq!(lines[3], "192.0.2.11 11 0 5500 0 11.0k 1 min 1 s");
        let lines = shown(&answer(1, 1, 0), &answer(3, 1, 1000));
        assert_eq!(
            lines[1],
            "1 client connected flows up B/s down B/s bytes for"
        );
    }

    #[test]
    fn without_clients_there_is_no_table() {
        assert!(shown(&answer(1, 3, 0), &answer(2, 0, 0)).is_empty());
    }
}
