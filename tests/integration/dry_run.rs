//! Runs without Elasticsearch, and output to standard output.

use crate::harness::archives::{Archive, delete, post};
use crate::harness::client::exchange;
use crate::harness::model::assert_holds;
use crate::harness::{Invocation, SUMMARY, TestEnv, lines, posts};

fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("p", 5)).with(post("p0", "anew")).with(delete("gone"))
}

/// A dry run without any setting of Elasticsearch.
fn dry_run<'a>(env: &'a TestEnv, arguments: &[&str]) -> Invocation<'a> {
    let plain = env.ingest().without("ELASTICSEARCH_URL").without("ELASTICSEARCH_API_KEY");
    plain.args(&["--dry-run"]).args(arguments)
}

#[test]
fn a_dry_run_needs_no_elasticsearch_and_leaves_no_state() {
    let env = TestEnv::with_archives(&[archive()]);
    let run = dry_run(&env, &[]).run().exits(0);
    run.counts(&[("rows.read", 7), ("archives.processed", 1), ("rows.superseded", 1)]);
    run.check(run.summary()["dry_run"] == true, "the summary calls it a dry run");
    assert!(env.state().is_empty());
    run.check(run.stdout.is_empty(), "standard output is empty");
}

#[test]
fn a_dry_run_contacts_no_server_even_if_one_is_set() {
    let env = TestEnv::with_archives(&[archive()]);
    env.run(&["--dry-run"]).exits(0);
    assert!(env.fake.requests().is_empty());
    assert_eq!(env.read(crate::harness::STATE_FILE), None);
}

#[test]
fn a_dry_run_that_cannot_begin_speaks_of_no_counters() {
    let env = TestEnv::with_archives(&[archive()]);
    env.write(crate::harness::STATE_FILE, "{");
    let run = env.run(&["--dry-run"]).exits(2).says("Exit code 2");
    run.check(!run.stderr.contains("the counters say"), "there are no counters");
}

#[test]
fn a_dry_run_honours_the_state_file() {
    let env = TestEnv::with_archives(&[archive(), Archive::new("20251219_000000").with_all(posts("q", 2))]);
    let state = r#"[{"filename":"mega_jetstream_20251218_000000.db.zip","status":"processed","timestamp":"2025-12-18T01:00:00Z"}]"#;
    env.write(crate::harness::STATE_FILE, state);
    dry_run(&env, &[]).run().exits(0).counts(&[("archives.already_done", 1), ("rows.read", 2)]);
    assert_eq!(env.read(crate::harness::STATE_FILE).as_deref(), Some(state));
}

#[test]
fn the_dry_run_output_is_a_bulk_body() {
    let archives = [archive()];
    let env = TestEnv::with_archives(&archives);
    dry_run(&env, &["--output", "bulk.ndjson"]).run().exits(0);
    let body = env.read("bulk.ndjson").unwrap();
    let (status, reply) = exchange(&env.fake, "POST /_bulk", body.as_bytes()).unwrap();
    assert_eq!((status, &reply["errors"]), (200, &serde_json::json!(false)), "{reply}");
    assert_holds(&env.fake, &archives);
}

#[test]
fn standard_output_holds_only_ndjson() {
    let env = TestEnv::with_archives(&[archive()]);
    let run = dry_run(&env, &["--output", "-"]).run().exits(0);
    run.check(lines(&run.stdout).len() >= 12, "five posts and a tombstone, two lines each");
    run.check(run.stdout.ends_with('\n'), "the last line has its line end");
}

#[test]
fn the_summary_can_go_to_standard_output() {
    let env = TestEnv::with_archives(&[archive()]);
    let run = env.run(&["--summary-json", "-"]).exits(0);
    let summary = run.stdout_json();
    run.check_summary(&summary);
    assert_eq!(summary["rows"]["indexed"], 5);
    assert_eq!((&summary["mode"], &summary["source"]), (&"once".into(), &"local".into()));
    assert_eq!(env.read(SUMMARY), None, "the flag overrides the variable");
}

#[test]
fn standard_error_is_silent_without_logging() {
    let env = TestEnv::with_archives(&[archive()]);
    let run = env.ingest().var("LOGGING_ENABLED", "false").run().exits(0);
    run.check(run.stderr.is_empty(), "standard error is empty");
}

#[test]
fn positional_paths_replace_the_folder() {
    let env = TestEnv::with_archives(&[archive()]);
    std::fs::create_dir(env.path("elsewhere")).unwrap();
    Archive::new("20251219_000000").with_all(posts("x", 3)).write(&env.path("elsewhere"));
    let single = Archive::new("20251220_000000").with_all(posts("y", 4));
    single.write(&env.path(""));
    let run = dry_run(&env, &["elsewhere", &single.name()]).run().exits(0);
    run.counts(&[("archives.processed", 2), ("rows.read", 7)]);
    let run = dry_run(&env, &["elsewhere"]).without("LOCAL_SQLITE_DB_PATH").run().exits(0);
    run.counts(&[("archives.processed", 1)]);
}

#[test]
fn other_files_are_not_archives() {
    let env = TestEnv::with_archives(&[archive()]);
    env.write("archives/readme.txt", "not an archive");
    env.write("archives/mega_jetstream_20251218_000000.db.zip.part", "not yet an archive");
    dry_run(&env, &[]).run().exits(0).counts(&[("archives.discovered", 1)]);
}
