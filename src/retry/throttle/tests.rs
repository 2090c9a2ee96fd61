//! Tests of admission and of the server's health.

use super::*;
use crate::process::shutdown::StopReason;

/// Returns whether a throttle with one request of `taken` bytes in flight admits one more of `bytes` at once.
fn admits(most: usize, taken: usize, bytes: usize) -> bool {
    let throttle = Throttle::new(Senders::fixed(most), Stop::new(), None);
    let _permit = throttle.acquire(taken).unwrap();
    throttle.state.lock().has_room_for(bytes)
}

/// Acquires a permit without a pause before it.
fn acquire(throttle: &Throttle) -> Permit<'_> {
    let permit = throttle.acquire(0).unwrap();
    assert!(throttle.pause().is_none());
    permit
}

#[test]
fn there_are_as_many_permits_as_the_limit() {
    let throttle = Throttle::new(Senders::fixed(4), Stop::new(), None);
    let mut permits: Vec<Permit<'_>> = (0..4).map(|_| acquire(&throttle)).collect();
    assert!(!throttle.state.lock().has_room_for(0));
    permits.pop().unwrap().pushed_back(None);
    assert_eq!((throttle.limit(), throttle.state.lock().in_flight), (2, 3));
    permits.pop();
    assert!(!throttle.state.lock().has_room_for(0), "two are in flight, and no more are allowed");
    permits.pop();
    assert!(throttle.state.lock().has_room_for(0));
    drop(permits);
    for _ in 0..2 + 3 {
        throttle.acquire(0).unwrap().succeeded();
    }
    assert_eq!((throttle.limit(), throttle.state.lock().in_flight), (4, 0));
}

#[test]
fn bytes_in_flight_are_bounded_but_a_large_request_is_sent_alone() {
    assert!(admits(4, MAX_BYTES - 1, 1));
    assert!(!admits(4, MAX_BYTES - 1, 2));
    assert!(!admits(4, 1, usize::MAX));
    assert!(Throttle::new(Senders::fixed(4), Stop::new(), None).acquire(MAX_BYTES + 1).is_ok());
}

#[test]
fn a_waiting_request_is_admitted_when_there_is_room() {
    let throttle = Throttle::new(Senders::fixed(1), Stop::new(), None);
    let held = throttle.acquire(MAX_BYTES).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| throttle.acquire(1).is_ok());
        while throttle.state.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        drop(held);
        assert!(waiting.join().unwrap());
    });
    let state = throttle.state.lock();
    assert_eq!((state.in_flight, state.bytes, state.waiting.len()), (0, 0, 0));
}

#[test]
fn a_stop_ends_the_wait_for_a_permit() {
    let stop = Stop::new();
    let throttle = Throttle::new(Senders::fixed(1), stop.clone(), None);
    let held = throttle.acquire(0).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| throttle.acquire(0).is_err());
        stop.request(StopReason::Terminate);
        assert!(waiting.join().unwrap());
    });
    drop(held);
}

#[test]
fn a_stop_ends_a_retry_after_pause() {
    let stop = Stop::new();
    let throttle = Throttle::new(Senders::fixed(1), stop.clone(), None);
    throttle.acquire(0).unwrap().pushed_back(Some(Duration::from_secs(3600)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| throttle.acquire(0).is_err());
        stop.request(StopReason::Terminate);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_server_is_unavailable_only_after_a_while_without_progress() {
    let states = [None, Some(Duration::ZERO), Some(UNAVAILABLE_AFTER)].map(health_without_progress_for);
    assert_eq!(states, [Health::Available, Health::PushingBack, Health::Unavailable]);
}

#[test]
fn progress_of_any_kind_is_a_sign_of_life() {
    let throttle = Throttle::new(Senders::fixed(2), Stop::new(), None);
    let acquire = || throttle.acquire(0).unwrap();
    let long_ago = Instant::now().checked_sub(UNAVAILABLE_AFTER).unwrap();
    acquire().pushed_back(None);
    assert_eq!((throttle.health(), throttle.limit()), (Health::PushingBack, 1));
    throttle.state.lock().failing_since = Some(long_ago);
    acquire().pushed_back(None);
    assert_eq!(throttle.health(), Health::Unavailable);
    acquire().pushed_back_in_part();
    assert_eq!(throttle.health(), Health::PushingBack);
    acquire().succeeded();
    assert_eq!(throttle.health(), Health::Available);
}

#[test]
fn an_outage_starts_with_its_first_request_after_the_last_progress() {
    let throttle = Throttle::new(Senders::fixed(2), Stop::new(), None);
    let (mut hung, mut other) = (throttle.acquire(0).unwrap(), throttle.acquire(0).unwrap());
    for permit in [&mut hung, &mut other] {
        permit.started = Instant::now().checked_sub(UNAVAILABLE_AFTER).unwrap();
    }
    hung.found_away(None);
    assert!(throttle.was_away() && throttle.failing_for() >= UNAVAILABLE_AFTER);
    other.succeeded();
    let mut hung = throttle.acquire(0).unwrap();
    hung.started = Instant::now().checked_sub(UNAVAILABLE_AFTER).unwrap();
    hung.pushed_back(None);
    assert!(!throttle.was_away() && throttle.failing_for() < UNAVAILABLE_AFTER);
}

#[test]
fn all_senders_honour_retry_after() {
    let throttle = Throttle::new(Senders::fixed(4), Stop::new(), None);
    throttle.acquire(0).unwrap().pushed_back(Some(Duration::from_secs(7)));
    let pause = throttle.pause().unwrap();
    assert!(pause > Duration::from_secs(6) && pause <= Duration::from_secs(7), "{pause:?}");
}

#[test]
fn no_pause_outlasts_the_budget() {
    let throttle = Throttle::new(Senders::fixed(4), Stop::new(), Some(Duration::from_secs(2)));
    throttle.acquire(0).unwrap().pushed_back(Some(Duration::from_secs(200)));
    let pause = throttle.pause().unwrap();
    assert!(pause > Duration::from_secs(1) && pause <= Duration::from_secs(2), "{pause:?}");
    throttle.state.lock().failing_since = Instant::now().checked_sub(Duration::from_secs(2));
    assert_eq!(throttle.pause(), None);
    assert!(throttle.failing_for() >= Duration::from_secs(2));
}
