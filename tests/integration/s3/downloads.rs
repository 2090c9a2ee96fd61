//! `--source s3`: downloads that fail, without harm to the others.

use super::{SOON, archives, check, gets, ingest, is_get_of, key, run, with};
use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::posts;
use crate::harness::s3::{error, is_object};
use crate::harness::script::Fault;

/// `count` archives with one row each.
fn many(count: usize) -> Vec<Archive> {
    (0..count)
        .map(|n| Archive::new(&format!("20251218_0000{n:02}")).with_all(posts(&n.to_string(), 1)))
        .collect()
}

#[test]
fn interrupted_downloads_resume() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 2, Fault::CutReply);
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
    let length = archives[1].zip().len();
    let asked: Vec<_> = gets(&s3, &key(&archives[1]))
        .iter()
        .map(|request| (request.header("range").map(str::to_owned), request.header("if-match").is_some()))
        .collect();
    let first = length - length / 2;
    let second = first + (length - first) - (length - first) / 2;
    let range = |start: usize| Some(format!("bytes={start}-"));
    assert_eq!(asked, [(None, false), (range(first), true), (range(second), true)]);
}

#[test]
fn an_object_is_downloaded_as_a_whole_where_a_server_does_not_say_what_part_it_sends() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    let is_for_a_part = |request: &Request| is_object(request) && request.header("range").is_some();
    let part = Reply { status: 206, headers: vec![], body: b"which part?".to_vec() };
    s3.fail(is_for_a_part, 0, usize::MAX, Fault::Reply(part));
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
    let ranges =
        gets(&s3, &key(&archives[1])).iter().map(|r| r.header("range").is_some()).collect::<Vec<_>>();
    assert_eq!(ranges, [false, true, false]);
}

#[test]
fn an_object_replaced_during_its_download_is_downloaded_again() {
    let mut archives = archives();
    archives[1] = Archive::new("20251218_000100").with_all(posts("larger", 30));
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    archives[1] = Archive::new("20251218_000100").with_all(posts("replaced", 3));
    s3.replace_after_cut(&key(&archives[1]), archives[1].zip());
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("rows.indexed", 9)]);
    assert_holds(&env.fake, &archives);
    let conditions =
        gets(&s3, &key(&archives[1])).iter().map(|r| r.header("if-match").is_some()).collect::<Vec<_>>();
    assert_eq!(conditions, [false, true, false]);
    // The mark is of the content that was read, so the object has not changed since.
    let again = run(ingest(&env, &s3), &s3).exits(0);
    again.check(!again.stderr.contains("has changed"), "the mark has the ETag and size of the download");
    s3.put(&key(&archives[1]), Archive::new("20251218_000100").with_all(posts("once more", 3)).zip());
    run(ingest(&env, &s3), &s3).exits(0).says("has changed since it was processed");
}

#[test]
fn missing_or_denied_objects_stay_pending_and_harm_no_other_archive() {
    for (status, code) in [(404, "NoSuchKey"), (403, "AccessDenied"), (403, "InvalidObjectState")] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Reply(error(status, code)));
        let run = run(ingest(&env, &s3), &s3).exits(1).says(code);
        run.counts(&[("archives.processed", 2), ("archives.pending", 1), ("archives.failed", 0)]);
        assert_eq!(env.status_of(&archives[1]), "pending");
        ingest(&env, &s3).run().exits(0).counts(&[("archives.processed", 1)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn the_number_of_concurrent_downloads_is_bounded() {
    let archives = many(12);
    let (env, s3) = with(&archives);
    s3.fail(is_object, 0, 2, Fault::Hang);
    let running = ingest(&env, &s3).args(&["--workers", "1"]).start();
    s3.wait_for(is_object, 2);
    s3.release();
    check(running.wait(), &s3).exits(0).counts(&[("archives.processed", 12)]);
    assert_eq!(s3.peak_open_gets(), 2);
}

#[test]
fn an_object_replaced_by_a_larger_one_waits_for_the_next_listing() {
    let mut archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    archives[1] = Archive::new("20251218_000100").with_all(posts("replaced", 30));
    s3.replace_after_cut(&key(&archives[1]), archives[1].zip());
    let first = run(ingest(&env, &s3), &s3).exits(1).says("replaced by a larger one");
    first.counts(&[("archives.processed", 2), ("archives.pending", 1)]);
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("rows.indexed", 30)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn objects_past_the_retry_budget_stay_pending_and_harm_no_other_archive() {
    let archives = many(6);
    let (env, s3) = with(&archives);
    // As many objects as are downloaded at once.
    for archive in &archives[..2] {
        s3.fail(is_get_of(archive), 0, usize::MAX, Fault::Reply(error(500, "InternalError")));
    }
    let spent = run(ingest(&env, &s3).args(&["--retry-budget", "1", "--workers", "2"]), &s3);
    let spent = spent.exits(4).says("InternalError");
    spent.counts(&[("archives.processed", 4), ("archives.pending", 2), ("archives.failed", 0)]);
    s3.clear_faults();
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 2)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn the_budget_for_an_unavailable_s3_is_spent_once() {
    let archives = many(60);
    let (env, s3) = with(&archives);
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(503, "SlowDown")));
    let spent = run(ingest(&env, &s3).args(&["--retry-budget", "2", "--workers", "2"]), &s3).exits(4);
    spent.counts(&[("archives.pending", 60)]);
    spent.check(spent.took < SOON, "the budget is not spent for each object");
    assert!(gets(&s3, &key(&archives[59])).is_empty(), "the last archives are not requested");
}

/// A request for the rest of this object.
fn is_range_of(archive: &Archive) -> impl Fn(&Request) -> bool + Send + 'static {
    let is_get = is_get_of(archive);
    move |request| is_get(request) && request.header("range").is_some()
}

