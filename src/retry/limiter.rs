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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn push_backs_of_one_window_halve_the_limit_once() {
        let mut limiter = Limiter::new(8);
        let window: Vec<u64> = (0..8).map(|_| limiter.start()).collect();
        window.iter().for_each(|&number| limiter.pushed_back(number, None, Instant::now(), 1.0));
        assert_eq!((limiter.limit(), limiter.failures), (4, 1));
    }

    #[test]
    fn a_new_ceiling_lifts_the_limit_only_if_nothing_has_lowered_it() {
        let mut limiter = Limiter::new(4);
        limiter.set_ceiling(6);
        assert_eq!(limiter.limit(), 6);
        let number = limiter.start();
        limiter.pushed_back(number, None, Instant::now(), 1.0);
        limiter.set_ceiling(9);
        assert_eq!(limiter.limit(), 3);
        limiter.set_ceiling(2);
        assert_eq!(limiter.limit(), 2);
    }

    #[test]
    fn successes_in_flight_do_not_end_a_retry_after() {
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
    fn partial_acceptance_does_not_lengthen_the_pauses() {
        let now = Instant::now();
        let mut limiter = Limiter::new(4);
        for _ in 0..30 {
            let number = limiter.start();
            limiter.pushed_back_in_part(number, now, 1.0);
        }
        // Going slower does not help. Once the limiter knows, all senders go on, and only the refused one waits.
        assert_eq!((limiter.limit(), limiter.pause(now)), (4, Some(back_off(0, 1.0))));
    }

    /// Senders in simulated time. The server answers after 50 ms, with status 429 while it is busy.
    struct Simulation {
        limiter: Limiter,
        now: Instant,
        random: fastrand::Rng,
        senders: Vec<Sender>,
        taken: usize,
        refused: usize,
    }

    #[derive(Clone, Default)]
    struct Sender {
        failures: u32,
        /// End of the sender's own back-off.
        ready: Option<Instant>,
        /// The request in flight, and the time of its answer.
        request: Option<(u64, Instant)>,
    }

    const STEP: Duration = Duration::from_millis(10);
    const ANSWER: Duration = Duration::from_millis(50);

    impl Simulation {
        fn new(senders: usize, seed: u64) -> Self {
            Self {
                limiter: Limiter::new(senders),
                now: Instant::now(),
                random: fastrand::Rng::with_seed(seed),
                senders: vec![Sender::default(); senders],
                taken: 0,
                refused: 0,
            }
        }

        fn in_flight(&self) -> usize {
            self.senders.iter().filter(|sender| sender.request.is_some()).count()
        }

        /// Simulates one step. The server refuses requests with this probability.
        fn step(&mut self, refuses: f64) {
            self.now += STEP;
            for n in 0..self.senders.len() {
                let in_flight = self.in_flight();
                let sender = &mut self.senders[n];
                match sender.request {
                    Some((number, at)) if at <= self.now && self.random.f64() < refuses => {
                        self.limiter.pushed_back(number, None, self.now, self.random.f64());
                        let pause = self.limiter.own_pause(sender.failures, self.random.f64());
                        sender.ready = Some(self.now + pause);
                        self.refused += 1;
                        sender.failures += 1;
                        sender.request = None;
                    }
                    Some((number, at)) if at <= self.now => {
                        self.limiter.record_duration(ANSWER);
                        self.limiter.succeeded(number);
                        self.taken += 1;
                        *sender = Sender::default();
                    }
                    Some(_) => {}
                    None => {
                        let waits = sender.ready.is_some_and(|ready| ready > self.now);
                        if !waits
                            && self.limiter.pause(self.now).is_none()
                            && in_flight < self.limiter.limit()
                        {
                            let answered = self.now + ANSWER;
                            sender.request = Some((self.limiter.start(), answered));
                        }
                    }
                }
            }
        }

        /// Runs for `time`. Returns the most requests in flight, and when the limit was last below its ceiling.
        fn run(&mut self, time: Duration, busy: bool) -> (usize, Duration) {
            let began = self.now;
            let (mut most, mut full_after) = (0, Duration::ZERO);
            while self.now < began + time {
                self.step(if busy { 1.0 } else { 0.0 });
                most = most.max(self.in_flight());
                if self.limiter.limit() < self.senders.len() {
                    full_after = self.now - began;
                }
            }
            (most, full_after)
        }
    }

    #[test]
    fn a_busy_server_gets_one_request_at_a_time_and_all_a_minute_later() {
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

    #[test]
    fn a_server_that_refuses_most_requests_gets_at_least_half_of_what_it_would_accept() {
        for (senders, seed) in [1, 4, 16].into_iter().flat_map(|n| (0..5).map(move |seed| (n, seed))) {
            for refuses in [0.6, 0.7] {
                let mut simulation = Simulation::new(senders, seed);
                // Nothing is known of the server until it has accepted something.
                while simulation.taken < 10 {
                    simulation.step(refuses);
                }
                simulation.taken = 0;
                let time = Duration::from_secs(300);
                for _ in 0..time.as_millis() / STEP.as_millis() {
                    simulation.step(refuses);
                }
                // The ideal without any pause: a request takes its time and a step.
                let most =
                    senders as f64 * time.as_secs_f64() / (ANSWER + STEP).as_secs_f64() * (1.0 - refuses);
                let share = simulation.taken as f64 / most;
                assert!(share >= 0.5, "{share} of {most}, {senders} senders, {refuses}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_server_that_accepts_nothing_gets_no_more_requests_than_from_independent_senders() {
        for seed in 0..10 {
            let mut simulation = Simulation::new(4, seed);
            for _ in 0..60_000 {
                simulation.step(1.0);
                let most = simulation.senders.iter().map(|sender| sender.failures).max().unwrap_or_default();
                assert!(simulation.limiter.failures >= most.saturating_sub(1), "no shorter pause of its own");
                assert!(!simulation.limiter.is_usual());
            }
            assert_eq!(simulation.taken, 0);
            assert!(simulation.refused <= 80, "{} requests in ten minutes", simulation.refused);
        }
    }

    #[test]
    fn a_server_that_accepts_everything_at_a_slower_pace_gets_that_pace() {
        let now = Instant::now();
        let mut limiter = Limiter::new(4);
        // The server refuses requests only while there are several at once. The limiter learns nothing from that.
        for _ in 0..50 {
            let window: Vec<u64> = (0..limiter.limit()).map(|_| limiter.start()).collect();
            let is_busy = window.len() > 1;
            for number in window {
                if is_busy { limiter.pushed_back(number, None, now, 1.0) } else { limiter.succeeded(number) }
            }
            assert!(!limiter.is_usual());
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
