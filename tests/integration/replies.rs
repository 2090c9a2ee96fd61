//! Replies of Elasticsearch: nothing is lost, whatever they are.

use serde_json::json;

use crate::harness::archives::{Archive, delete, post, uri};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::Item;
use crate::harness::{DEAD_LETTERS, Run, TestEnv, lines, posts};

/// Two archives: posts, and deletions of some of them.
fn archives() -> [Archive; 2] {
    let deletes = ["p1", "p5", "p9"].map(delete);
    [
        Archive::new("20251218_000000").with_all(posts("p", 12)),
        Archive::new("20251218_000500").with_all(deletes).with_all(posts("q", 12)),
    ]
}

/// Every temporary fault of a whole request.
fn faults() -> Vec<Fault> {
    let statuses = [408, 429, 500, 502, 503, 504].map(Fault::status);
    let others = [
        Fault::cluster_block(),
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::CloseHalfway,
        Fault::CutReply,
        Fault::Garbage,
        Fault::ItemFewer,
        Fault::ItemMore,
    ];
    statuses.into_iter().chain(others).collect()
}

#[test]
fn a_failed_request_is_retried_and_nothing_is_lost() {
    for (n, fault) in faults().into_iter().enumerate() {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail(Request::is_bulk, n % 3, 2, fault.clone());
        let run = env.run(&["--batch-docs", "5"]).exits(0);
        run.check(run.count("requests.retried") > 0, &format!("{fault:?} is retried"));
        run.counts(&[("rows.read", 27), ("rows.deleted", 3), ("archives.processed", 2)]);
        assert_holds(&env.fake, &archives());
    }
}

/// OpenSearch swaps the items of documents that fail in different processors of a pipeline.
#[test]
fn items_in_another_order_are_told_apart_by_their_ids() {
    let env = TestEnv::with_archives(&archives());
    let refused = [uri("p2"), uri("q7")];
    let expected = refused.clone();
    env.fake.fail(Request::is_bulk, 0, usize::MAX, Fault::ItemsReversed);
    env.fake.fail_items(move |item| refused.contains(&item.id), 2, 400, "illegal_argument_exception");
    env.run(&["--batch-docs", "5"]).exits(3).counts(&[("rows.rejected", 2), ("requests.retried", 0)]);
    let mut letters: Vec<String> =
        env.dead_letters().iter().map(|letter| letter["at_uri"].as_str().unwrap().to_owned()).collect();
    letters.sort_unstable();
    assert_eq!(letters, expected);
}

#[test]
fn a_failed_look_up_is_retried() {
    for fault in [429, 500, 503].map(Fault::status).into_iter().chain([
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::CutReply,
        Fault::Reply(Reply::json(200, &json!({}))),
        Fault::Reply(Reply::json(200, &json!({"docs": []}))),
    ]) {
        let first = Archive::new("20251218_000000").with(delete("a"));
        let later = Archive::new("20251219_000000").with(post("a", "emitted anew")).with(post("b", "new"));
        let env = TestEnv::with_archives(std::slice::from_ref(&first));
        env.fake.store(|store| store.forget_deletes = true);
        env.run(&[]).exits(0);
        env.add(std::slice::from_ref(&later));
        env.fake.fail(Request::is_mget, 0, 1, fault.clone());
        env.run(&[]).exits(0).counts(&[("rows.suppressed", 1), ("rows.indexed", 1)]);
        assert_holds(&env.fake, &[first, later]);
    }
}

#[test]
fn only_the_refused_document_becomes_a_dead_letter() {
    let archive = Archive::new("20251218_000000").with_all(posts("p", 10));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.fake.fail_items(|item| item.id == uri("p4"), usize::MAX, 400, "document_parsing_exception");
    let run = env.run(&[]).exits(3);
    run.counts(&[("rows.indexed", 9), ("rows.rejected", 1), ("archives.processed", 1)]);
    run.counts(&[("reasons.rejected.document_parsing_exception", 1)]);
    let letters = env.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter["archive"], json!(archive.name()));
    assert_eq!((&letter["row_id"], &letter["at_uri"]), (&json!(5), &json!(uri("p4"))));
    assert_eq!(
        (&letter["stage"], &letter["error_type"]),
        (&json!("elasticsearch"), &json!("document_parsing_exception"))
    );
    assert_eq!(letter["reason"], "scripted");
    assert_eq!(letter["action"]["index"]["_id"], json!(uri("p4")));
    assert_eq!(letter["action"]["index"]["version"], json!(archive.version(5)));
    assert_eq!(letter["document"]["content"], "Post 4 of p");
}

