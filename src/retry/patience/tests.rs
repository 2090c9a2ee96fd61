//! Tests of how long a request is retried, and what ends that.

use super::*;
use crate::model::Senders;
use crate::process::shutdown::StopReason;
use crate::retry::throttle::Throttle;
use crate::tests::captured::lines_of;

/// Returns the policy for a server that may refuse requests for a minute after an outage.
fn policy(budget: Option<Duration>) -> Policy {
    Policy { starting: Duration::from_secs(60), ..Policy::new("Elasticsearch", budget) }
}

/// Repeats an attempt until it is given up; returns the failure.
fn given_up(mut attempt: impl FnMut() -> Result<(), GivenUp>) -> Failure {
    loop {
        if let Err(GivenUp(failure)) = attempt() {
            return failure;
        }
    }
}

#[test]
fn a_spent_budget_is_a_failure_and_stops_a_run_that_depends_on_the_server() {
    for ends_run in [false, true] {
        let stop = Stop::new();
        let retries = Retries::new(&stop, policy(Some(Duration::from_millis(1))));
        let retries = if ends_run { retries.ending_the_run() } else { retries };
        let mut patience = retries.patience();
        let failure = given_up(|| patience.failed("status 503", false));
        assert!(patience.has_failed());
        assert_eq!(failure.code, ExitCode::Unavailable);
        assert!(
            failure.message.contains("status 503") && failure.message.contains("--retry-budget"),
            "{failure}"
        );
        assert_eq!(stop.reason(), ends_run.then_some(StopReason::Fatal(failure)));
    }
}

#[test]
fn without_a_budget_the_first_failure_is_the_last() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, Policy::new("S3", Some(Duration::ZERO)));
    let GivenUp(failure) = retries.patience().failed("status 503", true).unwrap_err();
    assert_eq!((failure.code, &*failure.message), (ExitCode::Unavailable, "S3 is unavailable: status 503"));
}

#[test]
fn the_last_attempt_is_at_the_end_of_the_budget() {
    let stop = Stop::new();
    let budget = Duration::from_millis(200);
    let retries = Retries::new(&stop, policy(Some(budget)));
    let mut patience = retries.patience();
    let begun = Instant::now();
    while patience.failed("status 503", false).is_ok() {}
    assert!(begun.elapsed() >= budget);
}

#[test]
fn senders_share_one_budget_for_a_failing_server() {
    let stop = Stop::new();
    let budget = Some(Duration::from_millis(50));
    let throttle = Throttle::new(Senders::fixed(2), stop.clone(), budget);
    let retries = Retries::new(&stop, policy(budget)).shared_health(&throttle);
    throttle.acquire(0).unwrap().pushed_back(None);
    while throttle.failing_for() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
    // The first attempt of another sender.
    let GivenUp(failure) = retries.patience().failed("status 503", false).unwrap_err();
    assert_eq!(failure.code, ExitCode::Unavailable);
}

fn key_refused() -> Failure {
    Failure::new(ExitCode::Refused, "no such key")
}

#[test]
fn the_budget_counts_from_the_start_of_the_first_attempt_that_failed() {
    let stop = Stop::new();
    let budget = Duration::from_secs(50);
    let retries = Retries::new(&stop, policy(Some(budget)));
    let mut patience = retries.patience();
    assert_eq!(patience.begin(), budget);
    patience.attempt_started = Instant::now().checked_sub(budget).unwrap();
    assert_eq!(patience.away("no reply in time").unwrap_err().0.code, ExitCode::Unavailable);
}

#[test]
fn an_attempt_gets_the_rest_of_the_budget_but_at_least_ten_seconds() {
    let stop = Stop::new();
    let limit = |budget: Option<u64>, ago: u64| {
        let retries = Retries::new(&stop, policy(budget.map(Duration::from_secs)));
        let mut patience = retries.patience();
        patience.failing_since = Instant::now().checked_sub(Duration::from_secs(ago));
        patience.begin()
    };
    assert_eq!(limit(None, 1000), Duration::MAX);
    let left = limit(Some(600), 550);
    assert!(left > Duration::from_secs(49) && left <= Duration::from_secs(50), "{left:?}");
    assert_eq!([limit(Some(600), 595), limit(Some(3), 0)], [SHORTEST_CALL; 2]);
}

#[test]
fn a_refusal_is_retried_only_after_an_outage_and_only_for_a_while() {
    let refused = |before: &dyn Fn(&mut Patience<'_>)| {
        let stop = Stop::new();
        let retries = Retries::new(&stop, policy(None));
        let mut patience = retries.patience();
        before(&mut patience);
        patience.refused(key_refused())
    };
    assert_eq!(refused(&|_| ()), Err(GivenUp(key_refused())));
    assert_eq!(
        refused(&|patience| patience.failed("status 429", false).unwrap()),
        Err(GivenUp(key_refused()))
    );
    assert_eq!(refused(&|patience| patience.away("no connection").unwrap()), Ok(()));
    let some_answered = |patience: &mut Patience<'_>| {
        patience.away("no connection").unwrap();
        patience.failed("3 of 9 actions: status 429", true).unwrap();
    };
    assert_eq!(refused(&some_answered), Err(GivenUp(key_refused())));
    let for_a_minute = |patience: &mut Patience<'_>| {
        patience.away("no connection").unwrap();
        patience.refused_since = Instant::now().checked_sub(Duration::from_secs(60));
    };
    assert_eq!(refused(&for_a_minute), Err(GivenUp(key_refused())));
}

