//! What came of the servers' names.

use super::commands::quoted;
use super::{Row, Verdict, number};
use crate::coordinator::Resolved;
use crate::routing::Family;

/// A row for each family with names.
pub(super) fn rows(resolved: &Resolved) -> Vec<Row> {
    [Family::V4, Family::V6]
        .into_iter()
        .filter_map(|family| row(resolved, family))
        .collect()
}

/// Whether the name of a server of this family came to no address.
pub(super) fn has_failed(resolved: &Resolved, family: Family) -> bool {
    let mut names = resolved.names.iter();
    names.any(|it| it.family == family && it.addr.is_err())
}

fn row(resolved: &Resolved, family: Family) -> Option<Row> {
    let (mut found, mut failed, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for it in resolved.names.iter().filter(|it| it.family == family) {
        match &it.addr {
            Ok(ip) => found.push(format!("{} is {ip}", it.name.host)),
            Err(error) => {
                failed.push(error.to_string());
                commands.push(look_up(&it.name.host));
            }
        }
    }
    let subject = format!("names-v{}", number(family));
    match (failed.is_empty(), found.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Row::new(&subject, Verdict::Ok, found.join(", "))),
        (false, _) => {
            Some(Row::new(&subject, Verdict::Fail, failed.join("; ")).mended_by(commands))
        }
    }
}

/// The command that shows what a name comes to here.
fn look_up(host: &str) -> String {
    format!("getent ahosts {}", quoted(host))
}