#[test]
fn dead_letters_are_replayed_under_their_versions() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 4)).with(delete("gone"))];
    let env = TestEnv::with_archives(&archives);
    let refused = [uri("p2"), uri("gone")];
    env.fake.fail_items(move |item| refused.contains(&item.id), 2, 400, "document_parsing_exception");
    env.run(&[]).exits(3).counts(&[("rows.rejected", 2)]);
    env.fake.release();
    env.run(&["--replay", DEAD_LETTERS]).exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn only_items_pushed_back_are_sent_again() {
    for (status, kind) in [
        (429, "es_rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (403, "cluster_block_exception"),
        (400, "knn_circuit_breaker_exception"),
    ] {
        let archives = [Archive::new("20251218_000000").with_all(posts("p", 10))];
        let env = TestEnv::with_archives(&archives);
        let pushed_back = [uri("p3"), uri("p7")];
        env.fake.fail_items(move |item| pushed_back.contains(&item.id), 4, status, kind);
        env.run(&[]).exits(0).counts(&[("rows.indexed", 10), ("rows.rejected", 0)]);
        assert_holds(&env.fake, &archives);
        let sizes: Vec<usize> = env.fake.bulks().iter().map(|record| record.items.len()).collect();
        assert_eq!(sizes, [10, 2, 2], "{kind}");
    }
}

#[test]
fn a_refused_tombstone_leaves_the_post_alone() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 2))];
    let deletion = Archive::new("20251219_000000").with(delete("p0"));
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0);
    env.add(std::slice::from_ref(&deletion));
    env.fake.fail_items(|item| item.index == "post_tombstones", 1, 400, "document_parsing_exception");
    env.run(&[]).exits(3).counts(&[("rows.rejected", 1), ("rows.deleted", 0)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn lost_privileges_stop_the_run_at_once() {
    for status in [401, 403] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail(Request::is_bulk, 1, usize::MAX, Fault::status(status));
        let run = env.run(&["--batch-docs", "4", "--senders", "1"]).exits(5);
        run.check(run.took.as_secs() < 10, "the run stops at once");
        run.counts(&[("archives.processed", 0), ("archives.pending", 2), ("requests.retried", 0)]);
        assert!(env.state().is_empty());
        env.fake.release();
        env.run(&[]).exits(0);
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn a_key_refused_right_after_an_outage_is_tried_again() {
    let requests = |env: &TestEnv, status| env.fake.fail_bulks(3, Fault::status(status));
    let items = |env: &TestEnv, status| env.fake.fail_items(|_| true, 3, status, "security_exception");
    let look_ups = |env: &TestEnv, status| env.fake.fail(Request::is_mget, 0, 3, Fault::status(status));
    for refuse in [&requests as &dyn Fn(&TestEnv, u16), &items, &look_ups] {
        for status in [401, 403] {
            let env = TestEnv::with_archives(&archives());
            env.fake.fail(|request| request.is_bulk() || request.is_mget(), 0, 2, Fault::status(503));
            refuse(&env, status);
            env.run(&["--senders", "1", "--vector-encoding", "array"])
                .exits(0)
                .counts(&[("archives.processed", 2), ("rows.unconfirmed", 0)]);
            assert_holds(&env.fake, &archives());
        }
    }
}

#[test]
fn a_key_refused_during_push_back_stops_the_run_at_once() {
    let one_item = |env: &TestEnv| env.fake.fail_items(|_| true, 1, 429, "es_rejected_execution_exception");
    let one_request = |env: &TestEnv| env.fake.fail_bulks(1, Fault::status(429));
    for push_back in [&one_item as &dyn Fn(&TestEnv), &one_request] {
        let env = TestEnv::with_archives(&archives());
        push_back(&env);
        env.fake.fail(Request::is_bulk, 1, usize::MAX, Fault::status(401));
        let run = env.run(&["--senders", "1", "--vector-encoding", "array"]).exits(5);
        run.check(run.took.as_secs() < 10, "the run stops at once");
    }
}

#[test]
fn a_key_refused_until_the_budget_ends_ends_the_run_as_refused() {
    for (status, advice) in [(401, "API_KEY"), (403, "grant it read, index, delete")] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(2, Fault::status(503));
        env.fake.fail_bulks(usize::MAX, Fault::status(status));
        let run = env.ingest().var("RETRY_BUDGET_SEC", "2").run().exits(5).says(advice);
        run.check(status == 401 || !run.stderr.contains("is refused: check"), "the key is not in doubt");
        assert!(env.state().is_empty() && env.dead_letters().is_empty());
    }
}

#[test]
fn a_run_waits_for_the_keys_of_a_starting_server() {
    let env = TestEnv::with_archives(&archives());
    let any = |_: &Request| true;
    env.fake.fail(any, 0, 2, Fault::status(503));
    env.fake.fail(any, 0, 2, Fault::status(401));
    env.run(&[]).exits(0);
    assert_holds(&env.fake, &archives());
}

#[test]
fn an_outage_past_the_budget_ends_the_run_and_fails_no_archive() {
    for fault in [Fault::status(503), Fault::status(429), Fault::CloseBefore, Fault::cluster_block()] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, fault);
        let run = env.ingest().var("RETRY_BUDGET_SEC", "1").run().exits(4);
        run.check(run.took.as_secs() < 20, "the budget is kept");
        run.counts(&[("archives.processed", 0), ("archives.failed", 0), ("archives.pending", 2)]);
        assert!(env.state().is_empty());
        env.fake.release();
        env.run(&[]).exits(0);
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn a_missing_server_is_unavailable() {
    let env = TestEnv::with_archives(&archives());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    env.ingest().var("ELASTICSEARCH_URL", &url).var("RETRY_BUDGET_SEC", "1").run().exits(4);
    assert!(env.state().is_empty());
}

#[test]
fn retry_after_is_honoured() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 3))]);
    let busy = Reply::error(429, "es_rejected_execution_exception", "busy").with_header("Retry-After", "2");
    env.fake.fail_bulks(1, Fault::Reply(busy));
    let run = env.run(&[]).exits(0);
    let times: Vec<_> = env.fake.bulks().iter().map(|record| record.arrived.time).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1].duration_since(times[0]).as_millis() >= 1950, "{:?}", times[1] - times[0]);
    assert_pause_of_about(&run, 2.0);
}

