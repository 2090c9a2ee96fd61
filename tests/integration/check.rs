//! `--check`: one line per check, and nothing is changed.

use std::time::Duration;

use serde_json::json;

use crate::harness::archives::Archive;
use crate::harness::fake::Fake;
use crate::harness::http::{Reply, Request};
use crate::harness::script::Fault;
use crate::harness::store::{Index, Store};
use crate::harness::{Run, STATE_FILE, TestEnv, posts};

fn archives() -> [Archive; 2] {
    ["20251218_000000", "20251218_000100"].map(|time| Archive::new(time).with_all(posts(time, 3)))
}

/// The lines of standard output that begin like this, such as `warning: source: …`.
#[track_caller]
fn lines<'r>(run: &'r Run, beginning: &str) -> Vec<&'r str> {
    for line in run.stdout.lines() {
        let status = ["ok: ", "warning: ", "failed: "].iter().any(|status| line.starts_with(status));
        run.check(status && line.matches(": ").count() >= 2, "every line is `status: name: text`");
    }
    run.stdout.lines().filter(|line| line.starts_with(beginning)).collect()
}

#[test]
fn a_check_writes_nothing() {
    let env = TestEnv::with_archives(&archives());
    let run = env.run(&["--check"]).exits(0);
    for name in ["settings", "source", "state file", "disk", "connection", "privileges", "mapping"] {
        run.check(!lines(&run, &format!("ok: {name}: ")).is_empty(), name);
    }
    run.check(lines(&run, "failed: ").is_empty(), "nothing failed");
    run.check(lines(&run, "ok: source: ")[0].contains("2 archives to load"), "the archives are counted");
    assert!(env.fake.bulks().is_empty() && env.fake.documents("posts").is_empty());
    let writes = |request: &Request| ["PUT", "DELETE"].contains(&&*request.method) && !request.is_offer();
    assert!(!env.fake.requests().iter().any(|record| writes(&record.request)));
    let left: Vec<_> = std::fs::read_dir(env.path("")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["archives"]);
}

#[test]
fn archives_are_counted_by_planned_action() {
    let env = TestEnv::with_archives(&archives());
    let [done, broken] = archives();
    let entry = |archive: &Archive, status: &str| json!({"filename": archive.name(), "status": status});
    env.write(STATE_FILE, json!([entry(&done, "processed"), entry(&broken, "failed")]).to_string());
    let run = env.run(&["--check"]).exits(0);
    let line = lines(&run, "ok: source: ")[0];
    run.check(line.contains("0 archives to load") && line.contains("1 already done, 1 failed"), "counted");
    run.check(lines(&run, "warning: source: ")[0].contains("--retry-failed"), "what to do about failed ones");
}

#[test]
fn all_checks_run_and_the_first_failure_decides_the_exit_code() {
    let env = TestEnv::with_archives(&archives());
    env.fake.deny("index");
    env.write(STATE_FILE, "no JSON");
    let run = env.run(&["--check"]).exits(2).says("state file");
    run.check(lines(&run, "failed: state file: ").len() == 1, "the state file");
    run.check(lines(&run, "ok: source: ")[0].contains("2 archives"), "the source");
    run.check(lines(&run, "failed: privileges: ")[0].contains("index"), "the privileges");
    assert_eq!(env.read(STATE_FILE).as_deref(), Some("no JSON"));
}

#[test]
fn an_unavailable_server_is_retried_for_a_while() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(|_| true, 0, usize::MAX, Fault::status(503));
    let run = env.run(&["--check", "--retry-budget", "1"]).exits(4).says("unavailable");
    run.check(lines(&run, "failed: elasticsearch: ").len() == 1, "the reason is logged");
    // `took` begins a moment after the process has started.
    run.check(run.took >= Duration::from_millis(950), "it retries for the whole budget");
    assert!(env.fake.requests().len() > 1);

    env.fake.clear_faults();
    env.fake.fail(|_| true, 0, 4, Fault::status(503));
    env.run(&["--check"]).exits(0);
}

#[test]
fn retry_after_is_honoured() {
    let env = TestEnv::with_archives(&archives());
    let busy = |seconds: &str| {
        let reply = Reply::error(429, "es_rejected_execution_exception", "busy");
        Fault::Reply(reply.with_header("Retry-After", seconds))
    };
    env.fake.fail(|_| true, 0, 1, busy("1"));
    env.run(&["--check"]).exits(0);
    let times: Vec<_> = env.fake.requests().iter().map(|record| record.arrived.time).collect();
    assert!(times[1].duration_since(times[0]).as_millis() >= 950, "{:?}", times[1] - times[0]);

    env.fake.forget_requests();
    env.fake.fail(|_| true, 0, usize::MAX, busy("60"));
    let run = env.run(&["--check"]).exits(4).says("unavailable");
    run.check(
        lines(&run, "failed: elasticsearch: ")[0].contains("check again in 60 s"),
        "the pause is logged",
    );
    assert_eq!(env.fake.requests().len(), 1);
}

#[test]
fn all_missing_indices_are_reported_at_once() {
    let env = TestEnv::with_fake(Fake::start_with(Store::default()));
    let run = env.run(&["--check"]).exits(5);
    for name in ["posts", "post_tombstones"] {
        run.check(lines(&run, &format!("failed: {name}: ")).len() == 1, name);
    }
}

