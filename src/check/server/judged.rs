//! What came of one server.

use std::net::SocketAddr;

use crate::check::Verdict;

/// A verdict on one server.
pub(super) struct Judged {
    pub(super) target: SocketAddr,
    pub(super) verdict: Verdict,
    pub(super) text: String,
    /// What shows why it failed.
    pub(super) command: Option<String>,
}

// === impl Judged ===

impl Judged {
    /// One that did not fail.
    pub(super) fn new(target: SocketAddr, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            target,
            verdict,
            text: text.into(),
            command: None,
        }
    }

    /// One that failed, and the command that shows why.
    pub(super) fn failed(
        target: SocketAddr,
        text: impl Into<String>,
        command: impl Into<String>,
    ) -> Self {
        Self {
            command: Some(command.into()),
            ..Self::new(target, Verdict::Fail, text)
        }
    }
}
