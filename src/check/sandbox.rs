//! What the proxy would still be able to do once it runs.

use super::{Row, Verdict, dialer};
use crate::config::Config;
use crate::coordinator::Resolved;
use crate::sandbox::{Sandbox, Status, names};

/// Tries it on a thread that ends at once.
pub(super) fn row(config: &Config, resolved: &Resolved) -> Row {
    let subject = "sandbox";
    let targets = &resolved.frontends[0].targets;
    let can_dial = || dialer(config).check_privileges(targets).is_ok();
    let Some((status, problems)) = Sandbox::rehearse(config, can_dial) else {
        let finding =
            "--no-sandbox: it keeps capabilities, files and system calls it does not need";
        return Row::new(subject, Verdict::Skip, finding);
    };
    if problems.is_empty() {
        Row::new(subject, Verdict::Ok, finding(&status))
    } else {
        let finding = format!("{}; {}", problems.join("; "), finding(&status));
        Row::new(subject, Verdict::Warn, finding)
    }
}

fn finding(status: &Status) -> String {
    let kept = status.capabilities.map(|(whose, kept)| {
        let names: Vec<String> = names(kept).collect();
        (!names.is_empty()).then(|| format!("{whose} {}", names.join(" ")))
    });
    let kept: Vec<String> = kept.into_iter().flatten().collect();
    let kept = if kept.is_empty() {
        "none".to_owned()
    } else {
        kept.join(", ")
    };
    let files = match status.landlock_abi {
        Some(abi) => format!("Landlock {abi}"),
        None => "not restricted, as this kernel has no Landlock in use".to_owned(),
    };
    let calls = if status.is_filtered {
        "filtered"
    } else {
        "not filtered"
    };
    format!("capabilities kept: {kept}; files: {files}; system calls: {calls}")
}
