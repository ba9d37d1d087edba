//! The lists: of balancers, of clients that are turned away, and of destinations.

use std::path::Path;

use super::{Row, Verdict};
use crate::config::Config;
use crate::coordinator::load_list_once;

/// A row for each list that there is, or should be.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let mut rows = vec![allowed_subnets(config)];
    if let Some(path) = &config.denied_clients {
        rows.push(list("denied-clients", path, None));
    }
    if config.dynamic_destination {
        rows.push(allowed_destinations(config));
    }
    rows
}

fn allowed_subnets(config: &Config) -> Row {
    let subject = "allowed-subnets";
    if let Some(path) = &config.allowed_subnets {
        return list(subject, path, Some("nobody is allowed"));
    }
    let or_this_host = if config.trust.loopback_clients {
        ", or as this host itself"
    } else {
        ""
    };
    let finding = format!(
        "everybody who reaches the listener can pose as any client{or_this_host}: name your balancers' subnets in a file, \
         with --allowed-subnets FILE"
    );
    Row::new(subject, Verdict::Warn, finding)
}

fn allowed_destinations(config: &Config) -> Row {
    let subject = "allowed-destinations";
    match &config.allowed_destinations {
        Some(path) => list(subject, path, Some("none is allowed")),
        None => {
            let finding = "headers may name this host's own addresses, with --allowed-destinations FILE others";
            Row::new(subject, Verdict::Ok, finding)
        }
    }
}

/// The row of a file, and what it means if there is nothing in it, if that is worth a look.
fn list(subject: &str, path: &Path, if_empty: Option<&str>) -> Row {
    let shown = path.display();
    match (load_list_once(path), if_empty) {
        (Ok(list), Some(so)) if list.is_empty() => {
            let finding = format!("{shown}: the list is empty, so {so}");
            Row::new(subject, Verdict::Warn, finding)
        }
        (Ok(list), _) => {
            let finding = format!("{shown}: {} subnets", list.len());
            Row::new(subject, Verdict::Ok, finding)
        }
        (Err(error), _) => Row::new(subject, Verdict::Fail, error),
    }
}
