//! Questions outside bulk requests: asked until there is an answer, as long as there is patience.

use std::time::Duration;

use super::preflight::{Outage, PreflightError};
use crate::exit::Failure;
use crate::retry::patience::{GivenUp, Retries};
use crate::retry::policy::Policy;

/// A node that has just started may not find its keys and indices yet, and refuses what it accepts a moment later (401,
/// as seen of 9.5.3 after a crash). For so long a refusal that follows an outage is taken for that.
const STARTING: Duration = Duration::from_secs(60);

/// How Elasticsearch is waited for.
pub fn policy(budget: Option<Duration>) -> Policy {
    Policy { starting: STARTING, ..Policy::new("Elasticsearch", budget) }
}

/// There is no answer, and it is not asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// What came of the last attempt.
    pub last: PreflightError,
    /// Why there is none after it.
    pub failure: Failure,
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.failure
    }
}

/// Asks until the answer is not "unavailable"; a server that asks to be left alone for a while is. `ask` is told how long
/// a request may take.
///
/// # Errors
///
/// Where the server refuses, the budget is spent, or the run is to stop.
pub fn insist<T>(
    retries: &Retries<'_>,
    mut ask: impl FnMut(Duration) -> Result<T, PreflightError>,
) -> Result<T, Unanswered> {
    let mut patience = retries.patience();
    loop {
        let last = match ask(patience.begin()) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let again = match &last {
            PreflightError::Unavailable(Outage { why, retry_after }) => patience.away_for(why, *retry_after),
            PreflightError::Refused(_) => patience.refused(last.clone().into()),
        };
        if let Err(GivenUp(failure)) = again {
            return Err(Unanswered { last, failure });
        }
    }
}

/// As [`insist`], for questions whose answers are of no use once the run is to stop, as are those of a preflight: then
/// nobody waits for a server that is silent.
///
/// # Errors
///
/// As for [`insist`].
pub fn insist_until_stopped<T: Send + 'static>(
    retries: &Retries<'_>,
    ask: impl Fn(Duration) -> Result<T, PreflightError> + Clone + Send + 'static,
) -> Result<T, Unanswered> {
    insist(retries, |limit| {
        let ask = ask.clone();
        match retries.stop().unless_requested(move || ask(limit)) {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(PreflightError::unavailable("the run is to stop")),
            Err(error) => {
                Err(PreflightError::unavailable(format!("there is no thread for the request: {error}")))
            }
        }
    })
}
