//! `glommproxy check`: what it says of a host where something is missing, and of one where nothing is.

mod access_log;
mod elsewhere;
mod host;
mod interrupted;
mod listening;
mod lists;
mod live;
mod names;
mod routes;
mod servers;
mod well;

use std::ffi::OsStr;

use serde_json::Value;

use crate::harness::{Exit, Proxy};
use crate::namespace::TestResult;

/// What no command mends: each distribution has its own way to replace an old kernel.
const WITHOUT_COMMAND: [&str; 1] = ["kernel"];

/// What a check found.
struct Found {
    code: Option<i32>,
    report: Value,
}

/// Checks with these flags.
#[track_caller]
fn check(flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> TestResult<Found> {
    check_under([""; 0], flags)
}

/// Checks with these flags, started through another program.
#[track_caller]
fn check_under(
    wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>,
    flags: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> TestResult<Found> {
    let check = Proxy::builder().bare().under(wrapper);
    let exit = check.args(["check", "--json"]).args(flags);
    Found::read(exit.start_in_vain()?)
}

// === impl Found ===

impl Found {
    fn read(exit: Exit) -> TestResult<Self> {
        let [report] = exit.log.as_slice() else {
            return Err(format!("not one line: {exit:?}").into());
        };
        if !exit.stderr.is_empty() || !report.is_object() {
            return Err(format!("no report: {exit:?}").into());
        }
        let (code, report) = (exit.code, report.clone());
        let failed = || Self::rows(&report).filter(|row| row["verdict"] == "FAIL");
        let has_failed = failed().next().is_some();
        assert_eq!(report["ok"], !has_failed);
        assert_eq!(code, Some(i32::from(has_failed)));
        let helpless = failed().find(|row| {
            let subject = row["check"].as_str().unwrap_or_default();
            let commands = row["commands"].as_array();
            commands.is_none_or(Vec::is_empty) && !WITHOUT_COMMAND.contains(&subject)
        });
        assert_eq!(helpless, None, "no command for it");
        Ok(Self { code, report })
    }

    fn rows(report: &Value) -> impl Iterator<Item = &Value> {
        report["checks"].as_array().into_iter().flatten()
    }

    /// Nothing failed.
    #[track_caller]
    fn expect_success(&self) -> TestResult {
        match self.code {
            Some(0) => Ok(()),
            code => Err(format!("exit code {code:?}: {:#}", self.report).into()),
        }
    }

    /// The row of this subject came out so, and says all of this.
    #[track_caller]
    fn expect(&self, subject: &str, verdict: &str, words: &[&str]) -> TestResult<&Value> {
        let row = Self::rows(&self.report).find(|row| row["check"] == subject);
        let row = row.ok_or_else(|| format!("no row {subject}: {:#}", self.report))?;
        let finding = row["finding"].as_str().unwrap_or_default();
        let told = words.iter().all(|words| finding.contains(words));
        if row["verdict"] != verdict || !told {
            return Err(format!("wanted {verdict} {words:?}, not {row:#}").into());
        }
        Ok(row)
    }

    /// The row of this subject failed, and these are the commands that mend it.
    #[track_caller]
    fn expect_commands(&self, subject: &str, commands: &[&str]) -> TestResult {
        let row = self.expect(subject, "FAIL", &[])?;
        assert_eq!(row["commands"], serde_json::json!(commands), "{row:#}");
        Ok(())
    }

    /// The subjects that came out so.
    fn all(&self, verdict: &str) -> Vec<&str> {
        let rows = Self::rows(&self.report).filter(|row| row["verdict"] == verdict);
        rows.filter_map(|row| row["check"].as_str()).collect()
    }
}
