//! A server under pressure: what is sent again, how often, how many bytes, and what is logged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::archives::{Archive, delete, post, uri};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Run, TestEnv, in_parallel, long_or, posts};

fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("a", 20))
}

fn bulk_bytes(env: &TestEnv) -> usize {
    env.fake.bulks().iter().map(|record| record.request.body.len()).sum()
}

/// The number of log lines about failed attempts.
fn failure_lines(run: &Run) -> u64 {
    run.stderr.matches("next attempt in").count() as u64
}

/// Asserts that this post is the only dead letter, and that its reason gives the size of its request.
fn assert_only_dead_letter(env: &TestEnv, error_type: &str, name: &str) {
    let letters = env.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((&letter["error_type"], &letter["at_uri"]), (&json!(error_type), &json!(uri(name))));
    let line = |value: &Value| value.to_string().len() + 1;
    let size = line(&letter["action"]) + line(&letter["document"]);
    let reason = letter["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(&format!("{size} bytes")), "{size}: {reason}");
}

#[test]
fn items_refused_at_random_add_less_than_half_the_bytes() {
    let archives: Vec<Archive> = (0..4)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("a{n}-"), 500)))
        .collect();
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0);
    let clean = bulk_bytes(&env);

    let env = TestEnv::with_archives(&archives);
    let random = Mutex::new(fastrand::Rng::with_seed(5));
    let refused = move |_: &_| random.lock().unwrap().f64() < 0.3;
    env.fake.fail_items(refused, usize::MAX, 429, "es_rejected_execution_exception");
    let run = env.run(&[]).exits(0);
    run.counts(&[("rows.indexed", 2000)]);
    let sent = bulk_bytes(&env);
    run.check(sent > clean * 5 / 4, "items were pushed back");
    run.check(sent * 2 <= clean * 3, &format!("{sent} bytes were sent instead of {clean}"));
    assert_holds(&env.fake, &archives);
}

#[test]
fn only_the_document_that_breaks_its_connection_becomes_a_dead_letter() {
    let big = || post("big", &"too long ".repeat(10_000));
    in_parallel([archive(), Archive::new("20251218_000000")], |archive| {
        let env = TestEnv::with_archives(&[archive.clone().with(delete("gone")).with(big())]);
        let is_large = |request: &Request| request.is_bulk() && request.body.len() > 80_000;
        env.fake.fail(is_large, 0, usize::MAX, Fault::CloseBefore);
        // The budget is shorter than the run, which succeeds since the server is not unavailable.
        let run = env.ingest().var("RETRY_BUDGET_SEC", "3").run().exits(3);
        run.counts(&[("rows.rejected", 1), ("rows.deleted", 1), ("archives.processed", 1)]);
        assert_holds(&env.fake, &[archive.with(delete("gone"))]);
        assert_only_dead_letter(&env, "connection_broken", "big");
        // A strict server answers the probes in between, too.
        assert!(env.fake.bulks().iter().all(|record| !record.request.body.is_empty()));
    });
}

#[test]
fn a_request_after_a_broken_connection_expects_continue() {
    let archive = archive().with(post("big", &"long ".repeat(20_000)));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.fake.fail_bulks(1, Fault::CloseBefore);
    env.run(&[]).exits(0);
    // In between, an empty bulk request probes whether the server answers at all.
    let bulks = env.fake.bulks();
    let with_actions = bulks.iter().map(|record| &record.request).filter(|request| !request.body.is_empty());
    let asked: Vec<bool> = with_actions.map(|request| request.header("expect").is_some()).collect();
    assert_eq!(asked, [false, true]);
    assert_holds(&env.fake, &[archive]);
}

#[test]
fn broken_connections_on_small_requests_and_cut_replies_are_an_outage() {
    let large = Archive::new("20251218_000000").with(post("big", &"too long ".repeat(10_000)));
    let cases = [
        (archive(), Fault::CloseBefore),
        (archive(), Fault::CloseAfter),
        (archive(), Fault::CutReply),
        (large, Fault::CutReply),
    ];
    in_parallel(cases, |(archive, fault)| {
        let env = TestEnv::with_archives(std::slice::from_ref(&archive));
        let has_actions = |request: &Request| request.is_bulk() && !request.body.is_empty();
        env.fake.fail(has_actions, 0, usize::MAX, fault);
        let run = env.ingest().var("RETRY_BUDGET_SEC", "2").run().exits(4);
        run.counts(&[("rows.rejected", 0), ("archives.pending", 1)]);
        assert!(env.dead_letters().is_empty() && env.state().is_empty());
        env.fake.release();
        env.run(&[]).exits(0);
        assert_holds(&env.fake, &[archive]);
    });
}

