//! The lists: of balancers, of clients that are turned away, and of destinations.

use std::io::ErrorKind;
use std::path::Path;

use super::commands::quoted_path;
use super::{Row, Verdict};
use crate::config::Config;
use crate::coordinator::{ListError, load_list_once};

/// What a list is for.
struct Purpose {
    /// What it means if there is nothing in it, if that is worth a look.
    if_empty: Option<&'static str>,
    /// What it would begin with, if it has to begin with something, and whose that is.
    example: Option<(&'static str, &'static str)>,
}

/// A row for each list that there is, or should be.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let mut rows = vec![allowed_subnets(config)];
    if let Some(path) = &config.denied_clients {
        let purpose = Purpose {
            if_empty: None,
            example: None,
        };
        rows.push(list("denied-clients", path, &purpose));
    }
    if config.dynamic_destination {
        rows.push(allowed_destinations(config));
    }
    rows
}

fn allowed_subnets(config: &Config) -> Row {
    let subject = "allowed-subnets";
    if let Some(path) = &config.allowed_subnets {
        let purpose = Purpose {
            if_empty: Some("nobody is allowed"),
            example: Some(("192.0.2.0/24", "your balancers")),
        };
        return list(subject, path, &purpose);
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
        Some(path) => {
            let purpose = Purpose {
                if_empty: Some("none is allowed"),
                example: Some(("192.0.2.0/24", "your servers")),
            };
            list(subject, path, &purpose)
        }
        None => {
            let finding = "headers may name this host's own addresses, with --allowed-destinations FILE others";
            Row::new(subject, Verdict::Ok, finding)
        }
    }
}

/// The row of a file.
fn list(subject: &str, path: &Path, purpose: &Purpose) -> Row {
    let shown = path.display();
    match (load_list_once(path), purpose.if_empty) {
        (Ok(list), Some(so)) if list.is_empty() => {
            let finding = format!("{shown}: the list is empty, so {so}");
            Row::new(subject, Verdict::Warn, finding)
        }
        (Ok(list), _) => {
            let finding = format!("{shown}: {} subnets", list.len());
            Row::new(subject, Verdict::Ok, finding)
        }
        (Err(error), _) => {
            let commands = commands(&error, purpose);
            Row::new(subject, Verdict::Fail, error).mended_by(commands)
        }
    }
}

fn commands(error: &ListError, purpose: &Purpose) -> Vec<String> {
    let (path, error) = match error {
        ListError::Read { path, error } => (path, error),
        ListError::Parse { path, error } => {
            return vec![format!("sed -n {}p {}", error.line(), quoted_path(path))];
        }
    };
    let file = quoted_path(path);
    match error.kind() {
        ErrorKind::NotFound => {
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.filter(|it| !it.exists());
            let folder = folder.map(|it| format!("mkdir -p {}", quoted_path(it)));
            let list = match purpose.example {
                Some((example, whose)) => format!("printf '%s\\n' {example} > {file}  # {whose}"),
                None => format!("touch {file}"),
            };
            folder.into_iter().chain([list]).collect()
        }
        // To find the list that is meant.
        ErrorKind::IsADirectory => vec![format!("ls {file}")],
        // It may be a folder on the way that is closed.
        ErrorKind::PermissionDenied => {
            vec![format!("namei -l {file}"), format!("sudo chmod a+r {file}")]
        }
        _ => vec![format!("ls -l {file}")],
    }
}
