//! Decides how long one request is retried without progress.
//!
//! The budget starts with the first attempt that failed since the last progress, of this request or of all requests to
//! the server ([`SharedHealth`]). The last attempt starts when the budget ends.

use std::time::{Duration, Instant};

use super::back_off::{at_least, back_off};
use super::policy::Policy;
use super::shared_health::SharedHealth;
use super::throttle::Stopped;
use super::warnings::Warnings;
use crate::common::exit::{ExitCode, Failure};
use crate::process::shutdown::Stop;

/// Minimum time limit of an attempt, even at the end of the budget. A busy server takes some seconds to answer.
const SHORTEST_CALL: Duration = Duration::from_secs(10);

/// Interval of log lines on failed attempts, for a limited budget.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Interval of log lines on failed attempts, for an unlimited budget.
const WARN_EVERY_FOR_EVER: Duration = Duration::from_secs(60);

/// The request is given up: the server refused it, its budget is spent, or the run is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp(pub Failure);

impl From<GivenUp> for Failure {
    fn from(GivenUp(failure): GivenUp) -> Self {
        failure
    }
}

impl From<GivenUp> for Stopped {
    /// Drops the failure. Where giving up ends the run ([`Retries::ending_the_run`]), the run already has it.
    fn from(_: GivenUp) -> Self {
        Stopped
    }
}

/// Settings shared by all retried requests to one server.
pub struct Retries<'r> {
    stop: &'r Stop,
    policy: Policy,
    shared_health: Option<&'r dyn SharedHealth>,
    ends_run: bool,
    warnings: Warnings,
}

impl<'r> Retries<'r> {
    /// Creates settings for requests that are each retried on their own.
    pub fn new(stop: &'r Stop, policy: Policy) -> Self {
        let warnings = Warnings::new(if policy.budget.is_some() { WARN_EVERY } else { WARN_EVERY_FOR_EVER });
        Self { stop, policy, shared_health: None, ends_run: false, warnings }
    }

    /// Makes the requests share one outage, and its budget, with other requests.
    pub fn shared_health(self, others: &'r dyn SharedHealth) -> Self {
        Self { shared_health: Some(others), ..self }
    }

    /// Makes the run stop at once when one request is given up.
    pub fn ending_the_run(self) -> Self {
        Self { ends_run: true, ..self }
    }

    /// Returns the signal that ends all waiting.
    pub fn stop(&self) -> &'r Stop {
        self.stop
    }

    /// Returns the patience for a new request.
    pub fn patience(&self) -> Patience<'_> {
        Patience {
            retries: self,
            attempt_started: Instant::now(),
            failures: 0,
            interruptions: 0,
            away: false,
            failing_since: None,
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
    attempt_started: Instant,
    failures: u32,
    /// How often in a row the connection broke during this request and no other.
    interruptions: u32,
    /// Whether an attempt since the last progress found the server away.
    away: bool,
    /// Start of the first attempt that failed since the last progress.
    failing_since: Option<Instant>,
    /// When the server first refused credentials, or anything else that retrying does not change.
    refused_since: Option<Instant>,
}

