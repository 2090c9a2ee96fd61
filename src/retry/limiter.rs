//! How many requests may be in flight, and how long none may start: the server's answers as pressure. Pure, its
//! time is handed in.
//!
//! The limit follows the rule of TCP congestion control (additive increase, multiplicative decrease): one more
//! request at a time once a whole window of requests went well, half as many as soon as the server pushes back. A
//! window is judged once: requests that were already in flight when the limit fell tell nothing new.

use std::time::{Duration, Instant};

use crate::retry::back_off::{back_off, pause_after};

/// The adaptive limit on requests in flight, and the pause after a push-back.
#[derive(Debug)]
pub struct Limiter {
    most: usize,
    limit: usize,
    successes: usize,
    /// Number of the next request.
    next: u64,
    /// Requests numbered below this one were in flight, or done, when the server last pushed back.
    heard_below: u64,
    /// Push-backs since the last success.
    failures: u32,
    /// Nothing starts before.
    pause_until: Option<Instant>,
}

impl Limiter {
    /// A limiter that starts at its ceiling, `most` requests (at least one).
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, limit: most, successes: 0, next: 0, heard_below: 0, failures: 0, pause_until: None }
    }

    /// Requests that may be in flight now, 1 at least.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How long nothing may start, if so.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.pause_until?.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }

    /// Numbers a request that starts.
    pub fn start(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Request `number` went well. One that was in flight when the server pushed back is no sign that it is over,
    /// nor does it shorten what a `Retry-After` has asked for.
    pub fn succeeded(&mut self, number: u64) {
        if number < self.heard_below {
            return;
        }
        self.failures = 0;
        self.successes += 1;
        if self.successes >= self.limit {
            self.successes = 0;
            self.limit = (self.limit + 1).min(self.most);
        }
    }

    /// The server pushed back on request `number`: fewer at once, and none for a while. `random` is drawn evenly
    /// from 0 to 1.
    pub fn pushed_back(&mut self, number: u64, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.hear(number);
        self.pause_for(pause_after(self.failures.saturating_sub(1), retry_after, random), now);
    }

    /// The server carried out part of request `number`: fewer at once, but no longer and longer pauses.
    pub fn pushed_back_in_part(&mut self, number: u64, now: Instant, random: f64) {
        self.hear(number);
        self.failures = self.failures.min(1);
        self.pause_for(back_off(0, random), now);
    }

    fn hear(&mut self, number: u64) {
        if number >= self.heard_below {
            self.failures = self.failures.saturating_add(1);
            self.limit = (self.limit / 2).max(1);
            self.successes = 0;
            self.heard_below = self.next;
        }
    }

    fn pause_for(&mut self, pause: Duration, now: Instant) {
        let until = now + pause;
        self.pause_until = Some(self.pause_until.map_or(until, |other| other.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_window_of_push_backs_halves_once() {
        let mut limiter = Limiter::new(8);
        let window: Vec<u64> = (0..8).map(|_| limiter.start()).collect();
        window.iter().for_each(|&number| limiter.pushed_back(number, None, Instant::now(), 1.0));
        assert_eq!((limiter.limit(), limiter.failures), (4, 1));
    }

    #[test]
    fn a_retry_after_outlasts_the_successes_of_requests_that_were_in_flight() {
        let now = Instant::now();
        let mut limiter = Limiter::new(8);
        let (refused, done) = (limiter.start(), limiter.start());
        limiter.pushed_back(refused, Some(Duration::from_secs(7)), now, 0.5);
        limiter.succeeded(done);
        assert_eq!(limiter.pause(now), Some(Duration::from_secs(7)));
        assert_eq!((limiter.limit(), limiter.failures), (4, 1));
        assert_eq!(limiter.pause(now + Duration::from_secs(7)), None);
    }

    #[test]
    fn a_server_that_takes_part_of_every_request_is_not_waited_for_longer_and_longer() {
        let now = Instant::now();
        let mut limiter = Limiter::new(4);
        for _ in 0..30 {
            let number = limiter.start();
            limiter.pushed_back_in_part(number, now, 1.0);
        }
        assert_eq!((limiter.limit(), limiter.pause(now)), (1, Some(back_off(0, 1.0))));
    }

    /// Senders in simulated time against a server that answers after 50 ms: with 429 while it is busy.
    struct Simulation {
        limiter: Limiter,
        now: Instant,
        random: fastrand::Rng,
        senders: Vec<Sender>,
    }

    #[derive(Clone, Default)]
    struct Sender {
        failures: u32,
        /// Its own back-off lasts until then.
        ready: Option<Instant>,
        /// The request in flight, and when it is answered.
        request: Option<(u64, Instant)>,
    }

    const STEP: Duration = Duration::from_millis(10);

    impl Simulation {
        fn new(senders: usize, seed: u64) -> Self {
            Self {
                limiter: Limiter::new(senders),
                now: Instant::now(),
                random: fastrand::Rng::with_seed(seed),
                senders: vec![Sender::default(); senders],
            }
        }

        fn in_flight(&self) -> usize {
            self.senders.iter().filter(|sender| sender.request.is_some()).count()
        }

        fn step(&mut self, busy: bool) {
            self.now += STEP;
            for n in 0..self.senders.len() {
                let in_flight = self.in_flight();
                let sender = &mut self.senders[n];
                match sender.request {
                    Some((number, at)) if at <= self.now && busy => {
                        self.limiter.pushed_back(number, None, self.now, self.random.f64());
                        sender.ready = Some(self.now + back_off(sender.failures, self.random.f64()));
                        sender.failures += 1;
                        sender.request = None;
                    }
                    Some((number, at)) if at <= self.now => {
                        self.limiter.succeeded(number);
                        *sender = Sender::default();
                    }
                    Some(_) => {}
                    None => {
                        let waits = sender.ready.is_some_and(|ready| ready > self.now);
                        if !waits
                            && self.limiter.pause(self.now).is_none()
                            && in_flight < self.limiter.limit()
                        {
                            let answered = self.now + Duration::from_millis(50);
                            sender.request = Some((self.limiter.start(), answered));
                        }
                    }
                }
            }
        }

        /// Runs for so long; returns the most requests in flight, and after how long the limit was last below
        /// its ceiling.
        fn run(&mut self, time: Duration, busy: bool) -> (usize, Duration) {
            let began = self.now;
            let (mut most, mut full_after) = (0, Duration::ZERO);
            while self.now < began + time {
                self.step(busy);
                most = most.max(self.in_flight());
                if self.limiter.limit() < self.senders.len() {
                    full_after = self.now - began;
                }
            }
            (most, full_after)
        }
    }

    #[test]
    fn a_busy_minute_is_met_by_one_request_at_a_time_and_all_of_them_are_back_within_a_minute() {
        for (senders, seed) in [1, 4, 16].into_iter().flat_map(|n| (0..10).map(move |seed| (n, seed))) {
            let mut simulation = Simulation::new(senders, seed);
            assert_eq!(simulation.run(Duration::from_secs(5), false).0, senders);
            simulation.run(Duration::from_secs(3), true);
            let (most, _) = simulation.run(Duration::from_secs(57), true);
            assert!(most <= 1, "{most} requests in flight, {senders} senders, seed {seed}");
            let (most, full_after) = simulation.run(Duration::from_secs(70), false);
            assert_eq!(most, senders, "seed {seed}");
            assert!(full_after <= Duration::from_secs(60), "{full_after:?}, {senders} senders, seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_one_and_the_ceiling(
            most in 0_usize..20,
            steps in prop::collection::vec(0_u8..4, 0..200),
        ) {
            let now = Instant::now();
            let mut limiter = Limiter::new(most);
            let mut in_flight = Vec::new();
            for step in steps {
                match (step, in_flight.pop()) {
                    (0, before) => {
                        in_flight.extend(before);
                        in_flight.push(limiter.start());
                    }
                    (1, Some(number)) => limiter.succeeded(number),
                    (2, Some(number)) => limiter.pushed_back(number, None, now, 0.5),
                    (_, Some(number)) => limiter.pushed_back_in_part(number, now, 0.5),
                    _ => {}
                }
                prop_assert!((1..=most.max(1)).contains(&limiter.limit()));
            }
        }
    }
}
