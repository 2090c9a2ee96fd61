//! Retry policy of a server.

use std::time::Duration;

/// Interval of log lines on failed attempts, for a limited budget.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Interval of log lines on failed attempts, for an unlimited budget.
const WARN_EVERY_FOR_EVER: Duration = Duration::from_secs(60);

/// How requests to a server are retried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Name of the server, for log lines and failures.
    pub server: &'static str,
    /// How long a request is retried without progress; None: without limit.
    pub budget: Option<Duration>,
    /// Interval of log lines on failed attempts.
    pub warn_every: Duration,
    /// Time after an outage during which the server may still be starting, so that a refusal is not final. Zero: every
    /// refusal is final.
    pub starting: Duration,
}

impl Policy {
    /// Creates the policy for a server whose refusals are final.
    pub fn new(server: &'static str, budget: Option<Duration>) -> Self {
        let warn_every = if budget.is_some() { WARN_EVERY } else { WARN_EVERY_FOR_EVER };
        Self { server, budget, warn_every, starting: Duration::ZERO }
    }
}
