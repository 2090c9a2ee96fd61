//! Retry policy of a server.

use std::time::Duration;

/// How requests to a server are retried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Name of the server, for log lines and failures.
    pub server: &'static str,
    /// How long a request is retried without progress; None: without limit.
    pub budget: Option<Duration>,
    /// Time after an outage during which the server may still be starting, so that a refusal is not final. Zero: every
    /// refusal is final.
    pub starting: Duration,
}

impl Policy {
    /// Creates the policy for a server whose refusals are final.
    pub fn new(server: &'static str, budget: Option<Duration>) -> Self {
        Self { server, budget, starting: Duration::ZERO }
    }
}
