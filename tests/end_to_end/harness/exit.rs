//! How the proxy ended.

use serde_json::Value;

use crate::namespace::TestResult;

/// Everything there is to know of a proxy that has ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// The exit code; None if a signal killed it.
    pub(crate) code: Option<i32>,
    /// All lines of its log.
    pub(crate) log: Vec<Value>,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

// === impl Exit ===

impl Exit {
    /// It ended as it should, and had nothing to complain of.
    #[track_caller]
    pub(crate) fn expect_success(&self) -> TestResult {
        if self.code != Some(0) || !self.stderr.is_empty() {
            return Err(format!("the proxy ended with {:?}: {}", self.code, self.stderr).into());
        }
        Ok(())
    }

    /// One of the numbers it gives at its end.
    #[track_caller]
    pub(crate) fn total(&self, name: &str) -> TestResult<u64> {
        let totals = self.log.iter().find(|line| line["message"] == "stopped");
        let total = totals.and_then(|line| line[name].as_u64());
        total.ok_or_else(|| format!("no total of {name}").into())
    }

    /// What it logged since it was ready, but that it stops: of its connections and flows, that is.
    pub(crate) fn log_since_ready(&self) -> Vec<Value> {
        let lines = self.log.iter();
        let lines = lines.skip_while(|line| line["message"] != "ready").skip(1);
        let of_itself =
            |line: &&Value| line["message"] == "stopping" || line["message"] == "stopped";
        lines.filter(|line| !of_itself(line)).cloned().collect()
    }

    /// It gave up, and said why in one line with these words.
    #[track_caller]
    pub(crate) fn expect_failure(&self, words: &[&str]) -> TestResult {
        let one_line = self.stderr.lines().count() == 1 && self.stderr.starts_with("glommproxy: ");
        let told = words.iter().all(|words| self.stderr.contains(words));
        if self.code != Some(1) || !one_line || !told {
            let (code, stderr) = (self.code, &self.stderr);
            return Err(
                format!("the proxy ended with {code:?}: {stderr}; wanted {words:?}").into(),
            );
        }
        Ok(())
    }
}