#[test]
fn the_dead_letter_of_an_oversized_document_names_its_size_and_the_reply() {
    let env = TestEnv::with_archives(&[archive().with(post("big", &"too long ".repeat(1000)))]);
    let too_large = Reply::error(413, "too_large", "at most 6000 bytes");
    let is_large = |request: &Request| request.is_bulk() && request.body.len() > 6000;
    env.fake.fail(is_large, 0, usize::MAX, Fault::Reply(too_large));
    env.run(&[]).exits(3).counts(&[("rows.rejected", 1), ("rows.indexed", 20)]);
    assert_only_dead_letter(&env, "request_entity_too_large", "big");
    let reason = env.dead_letters()[0]["reason"].to_string();
    assert!(reason.contains("at most 6000 bytes"), "{reason}");
}

#[test]
fn a_server_that_breaks_every_connection_rejects_no_document() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail_bulks(usize::MAX, Fault::CloseAfter);
    let run = env.ingest().args(&["--batch-docs", "1"]).var("RETRY_BUDGET_SEC", "4").run().exits(4);
    run.counts(&[("rows.rejected", 0), ("archives.pending", 1)]);
    run.check(run.took < Duration::from_secs(15), "all requests together share the budget");
    assert!(env.dead_letters().is_empty());
    env.fake.release();
    env.run(&[]).exits(0);
    assert_holds(&env.fake, &[archive()]);
}

/// Asserts that a server that hangs from such a request on gets no more time than the budget, or than 10 s if the budget
/// is shorter.
fn assert_hanging_is_bounded(hangs: fn(&Request) -> bool) {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail(hangs, 0, usize::MAX, Fault::Hang);
    let run = env.ingest().var("RETRY_BUDGET_SEC", "1").run().exits(4).says("no reply in time");
    run.check(run.took < Duration::from_secs(25), "the run ends soon after the budget");
    assert!(env.state().is_empty());
}

#[test]
fn a_hanging_server_gets_no_more_time_than_the_budget() {
    assert_hanging_is_bounded(Request::is_bulk);
}

#[test]
fn a_server_hanging_in_the_preflight_gets_no_more_time_than_the_budget() {
    assert_hanging_is_bounded(|_| true);
}

#[test]
fn an_outage_logs_one_line_not_one_per_attempt() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail_bulks(usize::MAX, Fault::status(503));
    let run = env.ingest().args(&["--batch-docs", "4"]).var("RETRY_BUDGET_SEC", "2").run().exits(4);
    assert!(env.fake.bulks().len() > 5);
    run.check(failure_lines(&run) <= 1 + run.took.as_secs() / 10, "a line in ten seconds");
    run.check(failure_lines(&run) > 0, "the first one at once");
}

#[test]
fn a_spool_run_waits_for_an_unavailable_server() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail_bulks(6, Fault::cluster_block());
    let running = env.ingest().args(&["--mode", "spool"]).var("RETRY_BUDGET_SEC", "0").start();
    env.wait_for_processed(&[archive()]);
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.check(failure_lines(&run) == 1, "one line covers the attempts of a minute");
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn a_signal_ends_a_retry_after_pause() {
    let env = TestEnv::with_archives(&[archive()]);
    let busy = Reply::error(429, "es_rejected_execution_exception", "busy").with_header("Retry-After", "250");
    env.fake.fail_bulks(1, Fault::Reply(busy));
    let running = env.ingest().start();
    // The reply has arrived.
    while !running.has_logged("next attempt") {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("TERM");
    let run = running.wait().exits(143);
    run.check(run.took < Duration::from_secs(10), "the run ends soon");
}

#[test]
fn a_signal_ends_the_wait_in_the_preflight() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail(|_| true, 0, usize::MAX, Fault::status(503));
    let running = env.ingest().start();
    env.fake.wait_for(|_| true, 3);
    running.signal("INT");
    let run = running.wait().exits(130);
    run.check(run.took < Duration::from_secs(10), "the run ends soon");
    assert!(env.fake.bulks().is_empty());
}

