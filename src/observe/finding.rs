//! Results of checks. Every run checks the server and its indices first; `--check` checks everything.

use std::fmt;

/// The status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// The run can continue, but the operator should know.
    Warning,
    /// The run would lose or corrupt data, or fail.
    Failed,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check.
    pub name: &'static str,
    /// Status of the check.
    pub status: Status,
    /// What was found and what to do about it: one line, lower case, without a full stop.
    pub text: String,
}

impl Check {
    fn new(name: &'static str, status: Status, text: impl Into<String>) -> Self {
        Self { name, status, text: text.into() }
    }

    /// Creates a result with nothing to do.
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, text)
    }

    /// Creates a result that the operator should know of.
    pub(crate) fn warning(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, text)
    }

    /// Creates a result that prevents the run.
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
