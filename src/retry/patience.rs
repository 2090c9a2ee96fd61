//! Decides how long one request is tried without progress.
//!
//! The budget counts from the start of the first attempt that failed after the last progress, of this request or of all
//! ([`Together`]). The last attempt comes when it ends.

use std::time::{Duration, Instant};

use super::back_off::{at_least, back_off};
use super::policy::Policy;
use super::throttle::Stopped;
use super::together::Together;
use super::warnings::Warnings;
use crate::exit::{ExitCode, Failure};
use crate::shutdown::Stop;

/// Least time for an attempt, however little is left of the budget: a busy server takes some seconds.
const SHORTEST_CALL: Duration = Duration::from_secs(10);

/// A request is given up: it is refused, its budget is spent, or the run is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp(pub Failure);

impl From<GivenUp> for Failure {
    fn from(GivenUp(failure): GivenUp) -> Self {
        failure
    }
}

impl From<GivenUp> for Stopped {
    /// Drops the failure: where giving up ends the run ([`Retries::ending_the_run`]), the run already knows it.
    fn from(_: GivenUp) -> Self {
        Stopped
    }
}

/// Settings that retried requests to one server share.
pub struct Retries<'r> {
    stop: &'r Stop,
    policy: Policy,
    together: Option<&'r dyn Together>,
    ends_run: bool,
    warnings: Warnings,
}

impl<'r> Retries<'r> {
    /// Creates settings for requests that are each tried on their own.
    pub fn new(stop: &'r Stop, policy: Policy) -> Self {
        let warnings = Warnings::new(policy.warn_every);
        Self { stop, policy, together: None, ends_run: false, warnings }
    }

    /// Makes the requests share one outage and its budget with others.
    pub fn together(self, others: &'r dyn Together) -> Self {
        Self { together: Some(others), ..self }
    }

    /// Makes giving up one request stop the run at once.
    pub fn ending_the_run(self) -> Self {
        Self { ends_run: true, ..self }
    }

    /// Returns what ends all waiting.
    pub fn stop(&self) -> &'r Stop {
        self.stop
    }

    /// Returns the patience for a request that has not been tried yet.
    pub fn patience(&self) -> Patience<'_> {
        Patience {
            retries: self,
            begun: Instant::now(),
            failures: 0,
            interruptions: 0,
            away: false,
            since: None,
            refused_since: None,
        }
    }

    fn give_up(&self, failure: Failure) -> GivenUp {
        if self.ends_run {
            self.stop.fail(failure.clone());
        }
        GivenUp(failure)
    }
}

/// Counts the failed attempts at one request, waits between them, and gives up when the budget is spent.
pub struct Patience<'r> {
    retries: &'r Retries<'r>,
    /// Start of the last attempt.
    begun: Instant,
    failures: u32,
    /// Times in a row that the connection broke during this request and no other.
    interruptions: u32,
    /// Whether the server was away at an attempt since the last progress.
    away: bool,
    /// Start of the first attempt that failed since the last progress.
    since: Option<Instant>,
    /// When credentials, or anything else that does not change by itself, were first refused.
    refused_since: Option<Instant>,
}