/// Loads 1,000 posts into a server that answers large bulk requests with this fault. Returns how many were too large.
fn requests_over_a_limit(fault: Fault, actions: &[&str]) -> usize {
    let archives: Vec<Archive> = (0..4)
        .map(|n| {
            let texts = (0..250).map(|i| post(&format!("a{n}-{i}"), &"long ".repeat(600)));
            Archive::new(&format!("20251218_00000{n}")).with_all(texts)
        })
        .collect();
    let env = TestEnv::with_archives(&archives);
    let is_large = |request: &Request| request.is_bulk() && request.body.len() > 120_000;
    env.fake.fail(is_large, 0, usize::MAX, fault);
    let run = env.ingest().args(actions).var("RETRY_BUDGET_SEC", "60").run().exits(0);
    run.counts(&[("rows.indexed", 1000), ("archives.processed", 4)]);
    run.check(run.stderr.matches("smaller requests are answered").count() == 1, "one warning is logged");
    assert_holds(&env.fake, &archives);
    env.fake.bulks().iter().filter(|record| record.request.body.len() > 120_000).count()
}

#[test]
fn a_request_size_limit_is_learnt_once_for_all_senders() {
    for fault in [Fault::status(504), Fault::CloseBefore].into_iter().take(long_or(2, 1)) {
        // One sender: two halvings of three attempts each. Batches in flight meanwhile belong to other senders.
        let alone = requests_over_a_limit(fault.clone(), &["--senders", "1"]);
        assert_eq!(alone, 6, "{fault:?}");
        let together = requests_over_a_limit(fault.clone(), &["--senders", "4"]);
        // Each sender may try once more per halving until a smaller request has been answered. If each of the twelve
        // batches learnt the limit by itself, six requests each would be too large.
        assert!(together <= 4 * 8, "{together} {fault:?}");
    }
}