#[test]
fn repeated_bytes_are_not_progress() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_range_of(&archives[1]), 0, usize::MAX, Fault::Reply(error(412, "PreconditionFailed")));
    s3.fail(is_get_of(&archives[1]), 0, usize::MAX, Fault::CutReply);
    let spent = run(ingest(&env, &s3).args(&["--retry-budget", "1"]), &s3).exits(4);
    spent.counts(&[("archives.processed", 2), ("archives.pending", 1)]);
    assert!(gets(&s3, &key(&archives[1])).len() < 100, "attempts are paused");
}

#[test]
fn a_range_reply_may_omit_the_etag() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let zip = archives[1].zip();
    let start = zip.len() - zip.len() / 2;
    let range = format!("bytes {start}-{}/{}", zip.len() - 1, zip.len());
    let rest = Reply { status: 206, headers: vec![("content-range", range)], body: zip[start..].to_vec() };
    s3.fail(is_range_of(&archives[1]), 0, 1, Fault::Reply(rest));
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    run(ingest(&env, &s3), &s3).exits(0);
    assert_eq!(gets(&s3, &key(&archives[1])).len(), 2);
    assert_holds(&env.fake, &archives);
}

/// Replies with an error after a successful status: with and without an ETag and a length, and with that of the object.
fn late_errors(etag: &str) -> Vec<Vec<u8>> {
    let reply = error(200, "InternalError");
    let length = archives()[1].zip().len().to_string();
    let without = [reply.bytes(false), reply.chunked(), reply.unframed(usize::MAX)];
    let reply = reply.with_header("etag", etag);
    let with = [reply.bytes(false), reply.chunked(), reply.unframed(usize::MAX)];
    let of_the_object = reply.with_header("content-length", &length).unframed(usize::MAX);
    without.into_iter().chain(with).chain([of_the_object]).collect()
}

#[test]
fn an_error_in_place_of_an_object_is_not_a_part_of_it() {
    for etag in [format!("\"{:032x}\"", 2), "\"another\"".to_owned()] {
        for reply in late_errors(&etag) {
            let archives = archives();
            let (env, s3) = with(&archives);
            s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Bytes(reply.leak()));
            let run = run(ingest(&env, &s3), &s3).exits(0).says("with an error: InternalError");
            run.counts(&[("archives.processed", 3)]);
            assert_holds(&env.fake, &archives);
        }
    }
}

#[test]
fn a_complete_body_that_is_too_short_is_not_continued() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let body = [&archives[1].zip()[..300], b"<Error><Code>InternalError</Code></Error>"].concat();
    let cut = Reply { status: 200, headers: vec![], body };
    let cut = cut.with_header("etag", &format!("\"{:032x}\"", 2));
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Bytes(cut.chunked().leak()));
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
}

/// A reply with the rest of an archive after a `CutReply`.
fn rest_of(archive: &Archive, status: u16, body: &[u8]) -> Reply {
    let length = archive.zip().len();
    let range = format!("bytes {}-{}/{length}", length - length / 2, length - 1);
    Reply { status, headers: vec![("content-range", range)], body: body.to_vec() }
}

#[test]
fn a_server_that_cannot_resume_a_download_is_asked_for_the_whole_object() {
    let zip = archives()[1].zip();
    let replies = [
        error(501, "NotImplemented"),
        error(400, "InvalidArgument"),
        Reply { status: 304, headers: vec![], body: vec![] },
        // The rest with status 200, the whole object with status 206, and a compressed rest.
        Reply { status: 200, headers: vec![], body: zip[zip.len() - zip.len() / 2..].to_vec() },
        rest_of(&archives()[1], 206, &zip),
        rest_of(&archives()[1], 206, &zip[zip.len() - zip.len() / 2..])
            .with_header("content-encoding", "gzip"),
    ];
    for reply in replies {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_range_of(&archives[1]), 0, usize::MAX, Fault::Reply(reply));
        s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
        ingest(&env, &s3).run().exits(0).counts(&[("archives.processed", 3)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn an_archive_of_parts_that_do_not_fit_is_not_judged() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let zip = archives[1].zip();
    let other = rest_of(&archives[1], 206, &vec![0; zip.len() / 2]);
    s3.fail(is_range_of(&archives[1]), 0, 1, Fault::Reply(other));
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    let first = run(ingest(&env, &s3), &s3).exits(1).says("its download was interrupted");
    first.counts(&[("archives.processed", 2), ("archives.pending", 1), ("archives.failed", 0)]);
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 1)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_signal_ends_a_download_that_hangs() {
    let archives = archives();
    let (env, s3) = with(&archives);
    // The rest of this chunk never comes.
    let hanging = Reply { status: 200, headers: vec![], body: b"400\r\nPK".to_vec() };
    let hanging = hanging.with_header("transfer-encoding", "chunked");
    s3.fail(is_get_of(&archives[1]), 0, usize::MAX, Fault::Reply(hanging));
    let running = ingest(&env, &s3).start();
    s3.wait_for(is_get_of(&archives[1]), 1);
    env.wait_for_processed(&archives[..1]);
    running.signal("TERM");
    let run = check(running.wait(), &s3).exits(143);
    run.check(run.took < SOON, "the run did not wait for the rest");
}

#[test]
fn a_signal_ends_a_download_that_trickles() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, usize::MAX, Fault::Trickle);
    let running = ingest(&env, &s3).start();
    env.wait_for_processed(&archives[..1]);
    s3.wait_for(is_get_of(&archives[1]), 1);
    running.signal("TERM");
    let run = check(running.wait(), &s3).exits(143);
    run.check(run.took < SOON, "the run did not wait for the rest");
}