impl Patience<'_> {
    /// Starts an attempt. Returns its [`limit`](Self::limit).
    pub fn begin(&mut self) -> Duration {
        self.attempt_started = Instant::now();
        self.retries.stop.pulse().beat(Duration::ZERO);
        self.limit()
    }

    /// Returns the time limit of a call: what is left of the budget, but at least 10 s.
    pub fn limit(&self) -> Duration {
        self.left().map_or(Duration::MAX, |left| left.max(SHORTEST_CALL))
    }

    /// Returns whether an attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Returns how long this request has made no progress.
    pub fn failing_for(&self) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns how often in a row the connection broke during this request, while the server answered another one right
    /// after. A request that is too large may have that effect.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    /// Records that part of the result has arrived: budget and back-off start again.
    pub fn progressed(&mut self) {
        (self.failing_since, self.failures, self.away) = (Some(Instant::now()), 0, false);
    }

    /// Records a failed attempt, and waits before the next one. `progress`: the server carried out part of it.
    pub fn failed(&mut self, reason: &str, progress: bool) -> Result<(), GivenUp> {
        self.interruptions = 0;
        if progress {
            self.progressed();
        }
        // The server accepts what it refused, unless it was away and is still starting.
        if !self.away {
            self.refused_since = None;
        }
        self.wait(reason, None, None)
    }

    /// Like [`Self::failed`], but the attempt found the server away: no connection, or a server that is not ready.
    pub fn away(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.away_for(reason, None)
    }

    /// Like [`Self::away`], but the server sent `Retry-After`. Where several senders share a server, the throttle takes
    /// care of that header.
    pub fn away_for(&mut self, reason: &str, retry_after: Option<Duration>) -> Result<(), GivenUp> {
        self.interruptions = 0;
        self.away = true;
        self.wait(reason, retry_after, None)
    }

    /// Like [`Self::failed`], but the connection broke while the server answers other requests. The server is
    /// available, so this costs no budget.
    pub fn interrupted(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.failing_since = None;
        // Pauses even if the server accepts other requests: these attempts must not all fall into one bad moment.
        let pause = back_off(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.pause(reason, pause)
    }

    /// Like [`Self::interrupted`], but no answer came in time. This costs budget, since the server may hang.
    pub fn unanswered(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.wait(reason, None, None)
    }

    /// Records that the server refused credentials, or anything else that retrying does not change. If the server was
    /// away until now, the node may still be starting, so for a while this counts as any failed attempt
    /// ([`Policy::starting`]). Otherwise, or once the budget is spent, the request is given up with `failure`.
    pub fn refused(&mut self, failure: Failure) -> Result<(), GivenUp> {
        self.refused_for(Duration::ZERO, failure)
    }

    /// Like [`Self::refused`], but the refusal is not final before it has lasted for `least`.
    pub fn refused_for(&mut self, least: Duration, failure: Failure) -> Result<(), GivenUp> {
        self.interruptions = 0;
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let was_away = self.away || self.retries.shared_health.is_some_and(SharedHealth::was_away);
        let starting = if was_away { self.retries.policy.starting } else { Duration::ZERO };
        if since.elapsed() < starting.max(least) {
            let reason = failure.message.clone();
            return self.wait(&reason, None, Some(failure));
        }
        Err(self.retries.give_up(failure))
    }

    /// Waits for the next attempt, or gives up once the budget is spent. The failure is then `final_failure`; None: the
    /// server is unavailable.
    fn wait(
        &mut self,
        reason: &str,
        retry_after: Option<Duration>,
        final_failure: Option<Failure>,
    ) -> Result<(), GivenUp> {
        self.failing_since.get_or_insert(self.attempt_started);
        let pause = self.next_pause(retry_after);
        let left = self.left();
        if left == Some(Duration::ZERO) && !self.retries.stop.is_requested() {
            let failure = final_failure.unwrap_or_else(|| self.unavailable(reason));
            return Err(self.retries.give_up(failure));
        }
        // The last attempt comes when the budget ends, not a back-off before.
        self.pause(reason, left.map_or(pause, |left| pause.min(left)))
    }

    /// Returns the rest of the budget; None: there is no limit.
    fn left(&self) -> Option<Duration> {
        self.retries.policy.budget.map(|budget| budget.saturating_sub(self.waited()))
    }

    /// Returns how long there has been no progress, of this request or of all.
    fn waited(&self) -> Duration {
        self.failing_for().max(self.retries.shared_health.map_or(Duration::ZERO, SharedHealth::failing_for))
    }

    fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let own = match self.retries.shared_health {
            Some(others) => others.own_pause(self.failures, fastrand::f64()),
            None => back_off(self.failures, fastrand::f64()),
        };
        let pause = at_least(own, retry_after);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Waits for `pause`. The log gives the time to the next attempt, which may be longer: all senders may be paused.
    fn pause(&self, reason: &str, pause: Duration) -> Result<(), GivenUp> {
        let Retries { stop, policy, shared_health, warnings, .. } = self.retries;
        if !stop.is_requested() {
            let of_all = shared_health.and_then(SharedHealth::pause);
            warnings.failed(policy.server, reason, of_all.map_or(pause, |of_all| of_all.max(pause)));
        }
        if stop.wait(pause) { Ok(()) } else { Err(GivenUp(stop.as_failure())) }
    }

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