#[test]
fn a_look_up_that_is_too_large_to_be_answered_is_halved() {
    let archive = Archive::new("20251218_000000").with_all(posts("p", 100));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let is_large = |request: &Request| request.is_mget() && request.body.len() > 2_000;
    env.fake.fail(is_large, 0, usize::MAX, Fault::status(504));
    env.ingest().args(&["--metrics-file", "m.prom"]).var("RETRY_BUDGET_SEC", "30").run().exits(0);
    assert_holds(&env.fake, &[archive]);
    let metrics = env.read("m.prom").unwrap();
    let line = metrics.lines().find(|line| line.contains(r#"retries_total{kind="unavailable"}"#)).unwrap();
    assert_ne!(line.rsplit(' ').next(), Some("0"), "{line}");
}

#[test]
fn slow_look_ups_do_not_make_a_bulk_request_count_as_too_large() {
    let archive = Archive::new("20251218_000000").with_all(posts("p", 100));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let is_large = |request: &Request| request.is_mget() && request.body.len() > 2_000;
    env.fake.fail(is_large, 0, 2, Fault::status(504));
    env.fake.fail(Request::is_bulk, 0, 1, Fault::status(504));
    env.ingest().var("RETRY_BUDGET_SEC", "30").run().exits(0);
    let sizes: Vec<usize> = env.fake.bulks().iter().map(|bulk| bulk.request.body.len()).collect();
    assert!(matches!(sizes[..], [first, second] if first == second), "sent again whole: {sizes:?}");
    assert_holds(&env.fake, &[archive]);
}

/// Errors as gateways write them: for people, or as JSON that is not Elasticsearch's.
const PAGES: [(u16, &str); 11] = [
    (302, "<html>no</html>"),
    (400, "<html>no</html>"),
    (401, "<html>no</html>"),
    (403, "<html>no</html>"),
    (404, "<html>no</html>"),
    (405, "<html>no</html>"),
    (401, r#"{"message":"Unauthorized"}"#),
    (403, r#"{"error":{"code":403,"message":"Permission denied","status":"PERMISSION_DENIED"}}"#),
    (404, r#"{"statusCode":404,"message":"Cannot POST /_bulk","error":"Not Found"}"#),
    (421, "misdirected"),
    (200, "OK"),
];

fn page((status, body): (u16, &str)) -> Fault {
    Fault::Reply(Reply { status, headers: vec![], body: body.as_bytes().to_vec() })
}

#[test]
fn ingress_error_pages_during_a_run_are_an_outage() {
    for (n, error) in PAGES.into_iter().enumerate() {
        let env = TestEnv::with_archives(&[archive().with(delete("gone"))]);
        // All kinds of requests fail: look-ups, bulk requests, alias queries, flushes.
        env.fake.use_async_translog();
        let has_begun = AtomicBool::new(false);
        let in_the_middle = move |request: &Request| {
            let begins = if n < 3 { request.is_mget() } else { request.is_bulk() };
            has_begun.fetch_or(begins, Ordering::Relaxed) || (begins && n < 3)
        };
        env.fake.fail(in_the_middle, 0, 5, page(error));
        let arguments: &[&str] = if n % 2 == 0 { &[] } else { &["--mode", "spool"] };
        let running = env.ingest().args(arguments).start();
        env.wait_for_processed(&[archive()]);
        if n % 2 == 1 {
            running.signal("TERM");
        }
        let run = running.wait().says("not Elasticsearch's");
        run.check(run.code == Some(0), "the outage is waited out");
        assert_holds(&env.fake, &[archive().with(delete("gone"))]);
    }
}

#[test]
fn only_a_spool_run_waits_out_ingress_error_pages_at_the_start() {
    in_parallel([[(200, "<html>no</html>")].as_slice(), &PAGES[..1], &PAGES[3..]].concat(), |error| {
        let env = TestEnv::with_archives(&[archive()]);
        env.fake.fail(|_| true, 0, usize::MAX, page(error));
        for arguments in [&[][..], &["--check"], &["--create-indices"]] {
            let run = env.run(arguments).exits(5);
            run.check(run.took < Duration::from_secs(5), "at once");
            run.check(!run.stderr.contains("view_index_metadata"), "no privilege helps against a page");
        }
        let spool =
            |budget: &str| env.ingest().args(&["--mode", "spool"]).var("RETRY_BUDGET_SEC", budget).start();
        spool("1").wait().exits(4).says("not Elasticsearch's");
        env.fake.clear_faults();
        env.fake.fail(|_| true, 0, 7, page(error));
        let running = spool("60");
        env.wait_for_processed(&[archive()]);
        running.signal("TERM");
        running.wait().exits(0);
        assert_holds(&env.fake, &[archive()]);
    });
}

/// Loads thirty archives into a server that refuses these shares of bulk requests and of items. Returns the run, the
/// number of bulk requests that expected a continue, and the bytes sent relative to a load without refusals.
fn load_with_refusals(
    status: u16,
    requests: f64,
    items: f64,
    refusal: fn(Reply) -> Fault,
) -> (Run, usize, f64) {
    let archives: Vec<Archive> = (0..30)
        .map(|n| Archive::new(&format!("20251218_0000{n:02}")).with_all(posts(&format!("a{n}-"), 40)))
        .collect();
    let env = TestEnv::with_archives(&archives);
    let clean = env.run(&[]).exits(0).count("requests.bytes_sent");
    let env = TestEnv::with_archives(&archives);
    let random = |seed| Mutex::new(fastrand::Rng::with_seed(seed));
    let (of_requests, of_items) = (random(7), random(8));
    let refused = move |request: &Request| request.is_bulk() && of_requests.lock().unwrap().f64() < requests;
    env.fake.fail(
        refused,
        0,
        usize::MAX,
        refusal(Reply::error(status, "es_rejected_execution_exception", "busy")),
    );
    let refused = move |_: &_| of_items.lock().unwrap().f64() < items;
    env.fake.fail_items(refused, usize::MAX, 429, "es_rejected_execution_exception");
    let run = env.ingest().args(&["--senders", "2"]).run().exits(0);
    run.counts(&[("archives.processed", 30), ("rows.indexed", 1200)]);
    assert_holds(&env.fake, &archives);
    let sent = run.count("requests.bytes_sent");
    run.check(sent == bulk_bytes(&env) as u64, "the summary counts the bytes that arrived");
    let asked = env.fake.bulks().iter().filter(|record| record.request.expects_continue()).count();
    (run, asked, sent as f64 / clean as f64)
}

#[test]
fn refusals_before_the_body_cost_hardly_any_bytes() {
    for (status, requests, items) in [(503, 0.7, 0.0), (429, 0.6, 0.25)] {
        let (run, asked, times) = load_with_refusals(status, requests, items, Fault::BeforeBody);
        run.check(times <= 1.5, &format!("{times} times the bytes of a clean run"));
        run.check(asked > 30 && run.count("requests.retried") > 30, "most requests were refused");
    }
}

#[test]
fn a_server_that_refuses_after_the_body_is_rarely_asked_first() {
    let (run, asked, _) = load_with_refusals(503, 0.7, 0.0, Fault::Reply);
    run.check(run.count("requests.retried") > 30, "most requests were refused");
    run.check((1..20).contains(&asked), &format!("{asked} requests asked first"));
}
