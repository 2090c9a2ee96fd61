//! Logs: text, JSON lines, and the report at the end.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::archives::{Archive, unreadable};
use crate::harness::script::Fault;
use crate::harness::{DEAD_LETTERS, Invocation, Run, STATE_FILE, SUMMARY, TestEnv, lines, posts};

fn archives() -> [Archive; 2] {
    [
        Archive::new("20251218_000000").with_all(posts("p", 2)),
        Archive::new("20251218_000100").with(unreadable("bad", Some("no JSON"))).with_all(posts("q", 2)),
    ]
}

/// The JSON log lines of a run, each with the members common to all lines.
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
fn json_lines_report_archives_and_end_with_the_summary() {
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
fn json_lines_say_why_a_run_was_refused_or_failed() {
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
fn the_report_lists_failures_first_with_advice() {
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
fn a_run_without_logging_is_silent() {
    let env = TestEnv::with_archives(&archives());
    for level in ["", "debug", "megastream_ingest=trace", "ureq=warn"] {
        let run = env.ingest().var("LOGGING_ENABLED", "false").var("RUST_LOG", level).run().exits(3);
        run.check(run.stderr.is_empty() && run.stdout.is_empty(), "nothing is written");
        std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    }
}

#[test]
fn an_unwritable_summary_is_reported_even_without_logging() {
    let env = TestEnv::with_archives(&archives()[..1]);
    for logging in ["true", "false"] {
        let run = env.ingest().without("SUMMARY_JSON").args(&["--summary-json", "/dev/full"]);
        let run = run.var("LOGGING_ENABLED", logging).run().exits(1);
        let run = run.says("--summary-json (SUMMARY_JSON) cannot be written");
        run.check(logging == "true" || run.stderr.lines().count() == 1, "nothing else without logging");
    }
}

#[test]
fn the_log_level_can_be_chosen() {
    let env = TestEnv::with_archives(&archives()[..1]);
    let run = env.ingest().var("RUST_LOG", "error").run().exits(0);
    run.check(run.stderr.is_empty(), "there is no error");
    let env = TestEnv::with_archives(&archives()[..1]);
    env.ingest().var("RUST_LOG", "debug").run().exits(0).says("preflight: ok: ");
}

#[test]
fn skipped_files_are_reported_once_and_ten_of_them_by_name() {
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
    let run = running.wait().exits(0).says("5 more are left out: --list names all");
    run.check(run.stderr.matches(" is left out: ").count() == 10, "ten are named, once");
}

/// The paths of all members of the summary, joined by dots; reasons are left out, since they vary.
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
fn the_summary_page_documents_exactly_its_fields() {
    let env = TestEnv::with_archives(&archives());
    let summary = env.run(&[]).exits(3).summary();
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/summary.md")).unwrap();
    let mut told: Vec<_> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut found = fields(&summary, "");
    // Only a verification has these.
    found.extend(["findings".to_owned(), "repaired".to_owned()]);
    told.sort_unstable();
    found.sort_unstable();
    assert_eq!(told, found);
    assert!(document.contains(&format!("`schema_version` is {}.", summary["schema_version"])));
}

#[test]
fn a_quiet_run_reports_only_problems_and_the_end() {
    let env = TestEnv::with_archives(&archives());
    let is_told = |run: &Run, archive: &str| {
        run.stderr.lines().any(|line| line.contains(&format!("{archive}.db.zip\": ")))
    };
    let quiet = env.run(&["--quiet"]).exits(3);
    assert!(!is_told(&quiet, "20251218_000000") && is_told(&quiet, "20251218_000100"), "{}", quiet.stderr);
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    let run = env.run(&[]).exits(3);
    assert!(is_told(&run, "20251218_000000") && is_told(&run, "20251218_000100"), "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.contains("20251218_000000.db.zip\": ")).unwrap();
    assert!(line.ends_with(": 2 indexed") && line.len() <= 100, "{line}");
}

#[test]
fn the_start_line_names_source_and_destination() {
    let env = TestEnv::with_archives(&archives());
    let (folder, state, url) = (env.path("archives"), env.path(STATE_FILE), env.fake.url());
    let (folder, state) = (folder.display(), state.display());
    let first = |run: &Run| run.stderr.lines().next().unwrap_or_default().to_owned();
    let run = env.run(&["--dry-run"]).exits(3);
    let start = format!("reading 2 archives (0.0 MB) from {folder} in a dry run; state file: {state}");
    run.check(first(&run).ends_with(&start), &start);
    let run = env.run(&["--limit", "1"]).exits(0);
    let start = format!("loading 1 archive (0.0 MB) into {url} from {folder}; state file: {state}");
    run.check(first(&run).ends_with(&start), &start);
    let run = env.run(&["--quiet"]).exits(3);
    let start = format!("loading 1 archive (0.0 MB), 1 already done, into {url} from {folder}");
    run.check(first(&run).contains(&start), &start);
    let run = env.run(&["--verify", "--limit", "1"]).exits(0);
    let start = format!("comparing 1 archive (0.0 MB) from {folder} with {url}");
    run.check(first(&run).ends_with(&start), &start);
    let run = env.run(&["--replay", DEAD_LETTERS]).exits(3);
    let start = format!("sending the documents of {} to {url} again", env.path(DEAD_LETTERS).display());
    run.check(first(&run).ends_with(&start), &start);
}

#[test]
fn a_refused_run_shows_no_table_of_zeros() {
    let env = TestEnv::with_archives(&archives());
    let shows_no_zeros = |run: Run, code: i32| {
        run.check(run.stderr.contains(&format!("Exit code {code}: ")), "the exit code is explained");
        run.check(!run.stderr.contains("Rows") && !run.stderr.contains("0 indexed"), "no zeros are shown");
        run.counts(&[("rows.read", 0)]);
    };
    env.fake.deny("index");
    shows_no_zeros(env.run(&[]).exits(5), 5);
    env.write(STATE_FILE, "no JSON");
    shows_no_zeros(env.run(&[]).exits(2), 2);
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    let running = env.ingest().without("SUMMARY_JSON").start();
    env.fake.wait_for_bulks(1);
    shows_no_zeros(env.run(&[]).exits(6), 6);
    env.fake.release();
    running.wait().exits(3);
}

#[test]
fn archives_left_by_a_signal_are_reported_in_one_line() {
    let all: Vec<Archive> =
        (0..30).map(|n| Archive::new(&format!("20251218_0000{n:02}")).with_all(posts("p", 3))).collect();
    let env = TestEnv::with_archives(&all);
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    let running = env.ingest().args(&["--workers", "1", "--senders", "1", "--batch-docs", "1"]).start();
    env.fake.wait_for_bulks(1);
    running.signal("TERM");
    while !running.has_logged("stopping") {
        std::thread::sleep(Duration::from_millis(5));
    }
    env.fake.release();
    let run = running.wait().exits(143).says(" archives were not started: the next run loads them");
    let told = run.stderr.lines().filter(|line| line.contains("stays pending")).count();
    run.check(told <= 2, "only archives that were begun have lines of their own");
}

/// Runs the program with a closed standard output, as after `| head`. Returns the exit code and standard error.
fn run_with_closed_output(run: Invocation<'_>) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = run.command().stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_closed_output_is_not_an_error() {
    let env = TestEnv::with_archives(&archives()[..1]);
    for arguments in [&["--help"][..], &["--version"], &["--list"], &["--list", "--json"], &["--check"]] {
        let (code, said) = run_with_closed_output(env.ingest().args(arguments));
        assert!(code == Some(0) && said.is_empty(), "{arguments:?}: {code:?} {said}");
    }
    for path in ["-", "/dev/stdout"] {
        let (code, said) = run_with_closed_output(env.ingest().args(&["--summary-json", path]));
        assert!(code == Some(0) && !said.contains("ERROR"), "{path}: {code:?} {said}");
    }
    env.fake.deny("index");
    let (code, said) = run_with_closed_output(env.ingest().args(&["--check"]));
    assert!(code == Some(5) && said.contains("check failed"), "{code:?} {said}");
}

#[test]
fn a_run_ends_quietly_when_its_output_is_closed() {
    // More output than the program buffers.
    let all: Vec<Archive> = (0..6)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("{n}-"), 500)))
        .collect();
    let env = TestEnv::with_archives(&all);
    for (arguments, expected) in [
        (&["--dry-run", "--output", "-"][..], 0),
        (&["--dry-run", "--output", "/dev/stdout"], 0),
        (&["--verify", "--output", "/dev/stdout"], 3),
    ] {
        let (code, said) = run_with_closed_output(env.ingest().args(arguments).args(&["--workers", "1"]));
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        let is_quiet = |line: &str| line.contains(" INFO ") && !line.contains("discovered");
        assert!(said.lines().all(is_quiet), "{arguments:?}: {said}");
        let summary: Value = serde_json::from_str(&env.read(SUMMARY).unwrap()).unwrap();
        assert_eq!(summary["interrupted"], true, "{arguments:?}: {summary}");
    }
    // A repair works even if nobody reads its output.
    let (code, said) = run_with_closed_output(env.ingest().args(&["--verify", "--repair", "--output", "-"]));
    assert!(code == Some(0) && !said.contains("ERROR"), "{code:?} {said}");
    assert_eq!(env.fake.documents("posts").len(), 6 * 500);
}