#[test]
fn retry_after_of_a_look_up_is_honoured_and_logged() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 3))]);
    let busy = Reply::error(429, "es_rejected_execution_exception", "busy").with_header("Retry-After", "2");
    env.fake.fail(Request::is_mget, 0, 1, Fault::Reply(busy));
    assert_pause_of_about(&env.run(&[]).exits(0), 2.0);
}

/// Asserts that the log gives about this pause; some time may pass before the line is written.
#[track_caller]
fn assert_pause_of_about(run: &Run, seconds: f64) {
    let told = run.stderr.split_once("next attempt in ").and_then(|(_, rest)| rest.split_once(" s"));
    let told: Option<f64> = told.and_then(|(told, _)| told.parse().ok());
    run.check(
        told.is_some_and(|told| told > seconds / 2.0 && told <= seconds),
        "the log gives the actual pause",
    );
}

#[test]
fn a_request_too_large_is_halved_down_to_the_oversized_document() {
    let big = post("big", &"too long ".repeat(1000));
    let small = Archive::new("20251218_000000").with_all(posts("a", 20));
    let archive = small.clone().with(big);
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.fake.limit_bulk_bytes(4000);
    env.run(&[]).exits(3).counts(&[("rows.indexed", 20), ("rows.rejected", 1), ("archives.processed", 1)]);
    assert_holds(&env.fake, &[small]);
    let letters = lines(&env.read(DEAD_LETTERS).unwrap_or_default());
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["at_uri"], &letters[0]["stage"]), (&json!(uri("big")), &json!("elasticsearch")));
}

