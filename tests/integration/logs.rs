//! What is logged: lines for people, JSON lines, and the report at the end.

use serde_json::{Value, json};

use crate::harness::archives::{Archive, unreadable};
use crate::harness::{Run, STATE_FILE, TestEnv, lines, posts};

fn archives() -> [Archive; 2] {
    [
        Archive::new("20251218_000000").with_all(posts("p", 2)),
        Archive::new("20251218_000100").with(unreadable("bad", Some("no JSON"))).with_all(posts("q", 2)),
    ]
}

/// The log lines; each is an object with all that every line has.
#[track_caller]
fn records(run: &Run) -> Vec<Value> {
    let records = lines(&run.stderr);
    for record in &records {
        for field in ["timestamp", "level", "target", "message"] {
            run.check(record[field].is_string(), &format!("{field} is in {record}"));
        }
        let time = record["timestamp"].as_str().unwrap_or_default();
        run.check(time.len() == 24 && time.ends_with('Z'), &format!("{time} is a time in UTC"));
    }
    records
}

#[test]
fn json_lines_tell_archives_and_end_with_the_summary() {
    let env = TestEnv::with_archives(&archives());
    let run = env.ingest().var("LOG_FORMAT", "json").run().exits(3);
    let records = records(&run);
    for archive in &archives() {
        let own: Vec<_> =
            records.iter().filter(|record| record["archive"] == json!(archive.name())).collect();
        run.check(own.len() == 1, "one line for each archive");
    }
    let level = |archive: &Archive| {
        records
            .iter()
            .find(|record| record["archive"] == json!(archive.name()))
            .map(|own| own["level"].clone())
    };
    let levels = archives().map(|archive| level(&archive).unwrap_or_default());
    run.check(levels == ["info", "warn"], "rejected rows are a warning");
    let last = records.last().cloned().unwrap_or_default();
    run.check(last["summary"] == run.summary(), "the last line has the summary");
    run.check(last["level"] == "info", "as information");
}

#[test]
fn json_lines_tell_why_a_run_could_not_begin_and_why_it_failed() {
    let env = TestEnv::with_archives(&archives());
    for (name, value) in [("WORKERS", "many"), ("LOGGING_ENABLED", "never")] {
        let run = env.ingest().var("LOG_FORMAT", "json").var(name, value).run().exits(2);
        let told = records(&run);
        run.check(told.len() == 1 && told[0]["exit_code"] == 2 && told[0]["level"] == "error", "one error");
    }
    for logging in ["true", "false"] {
        env.fake.deny("index");
        let run = env.ingest().var("LOG_FORMAT", "json").var("LOGGING_ENABLED", logging).run().exits(5);
        let told = records(&run);
        run.check(told.iter().any(|record| record["exit_code"] == 5), "the failure");
        run.check(logging == "true" || told.len() == 1, "nothing else without logging");
    }
}

#[test]
fn the_report_has_failures_first_and_what_to_do() {
    let env = TestEnv::with_archives(&archives());
    env.write("archives/mega_jetstream_20251218_000200.db.zip", "no archive");
    let run = env.run(&[]).exits(3);
    let report = run.stderr.split_once("\nExit code 3: ").map(|(_, report)| report.to_owned());
    let report = report.unwrap_or_default();
    for text in ["1 archive failed", "--retry-failed", "1 row rejected", "see .dead_letters.ndjson"] {
        run.check(report.contains(text), text);
    }
    let number = |name: &str| {
        let mut words = report.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).map(str::to_owned)
    };
    run.check(number("indexed").as_deref() == Some("4"), "4 rows are indexed");
    run.check(number("processed").as_deref() == Some("2"), "2 archives are processed");
}

#[test]
fn without_logging_a_run_says_nothing() {
    let env = TestEnv::with_archives(&archives());
    for level in ["", "debug", "megastream_ingest=trace", "ureq=warn"] {
        let run = env.ingest().var("LOGGING_ENABLED", "false").var("RUST_LOG", level).run().exits(3);
        run.check(run.stderr.is_empty() && run.stdout.is_empty(), "nothing is written");
        std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    }
}

#[test]
fn a_summary_that_cannot_be_written_is_told_with_and_without_logging() {
    let env = TestEnv::with_archives(&archives()[..1]);
    for logging in ["true", "false"] {
        let run = env.ingest().without("SUMMARY_JSON").args(&["--summary-json", "/dev/full"]);
        let run = run.var("LOGGING_ENABLED", logging).run().exits(1);
        let run = run.says("--summary-json (SUMMARY_JSON) cannot be written");
        run.check(logging == "true" || run.stderr.lines().count() == 1, "nothing else without logging");
    }
}

#[test]
fn the_level_can_be_chosen() {
    let env = TestEnv::with_archives(&archives()[..1]);
    let run = env.ingest().var("RUST_LOG", "error").run().exits(0);
    run.check(run.stderr.is_empty(), "there is no error");
    let env = TestEnv::with_archives(&archives()[..1]);
    env.ingest().var("RUST_LOG", "debug").run().exits(0).says("preflight: ok: ");
}

#[test]
fn what_is_passed_over_is_told_once_and_only_some_of_it_by_name() {
    let env = TestEnv::with_archives(&archives()[..1]);
    for n in 0..15 {
        std::fs::create_dir(env.path(&format!("archives/folder{n:02}.db.zip"))).unwrap();
    }
    let mut running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&archives()[..1]);
    let more = [Archive::new("20251218_000200").with_all(posts("r", 1))];
    env.add(&more);
    env.wait_for_processed(&more);
    assert!(running.is_running());
    running.signal("TERM");
    let run = running.wait().exits(0).says("5 more are passed over: --list names all");
    run.check(run.stderr.matches(" is passed over: ").count() == 10, "ten are named, once");
}

/// The fields of the summary, those of objects with a dot; reasons are whatever occurred.
fn fields(value: &Value, path: &str) -> Vec<String> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) if !path.starts_with("reasons.") => {
            object.iter().flat_map(|(name, value)| fields(value, &below(name))).collect()
        }
        _ => vec![path.to_owned()],
    }
}

#[test]
fn the_document_on_the_summary_has_exactly_its_fields() {
    let env = TestEnv::with_archives(&archives());
    let summary = env.run(&[]).exits(3).summary();
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/summary.md")).unwrap();
    let mut told: Vec<_> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut found = fields(&summary, "");
    // What only a verification has.
    found.extend(["findings".to_owned(), "repaired".to_owned()]);
    told.sort_unstable();
    found.sort_unstable();
    assert_eq!(told, found);
    assert!(document.contains(&format!("`schema_version` is {}.", summary["schema_version"])));
}

#[test]
fn a_quiet_run_tells_the_end_and_what_went_wrong_alone() {
    let env = TestEnv::with_archives(&archives());
    let is_told = |run: &Run, archive: &str| {
        run.stderr.lines().any(|line| line.contains(&format!("{archive}.db.zip\" is processed")))
    };
    let quiet = env.run(&["--quiet"]).exits(3);
    assert!(!is_told(&quiet, "20251218_000000") && is_told(&quiet, "20251218_000100"), "{}", quiet.stderr);
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    let run = env.run(&[]).exits(3);
    assert!(is_told(&run, "20251218_000000") && is_told(&run, "20251218_000100"), "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.contains("20251218_000000.db.zip\" is")).unwrap();
    assert!(line.ends_with("is processed; 2 rows: 2 indexed") && line.len() <= 100, "{line}");
}
