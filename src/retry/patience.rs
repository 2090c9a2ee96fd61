//! How long one request is tried without any progress.
//!
//! The budget counts from the start of the first attempt that failed after the last progress, of this request or of all
//! ([`Together`]), and the last attempt comes when it ends.

use std::time::{Duration, Instant};

use super::back_off::pause_after;
use super::policy::Policy;
use super::throttle::Stopped;
use super::together::Together;
use super::warnings::Warnings;
use crate::exit::{ExitCode, Failure};
use crate::shutdown::Stop;

/// However little is left of the budget, a request is given as much time: a busy server takes some seconds.
const SHORTEST_CALL: Duration = Duration::from_secs(10);

/// A request is not tried again: it is refused, its budget is spent, or the run is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp(pub Failure);

impl From<GivenUp> for Failure {
    fn from(GivenUp(failure): GivenUp) -> Self {
        failure
    }
}

impl From<GivenUp> for Stopped {
    /// For those whose giving up ends the run ([`Retries::ending_the_run`]): it knows why.
    fn from(_: GivenUp) -> Self {
        Stopped
    }
}

/// What requests to one server have in common that are tried again.
pub struct Retries<'r> {
    stop: &'r Stop,
    policy: Policy,
    together: Option<&'r dyn Together>,
    ends_run: bool,
    warnings: Warnings,
}

impl<'r> Retries<'r> {
    /// Requests that are each tried for themselves.
    pub fn new(stop: &'r Stop, policy: Policy) -> Self {
        let warnings = Warnings::new(policy.warn_every);
        Self { stop, policy, together: None, ends_run: false, warnings }
    }

    /// Requests that share one outage and its budget with others.
    pub fn together(self, others: &'r dyn Together) -> Self {
        Self { together: Some(others), ..self }
    }

    /// Where one of them is given up, the run cannot go on, and is told so at once.
    pub fn ending_the_run(self) -> Self {
        Self { ends_run: true, ..self }
    }

    /// What ends all waiting.
    pub fn stop(&self) -> &'r Stop {
        self.stop
    }

    /// For a request that has not been tried yet.
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
    /// When the last attempt began.
    begun: Instant,
    failures: u32,
    /// How often in a row the connection broke over this request, and over no other.
    interruptions: u32,
    /// Whether the server was away at an attempt since the last progress.
    away: bool,
    /// Since when there has been no progress: the start of the first attempt that failed.
    since: Option<Instant>,
    /// When credentials, or what else does not change by itself, were first refused.
    refused_since: Option<Instant>,
}

impl Patience<'_> {
    /// An attempt begins. Returns how long it may take: no longer than what is left of the budget.
    pub fn begin(&mut self) -> Duration {
        self.begun = Instant::now();
        self.retries.stop.pulse().sign(Duration::ZERO);
        self.left().map_or(Duration::MAX, |left| left.max(SHORTEST_CALL))
    }

    /// Whether an attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// For how long this request has made no progress.
    pub fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How often in a row the connection broke while the request was under way, and the server answered another
    /// one right after: it may do that over a request that is too large for it.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    /// Part of what was wanted has come: budget and back-off start anew.
    pub fn progressed(&mut self) {
        (self.since, self.failures, self.away) = (Some(Instant::now()), 0, false);
    }

    /// An attempt failed; waits before the next one. With `progress` part of it succeeded.
    pub fn failed(&mut self, reason: &str, progress: bool) -> Result<(), GivenUp> {
        self.interruptions = 0;
        if progress {
            self.progressed();
        }
        self.wait(reason, None, None)
    }

    /// As [`Self::failed`], for an attempt that found the server away: no connection, or nothing ready behind it.
    pub fn away(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.away_for(reason, None)
    }

    /// As [`Self::away`], where the server asks to be left alone for so long. Of what is sent by several senders the
    /// throttle takes care of that.
    pub fn away_for(&mut self, reason: &str, retry_after: Option<Duration>) -> Result<(), GivenUp> {
        self.interruptions = 0;
        self.away = true;
        self.wait(reason, retry_after, None)
    }

    /// As [`Self::failed`], for an attempt whose connection broke, while the server answers other requests: it is not
    /// unavailable, and this costs no budget.
    pub fn interrupted(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.since = None;
        let pause = self.next_pause(None);
        self.pause(reason, pause)
    }

    /// As [`Self::interrupted`], for an attempt that was not answered in time: that costs budget, since it may be how a
    /// server ends that hangs.
    pub fn unanswered(&mut self, reason: &str) -> Result<(), GivenUp> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.wait(reason, None, None)
    }

    /// The server refused credentials, or what else does not change by itself. Where it was away until now, that may
    /// be a node that is not quite there yet, and for a while this is as any failed attempt
    /// ([`Policy::starting`]). Otherwise, and where the budget ends with it, it is given up with `failure`.
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

    /// Waits for the next attempt. Gives up when the budget is spent: with `at_the_end`, or since the server is
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

    /// What is left of the budget; None: there is none.
    fn left(&self) -> Option<Duration> {
        self.retries.policy.budget.map(|budget| budget.saturating_sub(self.waited()))
    }

    /// For how long there has been no progress, be it of this request or of all.
    fn waited(&self) -> Duration {
        self.lasts().max(self.retries.together.map_or(Duration::ZERO, Together::failing_for))
    }

    fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = pause_after(self.failures, retry_after, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Waits for so long; what is told is the time to the next attempt, for which all may have to wait.
    fn pause(&self, reason: &str, pause: Duration) -> Result<(), GivenUp> {
        let Retries { stop, policy, together, warnings, .. } = self.retries;
        if !stop.is_requested() {
            let of_all = together.and_then(Together::pause);
            warnings.failed(policy.server, reason, of_all.map_or(pause, |of_all| of_all.max(pause)));
        }
        if stop.wait(pause) { Ok(()) } else { Err(GivenUp(stop.as_failure())) }
    }

    /// The end of the budget.
    fn unavailable(&self, reason: &str) -> Failure {
        let Policy { server, budget, .. } = self.retries.policy;
        let message = if budget == Some(Duration::ZERO) {
            format!("{server} is unavailable: {reason}")
        } else {
            format!(
                "{server} has been unavailable for {} s, for longer than --retry-budget allows ({reason}); what is not \
                 confirmed stays pending: run again once it is back",
                self.waited().as_secs()
            )
        };
        Failure::new(ExitCode::Unavailable, message)
    }
}

#[cfg(test)]
mod tests;