#[test]
fn a_look_up_too_large_is_halved_down_to_one_post() {
    let archives = [
        Archive::new("20251218_000000").with_all(["p0", "p7"].map(delete)),
        Archive::new("20251219_000000").with_all(posts("p", 20)),
    ];
    let env = TestEnv::with_archives(&archives[..1]);
    env.run(&[]).exits(0);
    env.fake.store(|store| store.forget_deletes_so_far());
    env.add(&archives[1..]);
    let is_large =
        |request: &Request| request.is_mget() && request.json()["docs"].as_array().map_or(0, Vec::len) > 1;
    env.fake.fail(is_large, 0, usize::MAX, Fault::status(413));
    env.run(&[]).exits(0).counts(&[("rows.suppressed", 2), ("rows.indexed", 18)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_look_up_too_large_for_one_post_stops_the_run() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(Request::is_mget, 0, usize::MAX, Fault::status(413));
    env.run(&[]).exits(1).says("refuses to look documents up");
    assert!(env.dead_letters().is_empty());
}

#[test]
fn an_id_that_elasticsearch_refuses_harms_no_other_row() {
    let good = Archive::new("20251218_000000").with_all(posts("p", 5));
    let env = TestEnv::with_archives(&[good.clone().with(post(&"x".repeat(600), "its id is too long"))]);
    let run = env.run(&[]).exits(3);
    run.counts(&[("rows.indexed", 5), ("rows.rejected", 1)]);
    assert_holds(&env.fake, &[good]);
    assert_eq!(env.dead_letters().len(), 1);
}

/// Asserts that a server with such bulk replies stops the run with this error, after one warning. No row is rejected,
/// no archive is marked, and the next run completes the work.
fn assert_stops_the_run(fault: Fault, why: &str, warning: &str) {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, fault);
    let run = env.run(&[]).exits(1).says(why);
    run.counts(&[("rows.rejected", 0), ("archives.processed", 0), ("archives.pending", 2)]);
    run.check(run.stderr.matches(warning).count() == 1, "one warning is logged, long before the end");
    assert!(env.dead_letters().is_empty() && env.state().is_empty());
    env.fake.release();
    env.run(&[]).exits(0);
    assert_holds(&env.fake, &archives());
}

#[test]
fn a_server_that_refuses_every_single_action_stops_the_run() {
    let refusal = Reply::error(400, "illegal_argument_exception", "unrecognized parameter: [filter_path]");
    let warning = "refuses a whole bulk request (illegal_argument_exception:";
    assert_stops_the_run(Fault::Reply(refusal), "unrecognized parameter", warning);
}

#[test]
fn a_server_that_finds_every_request_too_large_stops_the_run() {
    let warning = "set --batch-bytes or --batch-docs lower";
    assert_stops_the_run(Fault::status(413), "raise http.max_content_length", warning);
}

#[test]
fn a_server_that_later_finds_every_request_too_large_stops_the_run() {
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 3)),
        Archive::new("20251219_000000")
            .with_all(posts("q", 2))
            .with(post("big", &"too long ".repeat(10_000))),
    ];
    let env = TestEnv::with_archives(&archives);
    let is_of_second =
        |request: &Request| request.is_bulk() && !String::from_utf8_lossy(&request.body).contains(&uri("p0"));
    env.fake.fail(is_of_second, 0, usize::MAX, Fault::status(413));
    let run = env.run(&["--workers", "1", "--senders", "1"]).exits(1).says("raise http.max_content_length");
    run.counts(&[("rows.rejected", 0), ("archives.processed", 1), ("archives.pending", 1)]);
    assert!(env.dead_letters().is_empty());
}

#[test]
fn a_row_whose_whole_request_is_refused_harms_no_other_row() {
    let good = Archive::new("20251218_000000").with_all(posts("p", 9));
    let env = TestEnv::with_archives(&[good.clone().with(post("bad", "its id is not liked"))]);
    let refusal = Reply::error(400, "action_request_validation_exception", "not this id");
    let has_bad =
        |request: &Request| request.is_bulk() && String::from_utf8_lossy(&request.body).contains(&uri("bad"));
    env.fake.fail(has_bad, 0, usize::MAX, Fault::Reply(refusal));
    env.run(&[]).exits(3).counts(&[("rows.indexed", 9), ("rows.rejected", 1), ("archives.processed", 1)]);
    assert_holds(&env.fake, &[good]);
    assert_eq!(env.dead_letters()[0]["error_type"], "action_request_validation_exception");
}

#[test]
fn a_redirect_sends_no_credentials_elsewhere() {
    let elsewhere = crate::harness::fake::Fake::start();
    let env = TestEnv::with_archives(&archives());
    let target = format!("{}/_bulk", elsewhere.url());
    let redirect = Reply { status: 307, headers: vec![("Location", target)], body: vec![] };
    env.fake.fail(|_| true, 0, usize::MAX, Fault::Reply(redirect));
    let run = env.ingest().var("RETRY_BUDGET_SEC", "1").run();
    run.check(run.code != Some(0), "nothing was written, and the reason is logged");
    run.check(elsewhere.requests().is_empty(), "the other server got no request");
}

