//! Tests of what stops a run, and of signals.

use super::*;

#[test]
fn the_first_reason_stays() {
    let stop = Stop::new();
    assert!(!stop.is_requested());
    assert!(stop.request(StopReason::Terminate));
    assert!(!stop.request(StopReason::Interrupt));
    assert_eq!(stop.reason(), Some(StopReason::Terminate));
}

#[test]
fn a_panic_after_a_signal_fails_the_run() {
    let stop = Stop::new();
    stop.request(StopReason::Terminate);
    assert_eq!(stop.guard("the ledger", || -> () { panic!("a bug") }), None);
    assert!(matches!(stop.reason(), Some(StopReason::Fatal(failure)) if failure.message.contains("a bug")));
}

#[test]
fn a_wait_ends_when_the_run_is_to_stop() {
    let stop = Stop::new();
    assert!(stop.wait(Duration::from_millis(1)));
    let other = stop.clone();
    let waiting = thread::spawn(move || other.wait(Duration::from_secs(3600)));
    stop.request(StopReason::Interrupt);
    assert!(!waiting.join().unwrap());
}

#[test]
fn work_is_waited_for_unless_the_run_is_to_stop() {
    let stop = Stop::new();
    assert_eq!(stop.unless_requested(|| 7).unwrap(), Some(7));
    let (other, (held, released)) = (stop.clone(), bounded::<()>(0));
    let never_answers = move || {
        other.request(StopReason::Interrupt);
        let _ = released.recv();
    };
    assert_eq!(stop.unless_requested(never_answers).unwrap(), None);
    assert_eq!(stop.unless_requested(|| 7).unwrap(), None, "it is not even begun");
    drop(held);
}

#[test]
#[should_panic(expected = "of the work")]
fn a_panic_of_the_work_continues_in_the_caller() {
    let _ = Stop::new().unless_requested(|| panic!("of the work"));
}

#[test]
fn a_signal_is_a_second_one_unless_it_comes_together_with_the_first() {
    let stop = Stop::new();
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    assert!(!stop.take_signal(StopReason::Interrupt, at(0)));
    assert!(!stop.take_signal(StopReason::Terminate, at(49)));
    assert!(stop.take_signal(StopReason::Interrupt, at(50)));
    assert_eq!(stop.reason(), Some(StopReason::Interrupt));
}

#[test]
fn the_first_signal_in_a_stopping_run_is_not_a_second_one() {
    let stop = Stop::new();
    stop.fail(Failure::run("the disk is gone"));
    let now = Instant::now();
    assert!(!stop.take_signal(StopReason::Interrupt, now));
    assert!(stop.take_signal(StopReason::Interrupt, now + Duration::from_secs(1)));
}

#[test]
fn ignored_signals_are_read_from_the_mask_of_the_kernel() {
    let status =
        "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000000000\n";
    assert!(ignores(status, 2) && ignores(status, 13));
    assert!(!ignores(status, SIGHUP) && !ignores(status, SIGTERM));
    assert!(!ignores("", SIGHUP) && !ignores("SigIgn:\tx", SIGHUP));
}

#[test]
fn a_lack_of_threads_is_not_reported_as_a_bug() {
    let stop = Stop::new();
    // The text of the standard library.
    let no_thread = || -> () { panic!("failed to spawn thread: Os {{ code: 11, kind: WouldBlock }}") };
    assert_eq!(stop.guard("the load", no_thread), None);
    let message = stop.as_failure().message;
    assert!(message.contains("ulimit -u") && message.contains("run again"), "{message}");
    assert!(!message.contains("report"), "{message}");
}