impl Patience<'_> {
    /// Starts an attempt. Returns its time limit: no longer than what is left of the budget.
    pub fn begin(&mut self) -> Duration {
        self.begun = Instant::now();
        self.retries.stop.pulse().beat(Duration::ZERO);
        self.left().map_or(Duration::MAX, |left| left.max(SHORTEST_CALL))
    }

    /// Whether an attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Returns how long this request has made no progress.
    pub fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns how often in a row the connection broke during this request while the server answered another one right
    /// after. A server may do that to a request that is too large for it.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    /// Records that part of the result has come: budget and back-off start anew.
    pub fn progressed(&mut self) {
        (self.since, self.failures, self.away) = (Some(Instant::now()), 0, false);
    }

    /// Records a failed attempt, and waits before the next one. With `progress` part of it succeeded.
    pub fn failed(&mut self, reason: &str, progress: bool) -> Result<(), GivenUp> {
        self.interruptions = 0;
        if progress {
            self.progressed();
        }
        self.wait(reason, None, None)
    }

    /// As [`Self::failed`], for an attempt that found the server away: no connection, or a server that is not ready.
    pub fn away(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.away_for(reason, None)
    }

    /// As [`Self::away`], for a server that sent `Retry-After`. Where several senders share a server, the throttle
    /// takes care of it.
    pub fn away_for(&mut self, reason: &str, retry_after: Option<Duration>) -> Result<(), GivenUp> {
        self.interruptions = 0;
        self.away = true;
        self.wait(reason, retry_after, None)
    }

    /// As [`Self::failed`], for a connection that broke while the server answers other requests. It is not unavailable,
    /// so this costs no budget.
    pub fn interrupted(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.since = None;
        // Always pauses, even if the server accepts other requests: these attempts must not all fall into one bad
        // moment.
        let pause = back_off(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.pause(reason, pause)
    }

    /// As [`Self::interrupted`], for an attempt without an answer in time. This costs budget, since the server may
    /// hang.
    pub fn unanswered(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.wait(reason, None, None)
    }

    /// The server refused credentials, or anything else that does not change by itself. If it was away until now, the
    /// node may still be starting, so for a while this counts as any failed attempt ([`Policy::starting`]). Otherwise,
    /// or once the budget is spent, the request is given up with `failure`.
    pub fn refused(&mut self, failure: Failure) -> Result<(), GivenUp> {
        self.interruptions = 0;
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let was_away = self.away || self.retries.together.is_some_and(Together::was_away);
        if was_away && since.elapsed() < self.retries.policy.starting {
            let reason = failure.message.clone();
            return self.wait(&reason, None, Some(failure));
        }
        Err(self.retries.give_up(failure))
    }

    /// Waits for the next attempt. Gives up when the budget is spent: with `at_the_end`, or because the server is
    /// unavailable.
    fn wait(
        &mut self,
        reason: &str,
        retry_after: Option<Duration>,
        at_the_end: Option<Failure>,
    ) -> Result<(), GivenUp> {
        self.since.get_or_insert(self.begun);
        let pause = self.next_pause(retry_after);
        let left = self.left();
        if left == Some(Duration::ZERO) && !self.retries.stop.is_requested() {
            let failure = at_the_end.unwrap_or_else(|| self.unavailable(reason));
            return Err(self.retries.give_up(failure));
        }
        // The last attempt comes when the budget ends, not a back-off before.
        self.pause(reason, left.map_or(pause, |left| pause.min(left)))
    }

    /// Returns what is left of the budget; None: there is no limit.
    fn left(&self) -> Option<Duration> {
        self.retries.policy.budget.map(|budget| budget.saturating_sub(self.waited()))
    }

    /// Returns how long there has been no progress, of this request or of all.
    fn waited(&self) -> Duration {
        self.lasts().max(self.retries.together.map_or(Duration::ZERO, Together::failing_for))
    }

    fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let own = match self.retries.together {
            Some(others) => others.own_pause(self.failures, fastrand::f64()),
            None => back_off(self.failures, fastrand::f64()),
        };
        let pause = at_least(own, retry_after);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Waits for `pause`. The log names the time to the next attempt, which may be longer: all senders may be paused.
    fn pause(&self, reason: &str, pause: Duration) -> Result<(), GivenUp> {
        let Retries { stop, policy, together, warnings, .. } = self.retries;
        if !stop.is_requested() {
            let of_all = together.and_then(Together::pause);
            warnings.failed(policy.server, reason, of_all.map_or(pause, |of_all| of_all.max(pause)));
        }
        if stop.wait(pause) { Ok(()) } else { Err(GivenUp(stop.as_failure())) }
    }

    /// Returns the failure at the end of the budget.
    fn unavailable(&self, reason: &str) -> Failure {
        let Policy { server, budget, .. } = self.retries.policy;
        let message = if budget == Some(Duration::ZERO) {
            format!("{server} is unavailable: {reason}")
        } else {
            format!(
                "{server} has been unavailable for {} s, longer than --retry-budget allows ({reason}); \
                 unconfirmed archives stay pending: run again once it is back",
                self.waited().as_secs()
            )
        };
        Failure::new(ExitCode::Unavailable, message)
    }
}

#[cfg(test)]
mod tests;