/// Archives of 150 posts each.
fn many_archives(count: usize) -> Vec<Archive> {
    let of = |n| Archive::new(&format!("20251218_0000{n:02}")).with_all(posts(&format!("a{n}-"), 150));
    (0..count).map(of).collect()
}

#[test]
fn a_run_of_nothing_but_refusals_stops_and_marks_nothing() {
    let mut archives = many_archives(12);
    archives[3] = archives[3].clone().with(delete("gone"));
    let env = TestEnv::with_archives(&archives);
    // Some posts of the first archive are accepted, and all tombstones.
    let is_refused = |item: &Item| {
        item.index.starts_with("posts") && item.operation == "index" && !item.id.contains("a0-1")
    };
    env.fake.fail_items(is_refused, usize::MAX, 400, "mapper_exception");
    let run = env.run(&["--workers", "1", "--senders", "1"]).exits(1);
    let run = run.says("1000 actions in a row").says("times mapper_exception");
    let rejected = run.count("rows.rejected");
    run.check(rejected < 150, "only rows of the first archive");
    run.check(run.count("rows.unconfirmed") >= 1000, "rejected rows are unconfirmed");
    run.check(run.count("archives.processed") <= 1, "no refused archive is marked");
    assert_eq!(env.dead_letters().len() as u64, rejected);
    env.fake.clear_faults();
    env.run(&["--retry-failed"]).exits(0);
    let left: Vec<Archive> = archives[1..].to_vec();
    assert!(left.iter().all(|archive| env.status_of(archive) == "processed"));
}

#[test]
fn fewer_than_1000_refusals_in_a_row_become_dead_letters() {
    let archives = many_archives(6);
    let env = TestEnv::with_archives(&archives);
    env.fake.fail_items(|item| item.index.starts_with("posts"), usize::MAX, 400, "mapper_exception");
    env.run(&[]).exits(3).counts(&[("rows.rejected", 900), ("archives.processed", 6)]);
    assert_eq!(env.dead_letters().len(), 900);
    // A replay of them is refused again, and again they are too few to stop it.
    env.run(&["--replay", ".dead_letters.ndjson"]).exits(3).counts(&[("rows.rejected", 900)]);
    env.run(&["--replay", ".dead_letters.ndjson", "--max-rejected", "10%"])
        .exits(1)
        .says("--max-rejected 10%")
        .counts(&[("rows.rejected", 100), ("rows.unconfirmed", 800)]);
    // Lines without a document are told apart by no error type.
    env.write("damaged", "{\"archive\":\"a\",\"row_id\":1,\"at_uri\":\"\",\"stage\":\"decode\",\"error_type\":\"no_commit\",\"reason\":\"x\"}\n");
    let run =
        env.run(&["--replay", "damaged", "--max-rejected", "0"]).exits(1).says("allows, 1 by now: correct");
    run.counts(&[("rows.unconfirmed", 1)]);
}

#[test]
fn more_rejected_rows_than_allowed_stop_the_run() {
    let bad = Archive::new("20251219_000000").with_all((0..3).map(|n| post(&"x".repeat(600 + n), "its id")));
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 5)), bad];
    for (most, code, rejected) in [("3", 3, 3), ("1%", 3, 3), ("2", 1, 0), ("0.1%", 1, 0), ("0", 1, 0)] {
        for dry in [&[][..], &["--dry-run"]] {
            let env = TestEnv::with_archives(&archives);
            let arguments = [&["--workers", "1", "--max-rejected", most], dry].concat();
            let run = env.run(&arguments).exits(code);
            run.counts(&[("rows.rejected", rejected)]);
            if code == 1 {
                let run = run.says("--max-rejected").says("not in the dead-letter file");
                // Requests in flight may be unconfirmed as well.
                run.check(run.count("rows.unconfirmed") >= 3, "rejected rows are unconfirmed");
                run.check(run.count("archives.pending") >= 1, "the archive is pending");
                assert!(env.dead_letters().is_empty());
            }
        }
    }
    for wrong in ["many", "-1", "101%", "%", "nan%"] {
        TestEnv::new().run(&["--max-rejected", wrong]).exits(2).says("--max-rejected (MAX_REJECTED)");
    }
}