#[test]
fn a_refusal_that_need_not_be_final_is_retried_until_it_has_lasted() {
    const LEAST: Duration = Duration::from_secs(10);
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(None));
    let mut patience = retries.patience();
    let has_lasted = |patience: &mut Patience<'_>| patience.refused_since = Instant::now().checked_sub(LEAST);
    assert_eq!(patience.refused_for(LEAST, key_refused()), Ok(()));
    // The server accepts the request in the meantime, so the next refusal is another one.
    has_lasted(&mut patience);
    patience.failed("status 429", false).unwrap();
    assert_eq!(patience.refused_for(LEAST, key_refused()), Ok(()));
    has_lasted(&mut patience);
    assert_eq!(patience.refused_for(LEAST, key_refused()), Err(GivenUp(key_refused())));
}

#[test]
fn a_refusal_is_retried_if_another_sender_found_the_server_away() {
    let stop = Stop::new();
    let throttle = Throttle::new(Senders::fixed(2), stop.clone(), None);
    let retries = Retries::new(&stop, policy(None)).shared_health(&throttle);
    throttle.acquire(0).unwrap().found_away(None);
    assert_eq!(retries.patience().refused(key_refused()), Ok(()));
    throttle.acquire(0).unwrap().succeeded();
    throttle.acquire(0).unwrap().pushed_back(None);
    assert_eq!(retries.patience().refused(key_refused()), Err(GivenUp(key_refused())));
}

#[test]
fn a_budget_that_ends_with_a_refusal_ends_the_run_as_refused() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(Some(Duration::from_millis(50))));
    let mut patience = retries.patience();
    patience.away("status 503").unwrap();
    assert_eq!(given_up(|| patience.refused(key_refused())), key_refused());
}

#[test]
fn retry_after_is_honoured_within_the_budget() {
    let stop = Stop::new();
    let asked = Duration::from_millis(300);
    let begun = Instant::now();
    let retries = Retries::new(&stop, policy(None));
    assert_eq!(retries.patience().away_for("status 429", Some(asked)), Ok(()));
    assert!(begun.elapsed() >= asked);

    let begun = Instant::now();
    let retries = Retries::new(&stop, policy(Some(Duration::from_millis(50))));
    let mut patience = retries.patience();
    while patience.away_for("status 429", Some(Duration::from_secs(200))).is_ok() {}
    assert!(begun.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_stop_ends_the_wait() {
    let stop = Stop::new();
    stop.request(StopReason::Terminate);
    let retries = Retries::new(&stop, policy(None));
    let by_signal = Err(GivenUp(stop.as_failure()));
    assert_eq!(retries.patience().failed("status 503", false), by_signal);
    assert_eq!(retries.patience().away_for("status 503", Some(Duration::from_secs(200))), by_signal);
    // The signal also wins where the budget is spent.
    let retries = Retries::new(&stop, policy(Some(Duration::ZERO)));
    assert_eq!(retries.patience().failed("status 503", false), by_signal);
}

#[test]
fn only_consecutive_interruptions_count() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(None));
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
fn a_final_refusal_is_not_retried() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, Policy::new("S3", None));
    let mut patience = retries.patience();
    patience.away("no connection").unwrap();
    assert_eq!(patience.refused(key_refused()), Err(GivenUp(key_refused())));
}

#[test]
fn progress_restarts_budget_and_back_off() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(Some(Duration::from_secs(100))));
    let mut patience = retries.patience();
    patience.failing_since = Instant::now().checked_sub(Duration::from_secs(99));
    // The start of the attempt that brought progress is long ago, which must not count.
    patience.attempt_started = Instant::now().checked_sub(Duration::from_secs(500)).unwrap();
    patience.progressed();
    assert!(!patience.has_failed() && patience.failing_for() < Duration::from_secs(50));
    patience.away("cut off").unwrap();
    assert!(patience.failing_for() < Duration::from_secs(50));
}

#[test]
fn an_answer_that_does_not_come_costs_budget_and_counts_as_an_interruption() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(None));
    let mut patience = retries.patience();
    patience.unanswered("no answer in time").unwrap();
    assert!(patience.has_failed() && patience.failing_since.is_some());
    assert_eq!(patience.interruptions(), 1);
    let retries = Retries::new(&stop, policy(Some(Duration::ZERO)));
    let GivenUp(failure) = retries.patience().unanswered("no answer in time").unwrap_err();
    assert_eq!(failure.message, "Elasticsearch is unavailable: no answer in time");
}

#[test]
fn a_failed_attempt_is_logged_unless_the_run_is_to_stop() {
    let stop = Stop::new();
    let retries = Retries::new(&stop, policy(None));
    let logged = || lines_of(|| drop(retries.patience().failed("status 503", false)));
    let lines = logged();
    assert!(matches!(&lines[..], [line] if line.starts_with("Elasticsearch: status 503; next")), "{lines:?}");
    stop.request(StopReason::Terminate);
    assert!(retries.stop().is_requested(), "there is one signal");
    assert!(logged().is_empty());
}
