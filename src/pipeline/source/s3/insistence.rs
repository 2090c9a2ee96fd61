//! How long S3 is asked again for the same thing.

use std::time::{Duration, Instant};

use log::Level;

use crate::exit::{ExitCode, Failure};
use crate::retry::back_off::pause_after;
use crate::shutdown::Stop;

/// Between two warnings on the same thing: an outage of an hour must not fill a log.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Counts the failed attempts at one request, waits between them, and gives up when the budget is spent.
pub(super) struct Insistence<'r> {
    stop: &'r Stop,
    budget: Option<Duration>,
    failures: u32,
    /// Since when there has been no progress.
    since: Option<Instant>,
    warned: Option<Instant>,
}

impl<'r> Insistence<'r> {
    /// For something that has not been asked for yet. A budget of None is patience for ever.
    pub(super) fn new(stop: &'r Stop, budget: Option<Duration>) -> Self {
        Self { stop, budget, failures: 0, since: None, warned: None }
    }

    /// Part of what was wanted came: both budget and back-off start anew.
    pub(super) fn start_anew(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// An attempt failed; waits before the next one, and at least as long as the server asks for.
    ///
    /// # Errors
    ///
    /// Where the budget is spent, or would be before the wait is over (exit code 4), or the run is to stop.
    pub(super) fn failed(&mut self, reason: &str, retry_after: Option<Duration>) -> Result<(), Failure> {
        self.failed_since(Instant::now(), reason, retry_after)
    }

    /// The same where it is part of an outage that has lasted since `outage`: the budget counts from there.
    ///
    /// # Errors
    ///
    /// As [`Insistence::failed`].
    pub(super) fn failed_since(
        &mut self,
        outage: Instant,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Failure> {
        let since = (*self.since.get_or_insert_with(Instant::now)).min(outage);
        let pause = pause_after(self.failures, retry_after, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        if self.stop.is_requested() {
            return Err(self.stop.as_failure());
        }
        if self.budget.is_some_and(|budget| since.elapsed().saturating_add(pause) > budget) {
            return Err(Failure::new(ExitCode::Unavailable, self.gave_up(since.elapsed(), pause, reason)));
        }
        let is_due = self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY);
        let level = if is_due { Level::Warn } else { Level::Debug };
        if is_due {
            self.warned = Some(Instant::now());
        }
        let attempt = self.failures.saturating_add(1);
        log::log!(level, "S3: {reason}; attempt {attempt} in {:.1} s", pause.as_secs_f64());
        if self.stop.wait(pause) { Ok(()) } else { Err(self.stop.as_failure()) }
    }

    /// How long there has been no progress.
    pub(super) fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn gave_up(&self, after: Duration, pause: Duration, reason: &str) -> String {
        if self.budget == Some(Duration::ZERO) {
            return format!("S3 is unavailable: {reason}");
        }
        format!(
            "S3 has been unavailable for {} s and is to be asked again in {} s, which is longer than --retry-budget \
             allows ({reason}); what is not confirmed stays pending: run again once it is back",
            after.as_secs(),
            pause.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::StopReason;

    #[test]
    fn a_spent_budget_is_a_failure_of_its_own_and_asks_nobody_to_stop() {
        let stop = Stop::new();
        let mut insistence = Insistence::new(&stop, Some(Duration::ZERO));
        let failure = loop {
            // A pause that is drawn as nothing is within every budget.
            if let Err(failure) = insistence.failed("status 503", None) {
                break failure;
            }
        };
        assert_eq!(failure.code, ExitCode::Unavailable);
        assert!(failure.message.contains("status 503"), "{failure}");
        assert!(!stop.is_requested());
    }

    #[test]
    fn what_the_server_asks_for_is_waited_for_and_counts_against_the_budget() {
        let stop = Stop::new();
        let started = Instant::now();
        Insistence::new(&stop, None).failed("status 503", Some(Duration::from_secs(1))).unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
        let budget = Some(Duration::from_secs(299));
        let long = Insistence::new(&stop, budget).failed("status 503", Some(Duration::MAX)).unwrap_err();
        assert_eq!(long.code, ExitCode::Unavailable);
    }

    #[test]
    fn what_is_part_of_an_outage_has_what_is_left_of_the_budget() {
        let stop = Stop::new();
        let began = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let late =
            Insistence::new(&stop, Some(Duration::from_secs(60))).failed_since(began, "status 503", None);
        assert_eq!(late.unwrap_err().code, ExitCode::Unavailable);
        Insistence::new(&stop, Some(Duration::from_secs(90)))
            .failed_since(began, "status 503", None)
            .unwrap();
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        let stop = Stop::new();
        stop.request(StopReason::Terminate);
        let failure = Insistence::new(&stop, None).failed("status 503", None).unwrap_err();
        assert_eq!(failure.code, ExitCode::Terminated);
    }
}
