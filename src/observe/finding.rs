//! What a check has found: before every run of the server and its indices, with `--check` of everything.

use std::fmt;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// The run can go on; an operator should know.
    Warning,
    /// The run would lose or spoil data, or fail.
    Failed,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found and what to do about it, one line, lower case, without a full stop.
    pub text: String,
}

impl Check {
    fn new(name: &'static str, status: Status, text: impl Into<String>) -> Self {
        Self { name, status, text: text.into() }
    }

    /// One with nothing to do.
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, text)
    }

    /// One that an operator should know of.
    pub(crate) fn warning(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, text)
    }

    /// One that keeps a run from being done, or from being done right.
    pub(crate) fn failed(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, text)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "failed",
        };
        write!(f, "{status}: {}: {}", self.name, self.text)
    }
}
