//! `--source s3`: long, slow and invalid listings, and endless error replies.

use super::{SOON, archives, check, ingest, key, run, with};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::s3::{BUCKET, FakeS3, error, is_listing, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, Run, Running, in_parallel};

/// The number of requests for pages of the listing.
fn pages_asked_for(s3: &FakeS3) -> usize {
    s3.requests().iter().filter(|request| is_listing(request)).count()
}

fn is_second_page(request: &Request) -> bool {
    is_listing(request) && request.param("continuation-token").is_some()
}

/// A body that takes longer than any run may take.
fn long(reply: Reply) -> Reply {
    let body = [reply.body.as_slice(), &[b' '; 10_000]].concat();
    reply.with_body(&body)
}

/// Sends SIGTERM, waits until it is logged, and calls `then`. A program that waits for nothing may end before it logs
/// the signal.
#[track_caller]
fn terminate(mut running: Running, s3: &FakeS3, then: impl FnOnce()) -> Run {
    running.signal("TERM");
    while !running.has_logged("stopping") && running.is_running() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    then();
    let run = check(running.wait(), s3);
    run.check(run.took < SOON, "the run ends soon");
    run
}

/// A once run and a spool run.
fn modes<'e>(invocation: impl Fn() -> Invocation<'e>) -> [(Invocation<'e>, i32); 2] {
    [(invocation(), 143), (invocation().args(&["--mode", "spool"]), 0)]
}

#[test]
fn a_signal_ends_a_listing_between_two_pages() {
    let (env, s3) = with(&[]);
    (0..2_500).for_each(|n| s3.put(&format!("in/{n:04}.txt"), ""));
    s3.fail(is_second_page, 0, 1, Fault::Hang);
    let running = ingest(&env, &s3).start();
    s3.wait_for(is_second_page, 1);
    terminate(running, &s3, || s3.release()).exits(143);
    assert_eq!(pages_asked_for(&s3), 2, "the third page is not requested");
}

#[test]
fn a_signal_ends_a_listing_within_a_page() {
    let (env, s3) = with(&archives());
    let page = Reply { status: 200, headers: vec![], body: b"<ListBucketResult>".to_vec() };
    s3.fail(is_listing, 0, usize::MAX, Fault::Dripping(long(page)));
    for (invocation, code) in modes(|| ingest(&env, &s3)) {
        let before = pages_asked_for(&s3);
        let running = invocation.start();
        s3.wait_for(is_listing, before + 1);
        terminate(running, &s3, || {}).exits(code);
        assert_eq!(pages_asked_for(&s3), before + 1);
    }
}

#[test]
fn an_endless_error_reply_is_judged_by_its_beginning() {
    in_parallel([is_listing, is_object], |condition| {
        let (env, s3) = with(&archives());
        s3.fail(condition, 0, usize::MAX, Fault::Dripping(long(error(503, "SlowDown"))));
        let over = run(ingest(&env, &s3).args(&["--retry-budget", "0"]), &s3).exits(4).says("503");
        over.check(over.took < SOON, "the budget holds");
    });
}

#[test]
fn a_signal_ends_an_endless_error_reply() {
    for condition in [is_listing, is_object] {
        let (env, s3) = with(&archives());
        s3.fail(condition, 0, usize::MAX, Fault::Dripping(long(error(503, "SlowDown"))));
        let running = ingest(&env, &s3).start();
        s3.wait_for(condition, 1);
        terminate(running, &s3, || {}).exits(143);
    }
}

/// A page with these keys, of objects of one byte, and a token for the next page.
fn page(keys: &[&str], token: &str) -> Fault {
    let contents = keys.iter().map(|key| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2025-12-18T00:00:00.000Z</LastModified>\
             <ETag>&quot;0&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    });
    let contents: String = contents.collect();
    let body = format!(
        "<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>{token}</NextContinuationToken>{contents}</ListBucketResult>"
    );
    Fault::Reply(Reply { status: 200, headers: vec![], body: body.into_bytes() })
}

/// Whether a request is for the page of this token.
fn asks_for(token: &'static str) -> impl Fn(&Request) -> bool + Send + Sync + 'static {
    move |request| is_listing(request) && request.param("continuation-token") == Some(token)
}

#[test]
fn a_listing_whose_page_comes_again_under_another_token_is_given_up() {
    let (env, s3) = with(&[]);
    s3.fail(asks_for("A"), 0, usize::MAX, page(&["in/1.txt"], "B"));
    s3.fail(asks_for("B"), 0, usize::MAX, page(&["in/2.txt"], "C"));
    s3.fail(asks_for("C"), 0, usize::MAX, page(&["in/2.txt"], "D"));
    s3.fail(is_listing, 0, usize::MAX, page(&[], "A"));
    run(ingest(&env, &s3), &s3).exits(1).says("has the same keys as the page before");
    assert_eq!(pages_asked_for(&s3), 4);
}

#[test]
fn a_circular_listing_is_given_up() {
    let (env, s3) = with(&[]);
    s3.fail(asks_for("A"), 0, usize::MAX, page(&[], "B"));
    s3.fail(asks_for("B"), 0, usize::MAX, page(&[], "A"));
    s3.fail(is_listing, 0, usize::MAX, page(&[], "A"));
    run(ingest(&env, &s3), &s3).exits(1).says("has been read before");
    assert_eq!(pages_asked_for(&s3), 3);
}

#[test]
fn a_key_on_two_pages_is_one_object() {
    let archives = archives();
    let (env, s3) = with(&archives);
    // The object was replaced between the two pages; the second page is the fake's own.
    s3.fail(is_listing, 0, 1, page(&[&key(&archives[0])], "T"));
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.discovered", 3), ("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
}
