//! How long one request is tried without any progress, and what the log says of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::throttle::{Stopped, Throttle};
use crate::exit::{ExitCode, Failure};
use crate::retry::back_off::pause_after;
use crate::shutdown::Stop;

/// Between two lines on failed attempts, where the wait has an end.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Between two lines on failed attempts, where it has none.
const WARN_EVERY_FOR_EVER: Duration = Duration::from_secs(60);

/// A node that has just started may not find its keys and indices yet, and refuses what it accepts a moment later (401,
/// as seen of 9.5.3 after a crash). For so long a refusal that follows an outage is taken for that.
const STARTING: Duration = Duration::from_secs(60);

/// However little is left of the budget, a request is given as much time: a busy server takes some seconds.
const SHORTEST_CALL: Duration = Duration::from_secs(10);

/// What all requests have in common that are tried again.
pub struct Retries<'r> {
    stop: &'r Stop,
    budget: Option<Duration>,
    throttle: Option<&'r Throttle>,
    warnings: Mutex<Warnings>,
}

impl<'r> Retries<'r> {
    /// A request is tried for as long as `budget` without any progress; None: for ever. Spending it stops the run.
    pub fn new(stop: &'r Stop, budget: Option<Duration>) -> Self {
        let interval = if budget.is_some() { WARN_EVERY } else { WARN_EVERY_FOR_EVER };
        let warnings = Mutex::new(Warnings { interval, last: None, unsaid: 0 });
        Self { stop, budget, throttle: None, warnings }
    }

    /// The requests of several senders: a server that carries out none of them is given no more time than the
    /// budget by all of them together, however few attempts each of them has had at its own.
    pub fn shared(stop: &'r Stop, budget: Option<Duration>, throttle: &'r Throttle) -> Self {
        Self { throttle: Some(throttle), ..Self::new(stop, budget) }
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

    /// One line at once, then one in a while: an outage of an hour must not fill a log.
    fn warn(&self, reason: &str, pause: Duration) {
        let due = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
        let seconds = pause.as_secs_f64();
        match due {
            Some(0) => log::warn!("Elasticsearch: {reason}; next attempt in {seconds:.1} s"),
            Some(unsaid) => log::warn!(
                "Elasticsearch: {reason}; next attempt in {seconds:.1} s; {unsaid} more attempts have failed since \
                 the last such line"
            ),
            None => log::debug!("Elasticsearch: {reason}; next attempt in {seconds:.1} s"),
        }
    }
}

/// When the log is to have a line on failed attempts.
struct Warnings {
    interval: Duration,
    last: Option<Instant>,
    /// Failed attempts since the last line.
    unsaid: u64,
}

impl Warnings {
    /// Counts a failed attempt. Where it is time for a line: how many before it had none.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
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
        let left = self.retries.budget.map(|budget| budget.saturating_sub(self.waited()));
        left.map_or(Duration::MAX, |left| left.max(SHORTEST_CALL))
    }

    /// Whether an attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// How often in a row the connection broke while the request was under way, and the server answered another
    /// one right after: it may do that over a request that is too large for it.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    /// An attempt failed; waits before the next one. With `progress` part of it succeeded: budget and back-off
    /// start anew. Stops the run when the budget is spent.
    pub fn failed(&mut self, reason: &str, progress: bool) -> Result<(), Stopped> {
        self.interruptions = 0;
        if progress {
            (self.since, self.failures, self.away) = (Some(Instant::now()), 0, false);
        }
        self.wait(reason, None, |waited| unavailable(reason, waited))
    }

    /// As [`Self::failed`], for an attempt that found the server away: no connection, or nothing ready behind it.
    pub fn away(&mut self, reason: &str) -> Result<(), Stopped> {
        self.away_for(reason, None)
    }

    /// As [`Self::away`], where the server asks to be left alone for so long. Of what is sent by several senders the
    /// throttle takes care of that.
    pub fn away_for(&mut self, reason: &str, retry_after: Option<Duration>) -> Result<(), Stopped> {
        self.interruptions = 0;
        self.away = true;
        self.wait(reason, retry_after, |waited| unavailable(reason, waited))
    }

    /// As [`Self::failed`], for an attempt whose connection broke, while the server answers other requests: it is not
    /// unavailable, and this costs no budget.
    pub fn interrupted(&mut self, reason: &str) -> Result<(), Stopped> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.since = None;
        let pause = self.next_pause(None);
        self.pause(reason, pause)
    }

    /// The server refused credentials, or what else does not change by itself. Where it was away until now, that may
    /// be a node that is not quite there yet, and for a minute this is as any failed attempt. Otherwise, and where the
    /// budget ends with it, `failure` stops the run.
    pub fn refused(&mut self, failure: Failure) -> Result<(), Stopped> {
        self.interruptions = 0;
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let was_away = self.away || self.retries.throttle.is_some_and(Throttle::was_away);
        if was_away && since.elapsed() < STARTING {
            let reason = failure.message.clone();
            return self.wait(&reason, None, |_| failure);
        }
        self.retries.stop.fail(failure);
        Err(Stopped)
    }

    /// Waits for the next attempt. Stops the run when the budget is spent, with what `at_the_end` makes of the time
    /// waited.
    fn wait(
        &mut self,
        reason: &str,
        retry_after: Option<Duration>,
        at_the_end: impl FnOnce(Duration) -> Failure,
    ) -> Result<(), Stopped> {
        self.since.get_or_insert(self.begun);
        let waited = self.waited();
        let pause = self.next_pause(retry_after);
        // The last attempt comes when the budget ends, not a back-off before.
        let left = self.retries.budget.map(|budget| budget.saturating_sub(waited));
        if left == Some(Duration::ZERO) {
            self.retries.stop.fail(at_the_end(waited));
            return Err(Stopped);
        }
        self.pause(reason, left.map_or(pause, |left| pause.min(left)))
    }

    /// For how long there has been no progress, be it of this request or of all.
    fn waited(&self) -> Duration {
        let own = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        own.max(self.retries.throttle.map_or(Duration::ZERO, Throttle::failing_for))
    }

    fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = pause_after(self.failures, retry_after, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Waits for so long; what is told is the time to the next attempt, for which the throttle may have to be waited
    /// for, too.
    fn pause(&self, reason: &str, pause: Duration) -> Result<(), Stopped> {
        let of_all = self.retries.throttle.and_then(Throttle::pause);
        self.retries.warn(reason, of_all.map_or(pause, |of_all| of_all.max(pause)));
        if self.retries.stop.wait(pause) { Ok(()) } else { Err(Stopped) }
    }
}

/// The end of the budget.
fn unavailable(reason: &str, waited: Duration) -> Failure {
    let message = format!(
        "Elasticsearch has been unavailable for {} s, for longer than --retry-budget allows ({reason}); what is not \
         confirmed stays pending: run again once it is back",
        waited.as_secs()
    );
    Failure::new(ExitCode::Unavailable, message)
}

#[cfg(test)]
mod tests;
