//! Limits the requests in flight, and pauses them, depending on how the server answers. Pure: the caller passes in the
//! time and the random number.
//!
//! The limit follows TCP congestion control (additive increase, multiplicative decrease). It grows by one after a whole
//! window of successful requests, and halves as soon as the server pushes back. A window is judged once: requests that
//! were already in flight when the limit fell carry no new information.
//!
//! Some servers refuse most requests at any pace, even one at a time, and accept some in between. Longer and longer
//! pauses do not help then. While the limiter sends one request at a time, it learns how many refusals in a row are
//! usual for such a server. As long as there are not many more, a refusal costs only its own sender a short pause. A
//! server that has accepted nothing so far gets no such allowance.

use std::time::{Duration, Instant};

use crate::retry::back_off::{back_off, pause_after};

/// Average refusals between two accepted requests below which the server counts as one that refuses none.
const MIN_USUAL_REFUSALS: f64 = 0.2;

/// Highest average that is assumed. Above it the server accepts next to nothing.
const MAX_USUAL_REFUSALS: f64 = 4.0;

/// Refusals in a row that mean an outage, whatever was usual before.
const OUTAGE_REFUSALS: u32 = 40;

/// Adaptive limit on requests in flight, and the pause after a push-back.
#[derive(Debug)]
pub struct Limiter {
    most: usize,
    limit: usize,
    successes: usize,
    /// Number of the next request.
    next: u64,
    /// Requests below this number were in flight, or done, when the server last pushed back.
    judged_below: u64,
    /// Push-backs since the last success.
    failures: u32,
    /// Requests refused since the last one that was accepted, at least in part.
    refusals_in_a_row: u32,
    /// How many of those were the only request in flight.
    refusals_alone: u32,
    /// Average refusals between two accepted requests, even with one request at a time. Zero: the server refuses none
    /// as a rule.
    usual_refusals: f64,
    /// Average duration of an accepted request.
    request_time: Duration,
    /// No request starts before this.
    pause_until: Option<Instant>,
}

impl Limiter {
    /// Creates a limiter that starts at its ceiling of `most` requests (at least one).
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: most,
            successes: 0,
            next: 0,
            judged_below: 0,
            failures: 0,
            refusals_in_a_row: 0,
            refusals_alone: 0,
            usual_refusals: 0.0,
            request_time: Duration::ZERO,
            pause_until: None,
        }
    }

    /// Changes the ceiling. A limit that a push-back has lowered does not rise with it.
    pub fn set_ceiling(&mut self, most: usize) {
        let is_lowered = self.limit < self.most;
        self.most = most.max(1);
        self.limit = if is_lowered { self.limit.min(self.most) } else { self.most };
    }

    /// Returns how many requests may be in flight now, at least 1.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns how much longer no request may start; None: there is no pause.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.pause_until?.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }

    /// Starts a request and returns its number.
    pub fn start(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Records that request `number` succeeded. If it was already in flight when the server pushed back, it does not
    /// prove that the push-back is over, and does not shorten a `Retry-After`.
    pub fn succeeded(&mut self, number: u64) {
        self.learn(0);
        if number < self.judged_below {
            return;
        }
        self.failures = 0;
        self.count_success();
    }

    fn count_success(&mut self) {
        self.successes += 1;
        if self.successes >= self.limit {
            self.successes = 0;
            self.limit = (self.limit + 1).min(self.most);
        }
    }

    /// Records the duration of an accepted request.
    pub fn record_duration(&mut self, time: Duration) {
        self.request_time =
            if self.request_time.is_zero() { time } else { (self.request_time * 7 + time) / 8 };
    }

    /// Returns the pause of one sender after `failures` earlier failures in a row. If all senders together have met
    /// fewer since the server last accepted something, the smaller number counts. A usual refusal costs no more than
    /// the duration of a request.
    pub fn own_pause(&self, failures: u32, random: f64) -> Duration {
        if self.is_usual() {
            return back_off(0, random).min(self.request_time.mul_f64(random.clamp(0.0, 1.0)));
        }
        back_off(self.counted(failures.min(self.failures)), random)
    }

    /// Returns how many of the failures in a row lengthen the pause. For a server that refuses most requests and
    /// accepts some, a few more mean little.
    fn counted(&self, failures: u32) -> u32 {
        if self.usual_refusals > 0.0 && self.refusals_in_a_row < OUTAGE_REFUSALS {
            failures.min(2)
        } else {
            failures
        }
    }

    /// Updates the average after an accepted request. `in_part` counts refusals of parts of requests.
    fn learn(&mut self, in_part: u32) {
        let refusals = f64::from(self.refusals_in_a_row.saturating_add(in_part));
        let refusals_alone = f64::from(self.refusals_alone.saturating_add(in_part));
        (self.refusals_in_a_row, self.refusals_alone) = (0, 0);
        if self.usual_refusals > 0.0 {
            let weight = if refusals > self.usual_refusals { 4.0 } else { 16.0 };
            self.usual_refusals += (refusals - self.usual_refusals) / weight;
            if self.usual_refusals < MIN_USUAL_REFUSALS {
                self.usual_refusals = 0.0;
            }
        } else if self.limit == 1 && refusals_alone > 0.0 {
            self.usual_refusals = refusals_alone.min(MAX_USUAL_REFUSALS) / 2.0;
        }
    }

    /// Returns whether the refusals in a row are no more than usual for this server. More than four times the average
    /// is rare by chance: about once in a hundred requests where the server refuses seven of ten.
    fn is_usual(&self) -> bool {
        self.usual_refusals > 0.0
            && f64::from(self.refusals_in_a_row) <= (4.0 * self.usual_refusals).min(4.0 * MAX_USUAL_REFUSALS)
    }

    /// Records that the server pushed back on request `number`: lowers the limit at once, and pauses. `random` is
    /// uniformly distributed between 0 and 1.
    pub fn pushed_back(&mut self, number: u64, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
        if self.limit == 1 && number >= self.judged_below {
            self.refusals_alone = self.refusals_alone.saturating_add(1);
        }
        if self.is_usual() {
            retry_after.iter().for_each(|_| self.pause_for(pause_after(0, retry_after, random), now));
            return;
        }
        self.lower_limit(number);
        self.pause_for(pause_after(self.counted(self.failures.saturating_sub(1)), retry_after, random), now);
    }

    /// Records that the server carried out part of request `number`: lowers the limit, but does not lengthen the
    /// pauses.
    pub fn pushed_back_in_part(&mut self, number: u64, now: Instant, random: f64) {
        self.learn(1);
        if self.is_usual() {
            self.count_success();
            return;
        }
        self.lower_limit(number);
        self.failures = self.failures.min(1);
        self.pause_for(back_off(0, random), now);
    }

    fn lower_limit(&mut self, number: u64) {
        if number >= self.judged_below {
            self.failures = self.failures.saturating_add(1);
            self.limit = (self.limit / 2).max(1);
            self.successes = 0;
            self.judged_below = self.next;
        }
    }

    fn pause_for(&mut self, pause: Duration, now: Instant) {
        let until = now + pause;
        self.pause_until = Some(self.pause_until.map_or(until, |other| other.max(until)));
    }
}

#[cfg(test)]
mod tests;
