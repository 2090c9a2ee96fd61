//! Limits the requests in flight, and pauses them, by how the server answers. Pure: the time is passed in.
//!
//! The limit follows TCP congestion control (additive increase, multiplicative decrease). It grows by one once a whole
//! window of requests has gone well, and halves as soon as the server pushes back. A window is judged once: requests
//! that were already in flight when the limit fell tell nothing new.
//!
//! Some servers refuse most requests at any pace: even one at a time, with some accepted in between. Waiting longer and
//! longer does not help then. The limiter learns how many refusals in a row are usual for such a server while it sends
//! one request at a time. As long as there are not many more, a refusal costs only its own sender a short wait. A
//! server that has accepted nothing teaches nothing, and gets no extra requests for this.

use std::time::{Duration, Instant};

use crate::retry::back_off::{back_off, pause_after};

/// Average refusals between two accepted requests below which refusals are not worth considering.
const LEAST_USUAL: f64 = 0.2;

/// Average refusals above which the server accepts next to nothing.
const MOST_USUAL: f64 = 4.0;

/// Refusals in a row that mean an outage, whatever was usual before.
const FAR_TOO_MANY: u32 = 40;

/// The adaptive limit on requests in flight, and the pause after a push-back.
#[derive(Debug)]
pub struct Limiter {
    most: usize,
    limit: usize,
    successes: usize,
    /// Number of the next request.
    next: u64,
    /// Requests with a smaller number were in flight, or done, when the server last pushed back.
    heard_below: u64,
    /// Push-backs since the last success.
    failures: u32,
    /// Requests refused since one was last accepted, at least in part.
    in_a_row: u32,
    /// How many of those travelled alone.
    alone: u32,
    /// Average refusals between two accepted requests, even with one request at a time.
    usual: f64,
    /// Average duration of an accepted request.
    takes: Duration,
    /// No request starts before this.
    pause_until: Option<Instant>,
}

impl Limiter {
    /// Creates a limiter that starts at its ceiling, `most` requests (at least one).
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: most,
            successes: 0,
            next: 0,
            heard_below: 0,
            failures: 0,
            in_a_row: 0,
            alone: 0,
            usual: 0.0,
            takes: Duration::ZERO,
            pause_until: None,
        }
    }

    /// Returns how many requests may be in flight now, at least 1.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns how long no request may start, if there is a pause.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.pause_until?.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }

    /// Returns the number of a request that starts.
    pub fn start(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Request `number` went well. If it was already in flight when the server pushed back, it does not show that the
    /// push-back is over, nor does it shorten a `Retry-After`.
    pub fn succeeded(&mut self, number: u64) {
        self.learn(0);
        if number < self.heard_below {
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
    pub fn took(&mut self, time: Duration) {
        self.takes = if self.takes.is_zero() { time } else { (self.takes * 7 + time) / 8 };
    }

    /// Returns how long a sender that has met `failures` earlier ones in a row waits on its own. If all senders
    /// together have met fewer since the server last accepted something, that number counts. A usual refusal costs no
    /// more than the duration of a request.
    pub fn own_pause(&self, failures: u32, random: f64) -> Duration {
        if self.is_usual() {
            return back_off(0, random).min(self.takes.mul_f64(random.clamp(0.0, 1.0)));
        }
        back_off(self.known(failures.min(self.failures)), random)
    }

    /// Returns the failures in a row that count. A server that refuses most requests and accepts some says little with
    /// a few more.
    fn known(&self, failures: u32) -> u32 {
        if self.usual > 0.0 && self.in_a_row < FAR_TOO_MANY { failures.min(2) } else { failures }
    }

    /// Learns from an accepted request; `besides` counts refusals other than those of whole requests.
    fn learn(&mut self, besides: u32) {
        let met = f64::from(self.in_a_row.saturating_add(besides));
        let alone = f64::from(self.alone.saturating_add(besides));
        (self.in_a_row, self.alone) = (0, 0);
        if self.usual > 0.0 {
            let weight = if met > self.usual { 4.0 } else { 16.0 };
            self.usual += (met - self.usual) / weight;
            if self.usual < LEAST_USUAL {
                self.usual = 0.0;
            }
        } else if self.limit == 1 && alone > 0.0 {
            self.usual = alone.min(MOST_USUAL) / 2.0;
        }
    }

    /// Whether the refusals in a row are no more than is common for this server. Four times the average is rare by
    /// chance: one in some hundred where seven of ten requests are refused.
    fn is_usual(&self) -> bool {
        self.usual > 0.0 && f64::from(self.in_a_row) <= (4.0 * self.usual).min(4.0 * MOST_USUAL)
    }

    /// The server pushed back on request `number`: lowers the limit at once, and pauses. `random` is drawn evenly from
    /// 0 to 1.
    pub fn pushed_back(&mut self, number: u64, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.limit == 1 && number >= self.heard_below {
            self.alone = self.alone.saturating_add(1);
        }
        if self.is_usual() {
            retry_after.iter().for_each(|_| self.pause_for(pause_after(0, retry_after, random), now));
            return;
        }
        self.hear(number);
        self.pause_for(pause_after(self.known(self.failures.saturating_sub(1)), retry_after, random), now);
    }

    /// The server carried out part of request `number`: lowers the limit, but does not lengthen the pauses.
    pub fn pushed_back_in_part(&mut self, number: u64, now: Instant, random: f64) {
        self.learn(1);
        if self.is_usual() {
            self.count_success();
            return;
        }
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
    fn push_backs_of_one_window_halve_the_limit_once() {
        let mut limiter = Limiter::new(8);
        let window: Vec<u64> = (0..8).map(|_| limiter.start()).collect();
        window.iter().for_each(|&number| limiter.pushed_back(number, None, Instant::now(), 1.0));
        assert_eq!((limiter.limit(), limiter.failures), (4, 1));
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
    fn a_server_that_takes_part_of_every_request_is_not_waited_for_longer_and_longer() {
        let now = Instant::now();
        let mut limiter = Limiter::new(4);
        for _ in 0..30 {
            let number = limiter.start();
            limiter.pushed_back_in_part(number, now, 1.0);
        }
        // Going slower does not help: once that is known, all senders go on, and only the refused one waits.
        assert_eq!((limiter.limit(), limiter.pause(now)), (4, Some(back_off(0, 1.0))));
    }

    /// Senders in simulated time. The server answers after 50 ms, with 429 while it is busy.
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
        /// The request in flight, and when it is answered.
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

        /// Simulates a step in which requests are refused with this probability.
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
                        self.limiter.took(ANSWER);
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
    fn a_server_that_refuses_most_gets_half_of_what_it_would_take_at_least() {
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
    fn a_server_that_takes_nothing_is_asked_no_more_often_than_each_sender_would_by_itself() {
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
    fn a_server_that_takes_all_at_a_slower_pace_is_given_that_pace() {
        let now = Instant::now();
        let mut limiter = Limiter::new(4);
        // Requests are refused only while there are several at once: nothing is learnt from that.
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
