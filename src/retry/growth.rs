//! Finds the number of concurrent requests that a server carries out fastest (`--senders auto`). Pure: the caller passes
//! in the time.
//!
//! The method is hill climbing. It measures the bytes that the server takes per second, allows more requests, and
//! measures again. It keeps the larger number only if the rate has grown by 5 %. Otherwise it returns to the smaller
//! one, and tries again a minute later, because servers and networks change. A server that pushes back gets no more
//! requests: that is the task of [`limiter`](super::limiter), and the measurement starts again afterwards.

use std::time::{Duration, Instant};

/// Growth of the rate that justifies more requests. Less is within the noise of a measurement.
const WORTHWHILE: f64 = 1.05;

/// Shortest measurement.
const MIN_TIME: Duration = Duration::from_secs(2);

/// Fewest requests of a measurement, per concurrent request.
const MIN_REQUESTS: usize = 3;

/// Time without experiments after one that gained nothing.
const REST: Duration = Duration::from_secs(60);

/// Hill climbing over the number of concurrent requests.
#[derive(Debug)]
pub struct Growth {
    allowed: usize,
    max: usize,
    /// The number of requests before the last increase, and its rate in bytes per second.
    before: Option<(usize, f64)>,
    /// Requests that began under another number, and are not measured.
    unmeasured: usize,
    measurement: Option<Measurement>,
    resting_until: Option<Instant>,
}

#[derive(Debug)]
struct Measurement {
    began: Instant,
    requests: usize,
    bytes: f64,
}

impl Growth {
    /// Starts with `start` concurrent requests, at least one, and allows at most `max`.
    pub fn new(start: usize, max: usize) -> Self {
        Self { allowed: start, max, before: None, unmeasured: 0, measurement: None, resting_until: None }
    }

    /// Records that the server took a request of `bytes` bytes. `is_needed`: other requests were waiting, so that more
    /// concurrent ones would have been sent. Returns the new number of concurrent requests; None: it stays.
    pub fn succeeded(&mut self, bytes: usize, is_needed: bool, now: Instant) -> Option<usize> {
        if bytes == 0 || self.resting_until.is_some_and(|until| now < until) {
            return None;
        }
        // With nothing waiting, the rate is that of the workers.
        if !is_needed {
            self.measurement = None;
            return None;
        }
        if self.unmeasured > 0 {
            self.unmeasured -= 1;
            return None;
        }
        let Some(measurement) = &mut self.measurement else {
            // The measurement begins where this request ends, so its bytes do not count.
            self.measurement = Some(Measurement { began: now, requests: 1, bytes: 0.0 });
            return None;
        };
        measurement.requests += 1;
        measurement.bytes += bytes as f64;
        let time = now - measurement.began;
        if time < MIN_TIME || measurement.requests < MIN_REQUESTS * self.allowed {
            return None;
        }
        let rate = measurement.bytes / time.as_secs_f64();
        self.decide(rate, now)
    }

    fn decide(&mut self, rate: f64, now: Instant) -> Option<usize> {
        match self.before {
            Some((allowed, before)) if rate < before * WORTHWHILE => {
                self.rest(now);
                Some(self.change(allowed))
            }
            _ if self.allowed == self.max => {
                self.rest(now);
                None
            }
            _ => {
                self.before = Some((self.allowed, rate));
                Some(self.change((self.allowed + self.allowed / 2 + 1).min(self.max)))
            }
        }
    }

    /// Records that the server pushed back or was away. Returns the new number of concurrent requests; None: it stays.
    pub fn failed(&mut self, now: Instant) -> Option<usize> {
        self.measurement = None;
        let (allowed, _) = self.before?;
        self.rest(now);
        Some(self.change(allowed))
    }

    fn rest(&mut self, now: Instant) {
        self.before = None;
        self.measurement = None;
        self.resting_until = Some(now + REST);
    }

    fn change(&mut self, allowed: usize) -> usize {
        self.unmeasured = self.allowed;
        self.measurement = None;
        self.allowed = allowed;
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends requests of 1,000 bytes to a server that takes `rate(n)` of them a second if n are in flight. Returns the
    /// number of concurrent requests after each second.
    fn climb(growth: &mut Growth, began: Instant, seconds: u64, rate: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut now = began;
        let mut after = Vec::new();
        for second in 1..=seconds {
            while now < began + Duration::from_secs(second) {
                now += Duration::from_secs_f64(1.0 / rate(growth.allowed));
                growth.succeeded(1000, true, now);
            }
            after.push(growth.allowed);
        }
        after
    }

    #[test]
    fn a_far_server_gets_as_many_requests_as_make_it_faster() {
        // Ten requests a second for each in flight, up to a hundred in all.
        let mut growth = Growth::new(4, 16);
        let after = climb(&mut growth, Instant::now(), 40, |n| (10 * n).min(100) as f64);
        assert!((9..=13).contains(&growth.allowed), "{after:?}");
    }

    #[test]
    fn a_server_that_is_busy_keeps_the_number_it_had() {
        let mut growth = Growth::new(4, 16);
        let after = climb(&mut growth, Instant::now(), 300, |_| 50.0);
        let tried = after.iter().filter(|&&n| n > 4).count();
        assert_eq!(growth.allowed, 4);
        assert!((5..=25).contains(&tried), "an experiment of some seconds each minute: {after:?}");
    }

    #[test]
    fn a_server_that_gets_slower_with_more_requests_gets_fewer_again() {
        let mut growth = Growth::new(4, 16);
        climb(&mut growth, Instant::now(), 20, |n| if n > 6 { 20.0 } else { 10.0 * n as f64 });
        assert_eq!(growth.allowed, 4);
    }

    #[test]
    fn nothing_grows_beyond_the_most_or_while_nothing_waits() {
        let mut growth = Growth::new(4, 6);
        climb(&mut growth, Instant::now(), 200, |n| 10.0 * n as f64);
        assert_eq!(growth.allowed, 6);
        let mut idle = Growth::new(4, 16);
        let began = Instant::now();
        for n in 0..10_000 {
            assert_eq!(idle.succeeded(1000, false, began + Duration::from_millis(10 * n)), None);
        }
    }

    #[test]
    fn a_push_back_ends_an_experiment() {
        let mut growth = Growth::new(4, 16);
        let began = Instant::now();
        let after = climb(&mut growth, began, 4, |n| 10.0 * n as f64);
        assert!(growth.allowed > 4, "{after:?}");
        assert_eq!(growth.failed(began + Duration::from_secs(4)), Some(4));
        assert_eq!(growth.failed(began + Duration::from_secs(5)), None, "there is no experiment");
        assert_eq!(growth.succeeded(1000, true, began + Duration::from_secs(6)), None, "it rests");
    }
}
