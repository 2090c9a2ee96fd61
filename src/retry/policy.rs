//! In what the servers differ that are waited for.

use std::time::Duration;

/// Between two lines on failed attempts, where the wait has an end.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Between two lines on failed attempts, where it has none.
const WARN_EVERY_FOR_EVER: Duration = Duration::from_secs(60);

/// How a server is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Its name, for the log and for failures.
    pub server: &'static str,
    /// How long a request is tried without any progress; None: for ever.
    pub budget: Option<Duration>,
    /// Between two lines on failed attempts.
    pub warn_every: Duration,
    /// For so long a refusal that follows an outage is taken for that of a server that is not quite there yet. Zero: a
    /// refusal is one.
    pub starting: Duration,
}

impl Policy {
    /// A server whose refusals are meant.
    pub fn new(server: &'static str, budget: Option<Duration>) -> Self {
        let warn_every = if budget.is_some() { WARN_EVERY } else { WARN_EVERY_FOR_EVER };
        Self { server, budget, warn_every, starting: Duration::ZERO }
    }
}
