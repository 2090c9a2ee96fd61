//! Exit codes (contract, section 1) and the failures that lead to them.

use std::fmt;

use serde::{Serialize, Serializer};

/// The exit codes. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything asked for is done, or a spool run was stopped by a signal.
    Done = 0,
    /// The run failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Done, with rejected rows, failed archives or differences found.
    DoneWithRejects = 3,
    /// Elasticsearch or S3 was unavailable past the budget.
    Unavailable = 4,
    /// Elasticsearch or S3 refuses: certificate, credentials, privileges, indices, mapping.
    Refused = 5,
    /// The state file is locked by another process.
    Locked = 6,
    /// A `once` run was stopped by SIGINT before its end.
    Interrupted = 130,
    /// A `once` run was stopped by SIGTERM before its end.
    Terminated = 143,
}

impl ExitCode {
    /// Returns the number that the shell sees.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl Serialize for ExitCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// The exit codes with their meanings, in Markdown: back-ticks mark literal words.
pub const EXIT_CODES: &[(ExitCode, &str)] = &[
    (ExitCode::Done, "everything asked for is done, or a spool run was stopped by a signal"),
    (ExitCode::Failed, "the run failed, or archives could not be read for now"),
    (ExitCode::Usage, "a setting, or a file that it names, cannot be used; nothing was done"),
    (ExitCode::DoneWithRejects, "done, with rejected rows, failed archives or differences found"),
    (ExitCode::Unavailable, "Elasticsearch or S3 was unavailable for longer than the retry budget"),
    (ExitCode::Refused, "refused because of a certificate, credentials, privileges, indices or the mapping"),
    (ExitCode::Locked, "the state file is locked by another process"),
    (ExitCode::Interrupted, "a `once` run was stopped by SIGINT before its end"),
    (ExitCode::Terminated, "a `once` run was stopped by SIGTERM or SIGHUP before its end"),
];

/// Why a run cannot continue: an exit code and a message for the operator.
///
/// The message names what failed and the setting, archive or server, and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What happened and what to do: one line, lower case, without a full stop.
    pub message: String,
}

impl Failure {
    /// Creates a failure with its exit code.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates a failure of usage or configuration (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Creates a failure that has no code of its own (exit code 1).
    pub fn run(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::ExitCode::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let codes =
            [Done, Failed, Usage, DoneWithRejects, Unavailable, Refused, Locked, Interrupted, Terminated];
        assert_eq!(codes.map(|code| code.number()), [0, 1, 2, 3, 4, 5, 6, 130, 143]);
    }
}
