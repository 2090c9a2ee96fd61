//! Trial documents: what the server says about documents and indices before a load.

use serde_json::json;

use crate::harness::archives::Archive;
use crate::harness::http::Request;
use crate::harness::script::Fault;
use crate::harness::store::Pipeline;
use crate::harness::{TestEnv, posts};

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with_all(posts("p", 3))]
}

fn set(env: &TestEnv, alias: &str, setting: &str, value: &str) {
    env.fake.store(|store| {
        store.index(alias).unwrap().settings.insert(setting.to_owned(), value.to_owned());
    });
}

/// Asserts that a load and a check both fail with these words, and store nothing.
#[track_caller]
fn assert_refused(env: &TestEnv, what: &str) {
    for arguments in [&[][..], &["--check"]] {
        let run = env.run(arguments).exits(5).says(what);
        run.check(env.fake.bulks().is_empty(), "no bulk request was sent");
        env.fake.store(|store| assert!(store.indices.values().all(|index| index.documents.is_empty())));
    }
}

#[test]
fn a_document_the_server_would_refuse_is_found_before_the_load() {
    let env = TestEnv::with_archives(&archives());
    env.fake.store(|store| store.index("posts").unwrap().refuses = Some("failed to parse field [x]".into()));
    assert_refused(&env, "failed to parse field [x]");
}

#[test]
fn a_proxy_that_refuses_slashes_in_ids_with_a_page_does_not_count_as_away() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(|request| request.path.contains("/_doc/"), 0, usize::MAX, Fault::page(404));
    let running = env.ingest().args(&["--mode", "spool", "--retry-budget", "0"]).start();
    env.wait_for_processed(&archives());
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.check(!run.stderr.contains("check the proxy"), "the page shows nothing");
}

#[test]
fn a_trial_document_is_offered_to_both_indices_and_never_stored() {
    let env = TestEnv::with_archives(&archives());
    let run = env.run(&["--check"]).exits(0);
    run.check(
        run.stdout.contains("posts accepts documents as they are sent"),
        "the check says what was tried",
    );
    assert_eq!(env.fake.requests().iter().filter(|record| record.request.is_offer()).count(), 2);
    env.fake.store(|store| assert!(store.indices.values().all(|index| index.documents.is_empty())));
}

#[test]
fn a_server_that_does_not_judge_trial_documents_is_loaded() {
    for status in [403, 404, 405, 503] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail(Request::is_offer, 0, 2, Fault::status(status));
        env.run(&[]).exits(0);
    }
}

#[test]
fn pipelines_of_an_index_are_named_and_a_missing_one_is_refused() {
    for setting in ["index.default_pipeline", "index.final_pipeline"] {
        let env = TestEnv::with_archives(&archives());
        set(&env, "posts", setting, "enrich");
        assert_refused(&env, "pipeline enrich, but there is no such pipeline");
        env.fake.store(|store| store.pipelines.insert("enrich".into()));
        env.run(&[]).exits(0).says("pipeline enrich, which documents go through");
    }
}

#[test]
fn a_pipeline_that_drops_tombstones_or_changes_ids_index_or_routing_is_refused() {
    for (alias, pipeline, what) in [
        ("post_tombstones", Pipeline::Drop, "deleted posts would come back"),
        ("post_tombstones", Pipeline::OtherId, "changes the _id"),
        ("posts", Pipeline::OtherId, "changes the _id"),
        ("post_tombstones", Pipeline::OtherIndex("posts_v1"), "sends documents to posts_v1"),
        ("posts", Pipeline::OtherIndex("post_tombstones_v1"), "sends documents to post_tombstones_v1"),
        ("post_tombstones", Pipeline::OtherShard, "changes the _routing"),
        ("posts", Pipeline::OtherShard, "changes the _routing"),
    ] {
        let env = TestEnv::with_archives(&archives());
        env.fake.store(|store| {
            store.index(alias).unwrap().pipeline = pipeline;
            store.pipelines.insert("enrich".into());
        });
        set(&env, alias, "index.default_pipeline", "enrich");
        assert_refused(&env, what);
    }
}

#[test]
fn settings_left_by_a_killed_load_are_reported() {
    let env = TestEnv::with_archives(&archives());
    set(&env, "posts", "index.refresh_interval", "29999ms");
    set(&env, "posts", "index.number_of_replicas", "0");
    env.run(&["--check"]).exits(0);
    env.run(&[]).exits(0).says("posts_v1 has the settings of a load with --bulk-load-settings");
}

#[test]
fn mapped_fields_of_other_writers_are_named() {
    let env = TestEnv::with_archives(&archives());
    env.fake.store(|store| {
        store.index("posts").unwrap().mapping["properties"]["like_count"] = json!({"type": "integer"});
    });
    env.run(&[]).exits(0).says("does not write: like_count;");
}