#[test]
fn planned_indices_and_missing_privileges_are_reported_and_nothing_is_created() {
    let env = TestEnv::with_fake(Fake::start_with(Store::with_indices(&["posts"])));
    let run = env.run(&["--check", "--create-indices"]).exits(0);
    run.check(lines(&run, "ok: post_tombstones: ")[0].contains("post_tombstones_v1"), "the planned index");
    run.check(lines(&run, "ok: privileges: ")[0].contains("manage"), "the privilege to create it");
    run.check(lines(&run, "ok: posts: ")[0].contains("writes go to posts"), "the existing index");
    env.fake.deny("manage");
    let run = env.run(&["--check", "--create-indices"]).exits(5);
    run.check(
        lines(&run, "failed: privileges: ")[0].contains("manage on post_tombstones"),
        "the missing privilege is named",
    );
    // Only the missing index needs the privilege to create it.
    let env = TestEnv::new();
    env.fake.deny("manage");
    env.run(&["--check", "--create-indices"]).exits(0);
    env.fake.store(|store| store.indices.clear());
    env.fake.store(|store| store.indices.insert("posts_v1".into(), Index::new(json!({}))));
    let run = env.run(&["--check", "--create-indices"]).exits(5);
    run.check(lines(&run, "failed: posts: ")[0].contains("without the alias posts"), "an index in the way");
    assert!(!env.fake.requests().iter().any(|record| record.request.method == "PUT"
        && !record.request.is_offer()
        && !is_trial(&record.request)));
}

#[test]
fn a_state_file_in_use_is_a_warning() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for_bulks(1);
    let run = env.run(&["--check"]).exits(0);
    run.check(lines(&run, "warning: state file: ")[0].contains("locked"), "the lock is reported");
    run.check(lines(&run, "warning: load settings: ").len() == 1, "settings are tuned");
    env.fake.release();
    running.wait().exits(0);
}

#[test]
fn an_unwritable_folder_fails_the_check() {
    let env = TestEnv::with_archives(&archives());
    // `/proc` takes no files, not even from root.
    let run = env.ingest().args(&["--check"]).var("DEAD_LETTER_FILE", "/proc/dead_letters").run().exits(2);
    run.check(lines(&run, "failed: disk: ")[0].contains("--dead-letter"), "the setting is named");
    run.check(!lines(&run, "ok: connection: ").is_empty(), "the other checks run");
}

#[test]
fn bulk_load_settings_need_the_manage_privilege() {
    let env = TestEnv::with_archives(&archives());
    env.fake.deny("manage");
    env.run(&["--check"]).exits(0);
    let run = env.run(&["--check", "--bulk-load-settings"]).exits(5).says("manage");
    run.check(lines(&run, "failed: privileges: ").len() == 1, "the privilege is named");
}

#[test]
fn free_space_is_reported() {
    let env = TestEnv::with_archives(&archives());
    let run = env.run(&["--check"]).exits(0);
    let told = run.stdout.lines().filter(|line| line.contains("GB free in")).count();
    run.check(told == 1, "one file system, one line");
}

#[test]
fn product_and_clock_are_reported_if_the_server_shows_them() {
    let env = TestEnv::with_archives(&archives());
    let run = env.run(&["--check"]).exits(0);
    run.check(lines(&run, "ok: product: ")[0].contains("does not show"), "the key must not ask");
    run.check(!run.stdout.contains(": clock: "), "an unknown clock is not mentioned");

    let root = json!({"version": {"number": "3.2.0", "distribution": "opensearch"}});
    let mut reply = Reply::json(200, &root);
    reply.headers.push(("date", "Wed, 01 Jan 2020 00:00:00 GMT".to_owned()));
    env.fake.fail(|request| request.path == "/", 0, usize::MAX, Fault::Reply(reply));
    let run = env.run(&["--check"]).exits(0);
    run.check(lines(&run, "ok: product: ")[0].contains("OpenSearch 3.2.0"), "the product");
    run.check(lines(&run, "warning: clock: ")[0].contains("behind"), "the clock");
}

/// The trial request: its settings are such that no server creates an index.
fn is_trial(request: &Request) -> bool {
    request.json()["aliases"]
        .as_object()
        .is_some_and(|aliases| aliases.values().all(|alias| alias["filter"].is_object()))
}

#[test]
fn an_index_the_server_would_refuse_fails_the_check() {
    for (unknown, code, says) in [
        (&["dense_vector"][..], 0, "vectors as knn_vector"),
        (&["knn_vector"], 0, "vectors as dense_vector"),
        (&["dense_vector", "knn_vector"], 5, "install the k-NN plugin"),
    ] {
        let env = TestEnv::with_fake(Fake::start_with(Store { unknown_types: unknown, ..Store::default() }));
        let run = env.run(&["--check", "--create-indices"]).exits(code);
        run.check(run.stdout.contains(says), says);
        env.fake.store(|store| assert!(store.indices.is_empty()));
        // The promise is kept.
        env.add(&archives());
        env.run(&["--create-indices"]).exits(code);
        assert_eq!(env.fake.store(|store| store.indices.len()), if code == 0 { 2 } else { 0 });
    }
}
