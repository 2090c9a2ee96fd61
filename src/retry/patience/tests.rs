//! How long is waited, and what ends it.

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
fn a_server_is_left_alone_for_as_long_as_it_asks_for_but_not_beyond_the_budget() {
    let stop = Stop::new();
    let asked = Duration::from_millis(300);
    let begun = Instant::now();
    let retries = Retries::new(&stop, None);
    assert_eq!(retries.patience().away_for("status 429", Some(asked)), Ok(()));
    assert!(begun.elapsed() >= asked);

    let begun = Instant::now();
    let retries = Retries::new(&stop, Some(Duration::from_millis(50)));
    let mut patience = retries.patience();
    while patience.away_for("status 429", Some(Duration::from_secs(200))).is_ok() {}
    assert!(begun.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_stop_ends_the_wait() {
    let stop = Stop::new();
    stop.request(StopReason::Terminate);
    let retries = Retries::new(&stop, None);
    assert_eq!(retries.patience().failed("status 503", false), Err(Stopped));
    assert_eq!(retries.patience().away_for("status 503", Some(Duration::from_secs(200))), Err(Stopped));
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
