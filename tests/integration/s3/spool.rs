//! `--source s3 --mode spool`: objects that arrive later, and failures that would end a once run.

use std::time::{Duration, Instant};

use super::{archives, check, gets, ingest, is_get_of, key, put, with};
use crate::harness::archives::Archive;
use crate::harness::fake::PATIENCE;
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::s3::{FakeS3, error, is_listing, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, Running, TestEnv, in_parallel, posts};

/// The program, with a look at the bucket every second.
fn spool<'e>(env: &'e TestEnv, s3: &FakeS3) -> Invocation<'e> {
    ingest(env, s3).args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1")
}

/// Waits until an object is left for a later look.
fn wait_until_it_is_left(running: &Running) {
    let started = Instant::now();
    while !running.has_logged("stays pending") {
        assert!(started.elapsed() < PATIENCE, "an object is left for later");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn loads_objects_that_arrive_later() {
    let archives = archives();
    let (env, s3) = with(&archives[..1]);
    let running = spool(&env, &s3).start();
    env.wait_for_processed(&archives[..1]);
    put(&s3, &archives[1..]);
    env.wait_for_processed(&archives);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn downloads_a_replaced_object_again() {
    let mut archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    archives[1] = Archive::new("20251218_000100").with_all(posts("replaced", 30));
    s3.replace_after_cut(&key(&archives[1]), archives[1].zip());
    let running = spool(&env, &s3).start();
    env.wait_for_processed(&archives);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0).counts(&[("rows.indexed", 36)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn survives_failures_of_single_objects() {
    for (status, code) in [(404, "NoSuchKey"), (403, "AccessDenied"), (503, "SlowDown")] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_get_of(&archives[1]), 0, 2, Fault::Reply(error(status, code)));
        let running = spool(&env, &s3).start();
        env.wait_for_processed(&archives);
        running.signal("TERM");
        check(running.wait(), &s3).exits(0).says(code).counts(&[("archives.processed", 3)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn survives_failures_of_later_listings() {
    let replies = [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "ExpiredToken"), (500, "x")];
    in_parallel(replies, |(status, code)| {
        let archives = archives();
        let (env, s3) = with(&archives[..1]);
        s3.fail(is_listing, 1, 3, Fault::Reply(error(status, code)));
        let running = spool(&env, &s3).start();
        env.wait_for_processed(&archives[..1]);
        put(&s3, &archives[1..]);
        env.wait_for_processed(&archives);
        running.signal("TERM");
        check(running.wait(), &s3).exits(0).says(code);
        assert_holds(&env.fake, &archives);
    });
}

#[test]
fn an_object_that_cannot_be_served_waits_and_harms_no_other_archive() {
    in_parallel([(500, "InternalError"), (307, "TemporaryRedirect")], |(status, code)| {
        let archives = archives();
        let (env, s3) = with(&archives[..2]);
        s3.fail(is_get_of(&archives[0]), 0, usize::MAX, Fault::Reply(error(status, code)));
        let running = spool(&env, &s3).start();
        env.wait_for_processed(&archives[1..2]);
        put(&s3, &archives[2..]);
        env.wait_for_processed(&archives[1..]);
        wait_until_it_is_left(&running);
        s3.clear_faults();
        env.wait_for_processed(&archives);
        running.signal("TERM");
        check(running.wait(), &s3).exits(0).says(code);
        assert_holds(&env.fake, &archives);
    });
}

#[test]
fn an_object_left_for_later_is_tried_once_per_look() {
    let archives = archives();
    let (env, s3) = with(&archives[..1]);
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(500, "InternalError")));
    let is_look = |request: &Request| is_listing(request) && request.param("max-keys").is_none();
    let running = spool(&env, &s3).start();
    wait_until_it_is_left(&running);
    let looks = |requests: &[Request]| requests.iter().filter(|request| is_look(request)).count();
    let before = s3.requests();
    s3.wait_for(is_look, looks(&before) + 4);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0);
    assert!(
        before.iter().filter(|request| is_object(request)).count() > 1,
        "the first look retries for a while"
    );
    let later = s3.requests().split_off(before.len());
    let asked: Vec<_> =
        later.split(is_look).map(|look| look.iter().filter(|r| is_object(r)).count()).collect();
    assert!(asked.iter().all(|count| *count <= 1) && asked.iter().sum::<usize>() >= 2, "{asked:?}");
}

#[test]
fn no_object_is_left_for_later_while_s3_is_unavailable() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(503, "SlowDown")));
    s3.fail(is_listing, 1, usize::MAX, Fault::Reply(error(503, "SlowDown")));
    let running = spool(&env, &s3).start();
    // The first listing is the look; the others probe whether S3 answers.
    s3.wait_for(is_listing, 3);
    s3.clear_faults();
    env.wait_for_processed(&archives);
    running.signal("TERM");
    let run = check(running.wait(), &s3).exits(0);
    run.check(!run.stderr.contains("stays pending"), "none was left");
    assert_holds(&env.fake, &archives);
}

#[test]
fn ends_at_once_if_the_first_listing_is_refused() {
    let (env, s3) = with(&archives());
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(error(403, "AccessDenied")));
    check(spool(&env, &s3).run(), &s3).exits(5).says("AccessDenied");
}

#[test]
fn waits_out_a_temporary_refusal_of_credentials() {
    for (status, code) in [(403, "InvalidAccessKeyId"), (400, "ExpiredToken")] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_object, 0, 7, Fault::Reply(error(status, code)));
        let running = spool(&env, &s3).start();
        env.wait_for_processed(&archives);
        running.signal("TERM");
        check(running.wait(), &s3).exits(0).says(code).counts(&[("archives.processed", 3)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn loads_nothing_from_a_listing_whose_second_page_fails() {
    let archives = archives();
    let (env, s3) = with(&archives[..1]);
    let second_page =
        |request: &Request| is_listing(request) && request.param("continuation-token").is_some();
    s3.fail(second_page, 0, 2, Fault::Reply(error(403, "AccessDenied")));
    let running = spool(&env, &s3).start();
    env.wait_for_processed(&archives[..1]);
    for n in 0..1_000 {
        s3.put(&format!("in/0/{n:04}.txt"), "no archive");
    }
    put(&s3, &archives[1..]);
    env.wait_for_processed(&archives);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0).says("AccessDenied");
    assert_holds(&env.fake, &archives);
}

#[test]
fn marks_a_broken_object_at_once() {
    let archives = archives();
    let (env, s3) = with(&archives[1..]);
    s3.put(&key(&archives[0]), "no zip");
    s3.touch_all();
    let running = spool(&env, &s3).start();
    env.wait_for_processed(&archives[1..]);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0).counts(&[("archives.failed", 1)]);
    assert_eq!(gets(&s3, &key(&archives[0])).len(), 1);
}
