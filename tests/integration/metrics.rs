//! The metrics file, compared with the summary of the same run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::disks::{shim, with_shim};
use crate::harness::archives::{Archive, delete};
use crate::harness::{Run, TestEnv, posts};

const FILE: &str = "ingest.prom";

fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("p", 5)).with(delete("gone"))
}

/// The samples of the metrics file by name and labels, without the common prefix.
fn samples(env: &TestEnv) -> BTreeMap<String, f64> {
    let text = env.read(FILE).unwrap_or_default();
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let name = name.strip_prefix("megastream_ingest_").expect("the prefix");
        (name.to_owned(), value.parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Asserts that every count of the summary is also in the metrics file.
fn assert_equal(samples: &BTreeMap<String, f64>, run: &Run) {
    let mut pairs = vec![
        ("archives_discovered".to_owned(), "archives.discovered".to_owned()),
        ("rows_read_total".to_owned(), "rows.read".to_owned()),
        ("bulk_requests_total".to_owned(), "requests.bulk".to_owned()),
        ("bulk_requests_retried_total".to_owned(), "requests.retried".to_owned()),
        ("bulk_request_bytes_total".to_owned(), "requests.bytes_sent".to_owned()),
        ("bulk_request_bytes_on_wire_total".to_owned(), "requests.bytes_on_wire".to_owned()),
    ];
    let labelled = |name: &str, label: &str, value: &str| format!("{name}{{{label}=\"{value}\"}}");
    for state in ["already_done", "processed", "failed", "pending"] {
        pairs.push((labelled("archives", "state", state), format!("archives.{state}")));
    }
    for outcome in ["indexed", "deleted", "superseded", "suppressed", "skipped", "rejected", "unconfirmed"] {
        pairs.push((labelled("rows_total", "outcome", outcome), format!("rows.{outcome}")));
    }
    for reason in run.reasons("rejected") {
        pairs
            .push((labelled("rows_rejected_total", "reason", &reason), format!("reasons.rejected.{reason}")));
    }
    for (name, path) in pairs {
        let found = samples.get(&name).copied();
        run.check(found == Some(run.count(&path) as f64), &format!("{name} is {path}, not {found:?}"));
    }
    let code = samples.get("exit_code").copied();
    run.check(code == run.code.map(f64::from), "the exit code is that of the run");
    run.check(samples.get("running") == Some(&0.0), "the run has ended");
}

#[test]
fn the_metrics_of_a_dry_run_equal_its_summary() {
    let broken = Archive::new("20251219_000000").with_all(posts("q", 2));
    let env = TestEnv::with_archives(&[archive()]);
    env.write(&format!("archives/{}", broken.name()), "no archive");
    let run = env.ingest().args(&["--dry-run"]).var("METRICS_FILE", FILE).run().exits(3);
    let samples = samples(&env);
    assert_equal(&samples, &run);
    assert_eq!(samples.get("rows_total{outcome=\"indexed\"}"), Some(&5.0));
    assert_eq!(samples.get("archives{state=\"failed\"}"), Some(&1.0));
    assert_eq!(samples.get("newest_archive_timestamp_seconds"), Some(&1_766_016_000.0));
    assert!(!samples.keys().any(|name| name.starts_with("elasticsearch_state")), "{samples:?}");
    assert!(!samples.contains_key("last_success_timestamp_seconds"), "a dry run is not a success");
}

#[test]
fn metrics_equal_the_summary_and_keep_the_last_success() {
    let env = TestEnv::with_archives(&[archive()]);
    let run = env.ingest().args(&["--metrics-file", FILE]).run().exits(0);
    let first = samples(&env);
    assert_equal(&first, &run);
    assert_eq!(first.get("elasticsearch_state{state=\"available\"}"), Some(&1.0));
    assert_eq!(first.get("requests_in_flight_limit"), Some(&4.0));
    let success = first.get("last_success_timestamp_seconds");
    assert!(success.is_some());

    // The server does not know this key.
    let refused =
        env.ingest().var("METRICS_FILE", FILE).var("ELASTICSEARCH_API_KEY", "d3Jvbmc=").run().exits(5);
    let second = samples(&env);
    assert_equal(&second, &refused);
    assert_eq!(second.get("last_success_timestamp_seconds"), success);
    assert_eq!(second.get("elasticsearch_state{state=\"connecting\"}"), Some(&1.0));
    assert_eq!(second.get("newest_archive_timestamp_seconds"), Some(&1_766_016_000.0));
}

#[test]
fn a_spool_run_publishes_metrics_after_each_look_and_at_its_end() {
    let env = TestEnv::with_archives(&[archive()]);
    let spool =
        env.ingest().args(&["--mode", "spool", "--metrics-file", FILE]).var("SPOOL_INTERVAL_SEC", "1");
    let mut running = spool.start();
    let processed = || samples(&env).get("archives{state=\"processed\"}").copied().unwrap_or_default();
    let mut wait_for = |count: f64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while processed() != count && Instant::now() < deadline && running.is_running() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(processed(), count);
    };
    wait_for(1.0);
    env.add(&[Archive::new("20251219_000000").with_all(posts("q", 2))]);
    wait_for(2.0);
    let during = samples(&env);
    assert_eq!(during.get("running"), Some(&1.0));
    assert!(!during.contains_key("exit_code"));
    assert!(during.contains_key("last_success_timestamp_seconds"));
    running.signal("TERM");
    let run = running.wait().exits(0);
    assert_equal(&samples(&env), &run);
}

#[test]
fn an_unwritable_metrics_file_is_only_a_warning() {
    let env = TestEnv::with_archives(&[archive()]);
    // The name has the maximum length, so the temporary file's name is too long.
    let long = "m".repeat(255);
    let run = env.ingest().args(&["--metrics-file", &long]).run().exits(0).says("METRICS_FILE");
    let warnings = run.stderr.lines().filter(|line| line.contains("METRICS_FILE")).count();
    run.check(warnings == 1, "there is one warning");
}

#[test]
fn a_metrics_file_that_hangs_does_not_hold_up_a_spool_run() {
    let env = TestEnv::with_archives(&[archive()]);
    let Some(shim) = shim(&env) else { return };
    let spool = with_shim(&env, &shim).var("HANG", FILE).var("SPOOL_INTERVAL_SEC", "1");
    let mut running = spool.args(&["--mode", "spool", "--metrics-file", FILE]).start();
    env.wait_for_processed(&[archive()]);
    let later = [Archive::new("20251219_000000").with_all(posts("q", 2))];
    env.add(&later);
    env.wait_for_processed(&later);
    running.signal_until_it_ends("TERM");
    running.wait().exits(0);
}

#[test]
fn a_device_or_pipe_is_written_to_and_never_replaced() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 2))]);
    let devices = [("null", "/dev/null"), ("full", "/dev/full")];
    for (name, device) in devices {
        symlink(device, env.path(name)).unwrap();
        env.run(&["--metrics-file", name]).exits(0);
        assert_eq!(fs::read_link(env.path(name)).unwrap(), Path::new(device));
    }
    assert!(Command::new("mkfifo").arg(env.path("pipe")).status().unwrap().success());
    env.run(&["--metrics-file", "pipe"])
        .exits(0)
        .says("--metrics-file (METRICS_FILE) pipe cannot be written");
    assert!(fs::metadata(env.path("pipe")).unwrap().file_type().is_fifo());
}
