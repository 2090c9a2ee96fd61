//! Tests of the limiter, also with senders in simulated time.

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
                    if !waits && self.limiter.pause(self.now).is_none() && in_flight < self.limiter.limit() {
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
            let most = senders as f64 * time.as_secs_f64() / (ANSWER + STEP).as_secs_f64() * (1.0 - refuses);
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
