//! Whether the listening addresses are free.

use std::net::SocketAddr;

use socket2::Type;

use super::commands::to_listen;
use super::holder::{Holder, holders};
use super::{Row, Verdict};
use crate::addr::spans;
use crate::admin;
use crate::config::Config;
use crate::listen::{self, BindError};

/// A row for each protocol, one for what is not looked at, and one for the admin endpoint, if there is to be one.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let protocols = [
        ("listen-tcp", Type::STREAM, config.protocols.tcp()),
        ("listen-udp", Type::DGRAM, config.protocols.udp()),
    ];
    let wanted = protocols.into_iter().filter(|(.., on)| *on);
    let rows = wanted.map(|(subject, kind, _)| row(config, subject, kind));
    let redirects = config.listen_transparent.then(|| {
        let finding =
            "which traffic the kernel redirects to the listener (TPROXY) is not looked at";
        Row::new("redirects", Verdict::Skip, finding)
    });
    rows.chain(redirects)
        .chain(config.admin.map(admin_row))
        .collect()
}

fn admin_row(addr: SocketAddr) -> Row {
    let subject = "admin";
    match admin::probe(addr) {
        Ok(()) if addr.ip().is_loopback() => {
            Row::new(subject, Verdict::Ok, format!("{addr}: free"))
        }
        Ok(()) => {
            let finding = format!("{addr}: free; {}", admin::EXPOSED);
            Row::new(subject, Verdict::Warn, finding)
        }
        Err(error) => {
            let taken = if error.in_use() {
                vec![addr]
            } else {
                Vec::new()
            };
            let holders = holders(&taken, Type::STREAM);
            ours(subject, &taken, &holders).unwrap_or_else(|| {
                let command = to_listen(addr, Type::STREAM, error.kind());
                failed_row(subject, error.to_string(), &holders, command)
            })
        }
    }
}

fn row(config: &Config, subject: &str, kind: Type) -> Row {
    let listens = config.frontends.iter().map(|frontend| frontend.listen);
    let mut failed: Vec<(SocketAddr, BindError)> = Vec::new();
    for listen in listens.clone() {
        if let Err(error) = listen::probe(listen, kind, config.listen_transparent) {
            failed.push((listen.0, error));
        }
    }
    let Some((first_addr, first)) = failed.first() else {
        let finding = format!("{}: free", spans(listens.map(|listen| listen.0)));
        return Row::new(subject, Verdict::Ok, finding);
    };
    let command = to_listen(*first_addr, kind, first.kind());
    let first = first.to_string();
    let taken = failed.iter().filter(|(_, error)| error.in_use());
    let taken: Vec<SocketAddr> = taken.map(|(addr, _)| *addr).collect();
    let holders = holders(&taken, kind);
    let running = (taken.len() == failed.len()).then(|| ours(subject, &taken, &holders));
    running.flatten().unwrap_or_else(|| {
        let mut finding = first;
        if failed.len() > 1 {
            finding.push_str(&format!(" (and {} more)", failed.len() - 1));
        }
        failed_row(subject, finding, &holders, command)
    })
}

/// The row of addresses that glommproxy has, and nobody else.
fn ours(subject: &str, taken: &[SocketAddr], holders: &[Holder]) -> Option<Row> {
    (!holders.is_empty() && holders.iter().all(Holder::is_ours)).then(|| {
        let finding = format!(
            "{}: glommproxy runs there already ({}), so another cannot; all is well if that is the one you mean",
            spans(taken.iter().copied()),
            named(holders)
        );
        Row::new(subject, Verdict::Warn, finding)
    })
}

fn failed_row(subject: &str, mut finding: String, holders: &[Holder], command: String) -> Row {
    if !holders.is_empty() {
        finding.push_str(&format!(" (it is {})", named(holders)));
    }
    Row::new(subject, Verdict::Fail, finding).mended_by(vec![command])
}

fn named(holders: &[Holder]) -> String {
    let holders: Vec<String> = holders.iter().map(Holder::to_string).collect();
    holders.join(", ")
}
