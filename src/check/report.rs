//! What was found, as lines and as JSON.

use std::fmt;

use serde_json::{Value, json};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not looked at.
    Skip,
    /// Worth a look, but the proxy runs.
    Warn,
    /// The proxy would not start, or not serve anybody.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is: a short name that stays the same.
    pub subject: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, and what mends it, in one line.
    pub finding: String,
    /// The shell commands that mend it, or show what is wrong, if such there are. They may be part of what was found.
    pub commands: Vec<String>,
}

/// Everything that was looked at, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A row for each thing.
    pub rows: Vec<Row>,
}

// === impl Verdict ===

impl Verdict {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Skip => "SKIP",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

// === impl Row ===

impl Row {
    /// A row without commands.
    pub(super) fn new(subject: &str, verdict: Verdict, finding: impl fmt::Display) -> Self {
        Self {
            subject: subject.to_owned(),
            verdict,
            finding: finding.to_string(),
            commands: Vec::new(),
        }
    }

    /// OK with what was found, or FAIL with why and the commands that mend it.
    pub(super) fn of<T, E: fmt::Display>(
        subject: &str,
        result: Result<T, E>,
        finding: impl FnOnce(T) -> String,
        commands: impl FnOnce(&E) -> Vec<String>,
    ) -> Self {
        match result {
            Ok(found) => Self::new(subject, Verdict::Ok, finding(found)),
            Err(error) => {
                let commands = commands(&error);
                Self::new(subject, Verdict::Fail, error).mended_by(commands)
            }
        }
    }

    /// With the commands that mend it.
    pub(super) fn mended_by(mut self, commands: Vec<String>) -> Self {
        self.commands = commands;
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finding = without_control(&self.finding);
        write!(
            f,
            "{:<5} {:<16} {finding}",
            self.verdict.name(),
            self.subject
        )?;
        // What has been said is not said again.
        let commands = self.commands.iter().map(|it| without_control(it));
        let commands: Vec<String> = commands.filter(|it| !finding.contains(it)).collect();
        if !commands.is_empty() {
            write!(f, ": {}", commands.join("; "))?;
        }
        Ok(())
    }
}

/// A path or an error of the system's could have a line break in it.
fn without_control(text: &str) -> String {
    text.replace(char::is_control, "?")
}

// === impl Report ===

impl Report {
    /// Whether nothing failed.
    pub fn ok(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Fail)
    }

    /// A line for each row, and one for all.
    pub fn text(&self) -> String {
        let lines = self.rows.iter().map(|row| format!("{row}\n"));
        let failed = self.rows.iter().filter(|row| row.verdict == Verdict::Fail);
        let sum = match (failed.count(), self.rows.len()) {
            (0, _) => "\nNothing stands in the way.\n".to_owned(),
            (failed, all) => {
                format!("\n{failed} of {all} failed: mend the first, and look again.\n")
            }
        };
        lines.chain([sum]).collect()
    }

    /// The same as one JSON object in one line.
    pub fn json(&self) -> String {
        let row = |row: &Row| -> Value {
            json!({
                "check": row.subject,
                "verdict": row.verdict.name(),
                "finding": row.finding,
                "commands": row.commands,
            })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "{}\n",
            json!({ "ok": self.ok(), "version": version, "checks": rows })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let commands = vec!["one".to_owned(), "two".to_owned()];
        let rows = vec![
            Row::new("kernel", Verdict::Ok, "Linux 6.1"),
            Row::new("a", Verdict::Fail, "new\nlines").mended_by(commands),
        ];
        Report { rows }
    }

    #[test]
    fn a_row_is_one_line_with_the_commands_that_mend_it() {
        assert_eq!(
            report().text(),
            "OK    kernel           Linux 6.1\n\
             FAIL  a                new?lines: one; two\n\
             \n\
             1 of 2 failed: mend the first, and look again.\n"
        );
    }

    #[test]
    fn commands_that_were_named_are_not_repeated() {
        let row = Row::new("a", Verdict::Fail, "type `one` or `two`");
        for (commands, shown) in [
            (["one", "two"], ""),
            (["one", "a new\nline"], ": a new?line"),
        ] {
            let row = row.clone().mended_by(commands.map(str::to_owned).into());
            let wanted = format!("FAIL  a                type `one` or `two`{shown}");
            assert_eq!(row.to_string(), wanted);
        }
    }

    #[test]
    fn json_says_the_same() {
        let mut report = report();
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["checks"][1],
            json!({"check": "a", "verdict": "FAIL", "finding": "new\nlines", "commands": ["one", "two"]})
        );
        for verdict in [Verdict::Ok, Verdict::Skip, Verdict::Warn] {
            report.rows[1].verdict = verdict;
            assert!(report.ok() && report.json().contains("\"ok\":true"));
        }
    }
}
