//! Repeats requests other than bulk requests until there is an answer or the retry budget is spent.

use std::time::Duration;

use super::answer::{NoAnswer, Outage};
use crate::common::exit::Failure;
use crate::retry::patience::{GivenUp, Retries};
use crate::retry::policy::Policy;

/// Time after an outage in which a refusal counts as temporary. A node that has just started may not find its keys and
/// indices yet, and refuses what it accepts a moment later (401, seen in 9.5.3 after a crash).
const STARTING: Duration = Duration::from_secs(60);

/// Time for which names that cannot be used any more count as being moved. Scripts that remove an alias and add it again
/// elsewhere in two requests leave such a gap.
pub const MOVING: Duration = Duration::from_secs(10);

/// The first refusal is final.
pub const AT_ONCE: Duration = Duration::ZERO;

/// Returns the retry policy for Elasticsearch.
pub fn policy(budget: Option<Duration>) -> Policy {
    Policy { starting: STARTING, ..Policy::new("Elasticsearch", budget) }
}

/// There is no answer, and there will be no further attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Result of the last attempt.
    pub last: NoAnswer,
    /// Why there is no further attempt.
    pub failure: Failure,
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.failure
    }
}

/// Repeats a request until the answer is not "unavailable". Honours `Retry-After`. A refusal is not final before it has
/// lasted for `least`. `ask` gets the time limit of the request.
///
/// # Errors
///
/// Returns an error if the server refuses, the budget is spent, or the run is to stop.
pub fn retry<T>(
    retries: &Retries<'_>,
    least: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, NoAnswer>,
) -> Result<T, Unanswered> {
    let mut patience = retries.patience();
    loop {
        let last = match ask(patience.begin()) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let again = match &last {
            NoAnswer::Unavailable(Outage { why, retry_after }) => patience.away_for(why, *retry_after),
            NoAnswer::Refused(_) => patience.refused_for(least, last.clone().into()),
        };
        if let Err(GivenUp(failure)) = again {
            return Err(Unanswered { last, failure });
        }
    }
}

/// Like [`retry`], for requests whose answers are useless once the run is to stop, such as those of a preflight. A
/// stop then does not wait for a silent server.
pub fn retry_until_stopped<T: Send + 'static>(
    retries: &Retries<'_>,
    least: Duration,
    ask: impl Fn(Duration) -> Result<T, NoAnswer> + Clone + Send + 'static,
) -> Result<T, Unanswered> {
    retry(retries, least, |limit| {
        let ask = ask.clone();
        match retries.stop().unless_requested(move || ask(limit)) {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(NoAnswer::unavailable("the run was stopped")),
            Err(error) => Err(NoAnswer::unavailable(format!("there is no thread for the request: {error}"))),
        }
    })
}
