//! How long one request is tried without any progress, and what the log says of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::limiter::back_off;
use super::throttle::{Stopped, Throttle};
use crate::exit::{ExitCode, Failure};
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
        self.wait(reason, |waited| unavailable(reason, waited))
    }

    /// As [`Self::failed`], for an attempt that found the server away: no connection, or nothing ready behind it.
    pub fn away(&mut self, reason: &str) -> Result<(), Stopped> {
        self.away = true;
        self.failed(reason, false)
    }

    /// As [`Self::failed`], for an attempt whose connection broke, while the server answers other requests: it is not
    /// unavailable, and this costs no budget.
    pub fn interrupted(&mut self, reason: &str) -> Result<(), Stopped> {
        self.interruptions = self.interruptions.saturating_add(1);
        self.since = None;
        let pause = self.next_pause();
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
            return self.wait(&reason, |_| failure);
        }
        self.retries.stop.fail(failure);
        Err(Stopped)
    }

    /// Waits for the next attempt. Stops the run when the budget is spent, with what `at_the_end` makes of the time
    /// waited.
    fn wait(&mut self, reason: &str, at_the_end: impl FnOnce(Duration) -> Failure) -> Result<(), Stopped> {
        self.since.get_or_insert(self.begun);
        let waited = self.waited();
        let pause = self.next_pause();
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

    fn next_pause(&mut self) -> Duration {
        let pause = back_off(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    fn pause(&self, reason: &str, pause: Duration) -> Result<(), Stopped> {
        self.retries.warn(reason, pause);
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
mod tests {
    use super::*;
    use crate::shutdown::StopReason;

    #[test]
    fn a_spent_budget_stops_the_run_as_unavailable() {
        let stop = Stop::new();
        let retries = Retries::new(&stop, Some(Duration::ZERO));
        let mut patience = retries.patience();
        while patience.failed("status 503", true).is_ok() {}
        assert!(patience.has_failed());
        let Some(StopReason::Fatal(failure)) = stop.reason() else { panic!("{:?}", stop.reason()) };
        assert_eq!(failure.code, ExitCode::Unavailable);
        assert!(failure.message.contains("status 503"));
    }

    #[test]
    fn the_last_attempt_comes_when_the_budget_ends() {
        let stop = Stop::new();
        let budget = Duration::from_millis(200);
        let retries = Retries::new(&stop, Some(budget));
        let mut patience = retries.patience();
        let begun = Instant::now();
        while patience.failed("status 503", false).is_ok() {}
        assert!(begun.elapsed() >= budget);
    }

    #[test]
    fn a_server_that_fails_all_senders_is_given_the_budget_once() {
        let stop = Stop::new();
        let budget = Some(Duration::from_millis(50));
        let throttle = Throttle::new(2, stop.clone(), budget);
        let retries = Retries::shared(&stop, budget, &throttle);
        throttle.acquire(0).unwrap().pushed_back(None);
        while throttle.failing_for() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        // The first attempt of another sender.
        assert_eq!(retries.patience().failed("status 503", false), Err(Stopped));
    }

    fn key_refused() -> Failure {
        Failure::new(ExitCode::Refused, "no such key")
    }

    #[test]
    fn the_budget_counts_from_the_start_of_the_first_attempt_that_failed() {
        let stop = Stop::new();
        let budget = Duration::from_secs(50);
        let retries = Retries::new(&stop, Some(budget));
        let mut patience = retries.patience();
        assert_eq!(patience.begin(), budget);
        patience.begun = Instant::now().checked_sub(budget).unwrap();
        assert_eq!(patience.away("no reply in time"), Err(Stopped));
    }

    #[test]
    fn an_attempt_is_given_what_is_left_of_the_budget_but_never_less_than_ten_seconds() {
        let stop = Stop::new();
        let limit = |budget: Option<u64>, ago: u64| {
            let retries = Retries::new(&stop, budget.map(Duration::from_secs));
            let mut patience = retries.patience();
            patience.since = Instant::now().checked_sub(Duration::from_secs(ago));
            patience.begin()
        };
        assert_eq!(limit(None, 1000), Duration::MAX);
        let left = limit(Some(600), 550);
        assert!(left > Duration::from_secs(49) && left <= Duration::from_secs(50), "{left:?}");
        assert_eq!([limit(Some(600), 595), limit(Some(3), 0)], [SHORTEST_CALL; 2]);
    }

    #[test]
    fn a_refusal_may_pass_only_where_the_server_was_away_until_now_and_only_for_a_while() {
        let refused = |before: &dyn Fn(&mut Patience<'_>)| {
            let stop = Stop::new();
            let retries = Retries::new(&stop, None);
            let mut patience = retries.patience();
            before(&mut patience);
            patience.refused(key_refused())
        };
        assert_eq!(refused(&|_| ()), Err(Stopped));
        assert_eq!(refused(&|patience| patience.failed("status 429", false).unwrap()), Err(Stopped));
        assert_eq!(refused(&|patience| patience.away("no connection").unwrap()), Ok(()));
        let some_answered = |patience: &mut Patience<'_>| {
            patience.away("no connection").unwrap();
            patience.failed("3 of 9 actions: status 429", true).unwrap();
        };
        assert_eq!(refused(&some_answered), Err(Stopped));
        let for_a_minute = |patience: &mut Patience<'_>| {
            patience.away("no connection").unwrap();
            patience.refused_since = Instant::now().checked_sub(STARTING);
        };
        assert_eq!(refused(&for_a_minute), Err(Stopped));
    }

    #[test]
    fn a_refusal_may_pass_where_another_sender_found_the_server_away() {
        let stop = Stop::new();
        let throttle = Throttle::new(2, stop.clone(), None);
        let retries = Retries::shared(&stop, None, &throttle);
        throttle.acquire(0).unwrap().found_away(None);
        assert_eq!(retries.patience().refused(key_refused()), Ok(()));
        throttle.acquire(0).unwrap().succeeded();
        throttle.acquire(0).unwrap().pushed_back(None);
        assert_eq!(retries.patience().refused(key_refused()), Err(Stopped));
        assert_eq!(stop.reason(), Some(StopReason::Fatal(key_refused())));
    }

    #[test]
    fn a_budget_that_ends_with_a_refusal_ends_the_run_as_refused() {
        let stop = Stop::new();
        let retries = Retries::new(&stop, Some(Duration::from_millis(50)));
        let mut patience = retries.patience();
        patience.away("status 503").unwrap();
        while patience.refused(key_refused()).is_ok() {}
        assert_eq!(stop.reason(), Some(StopReason::Fatal(key_refused())));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::new();
        stop.request(StopReason::Terminate);
        assert_eq!(Retries::new(&stop, None).patience().failed("status 503", false), Err(Stopped));
    }

    #[test]
    fn interruptions_count_only_in_a_row() {
        let stop = Stop::new();
        let retries = Retries::new(&stop, None);
        let mut patience = retries.patience();
        for progress in [true, false] {
            for count in [1, 2] {
                patience.interrupted("reset").unwrap();
                assert_eq!(patience.interruptions(), count);
            }
            patience.failed("status 503", progress).unwrap();
            assert_eq!(patience.interruptions(), 0);
        }
    }

    #[test]
    fn the_log_has_a_line_at_once_and_then_one_in_a_while_with_a_count() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut warnings = Warnings { interval: 10 * second, last: None, unsaid: 0 };
        let said: Vec<Option<u64>> = (0..25).map(|n| warnings.due(start + n * second)).collect();
        let lines: Vec<(usize, u64)> =
            said.into_iter().enumerate().filter_map(|(n, unsaid)| Some((n, unsaid?))).collect();
        assert_eq!(lines, [(0, 0), (10, 9), (20, 9)]);
    }
}
