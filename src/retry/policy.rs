//! The waiting policy of each server.

use std::time::Duration;

/// Interval of log lines on failed attempts, where the wait has an end.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Interval of log lines on failed attempts, where the wait has no end.
const WARN_EVERY_FOR_EVER: Duration = Duration::from_secs(60);

/// Policy of waiting for a server.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Name of the server, for the log and for failures.
    pub server: &'static str,
    /// How long a request is tried without progress; None: for ever.
    pub budget: Option<Duration>,
    /// Interval of log lines on failed attempts.
    pub warn_every: Duration,
    /// Time after an outage during which a refusal counts as that of a server that is still starting. Zero: a refusal
    /// is final.
    pub starting: Duration,
}

impl Policy {
    /// Creates the policy for a server whose refusals are final.
    pub fn new(server: &'static str, budget: Option<Duration>) -> Self {
        let warn_every = if budget.is_some() { WARN_EVERY } else { WARN_EVERY_FOR_EVER };
        Self { server, budget, warn_every, starting: Duration::ZERO }
    }
}
