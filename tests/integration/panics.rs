//! A panic in any thread ends the run like any other failure. Debug builds panic where `MEGASTREAM_INGEST_PANIC` says;
//! other builds never do.

#![cfg(debug_assertions)]

use std::collections::BTreeMap;

use crate::harness::archives::Archive;
use crate::harness::model::assert_holds;
use crate::harness::{DEAD_LETTERS, Invocation, Run, TestEnv, lines, posts};
use crate::s3::{ingest, with};

const PANIC: &str = "MEGASTREAM_INGEST_PANIC";

fn archives() -> [Archive; 2] {
    [
        Archive::new("20251218_000000").with_all(posts("p", 30)),
        Archive::new("20251218_000100").with_all(posts("q", 30)),
    ]
}

/// A folder with archives, and a server with explicit settings for `posts`.
fn env() -> TestEnv {
    let env = TestEnv::with_archives(&archives());
    env.fake.store(|store| store.index("posts").unwrap().settings.extend(set()));
    env
}

fn set() -> BTreeMap<String, String> {
    [("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Runs with a panic in this thread, and checks exit code and summary.
fn run_with_panic(who: &str, invocation: Invocation<'_>) -> Run {
    let run = invocation.var(PANIC, who).run().exits(1);
    let run = run.says(&format!("an internal error in {who}: asked for; please report it"));
    // The harness checks for every run that the summary adds up.
    run.check(run.summary()["exit_code"] == 1, "the summary has the exit code");
    run
}

#[test]
fn a_panic_in_any_thread_of_a_load_restores_settings_and_loses_nothing() {
    for who in ["the load", "the reading", "a worker", "a sender", "the ledger", "the monitor"] {
        let env = env();
        let run = run_with_panic(who, env.ingest().args(&["--bulk-load-settings", "--batch-docs", "7"]));
        let settings = env.fake.store(|store| store.index("posts").unwrap().settings.clone());
        run.check(settings == set(), &format!("{who}: the settings of the index are {settings:?}"));
        if who != "the monitor" {
            run.check(env.state().is_empty(), &format!("{who}: nothing is marked"));
        }
        env.run(&[]).exits(0);
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn a_panic_outside_a_load_ends_with_exit_code_1() {
    let env = env();
    run_with_panic("the run", env.ingest());
    run_with_panic("a worker", env.ingest().args(&["--dry-run"]));
    for arguments in [&["--list"][..], &["--check"]] {
        let run = env.ingest().args(arguments).var(PANIC, "the program").run().exits(1);
        run.says("an internal error in the program");
    }
    let spool = env.ingest().args(&["--mode", "spool"]);
    run_with_panic("the thread for signals", spool);
}

#[test]
fn a_panic_in_a_replay_leaves_the_dead_letters_in_place() {
    let env = env();
    env.fake.fail_items(|_| true, usize::MAX, 400, "document_parsing_exception");
    env.run(&[]).exits(3).counts(&[("rows.rejected", 60)]);
    env.fake.release();
    let letters = env.read(DEAD_LETTERS);
    let replay = || env.ingest().without("LOCAL_SQLITE_DB_PATH").args(&["--replay", DEAD_LETTERS]);
    for who in ["the reading of dead letters", "a sender", "the ledger"] {
        let run = run_with_panic(who, replay());
        run.check(env.read(DEAD_LETTERS) == letters, &format!("{who}: the file is as it was"));
    }
    replay().run().exits(0);
    assert_holds(&env.fake, &archives());
}

#[test]
fn a_panic_during_downloads_ends_the_run_and_marks_nothing() {
    for who in ["the downloads", "a download"] {
        let (env, s3) = with(&archives());
        run_with_panic(who, ingest(&env, &s3));
        assert!(env.state().is_empty(), "{who}");
        ingest(&env, &s3).run().exits(0);
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn a_panic_is_logged_in_the_log_format() {
    let env = env();
    let json = || env.ingest().var("LOG_FORMAT", "json");
    let run = run_with_panic("a sender", json());
    let records = lines(&run.stderr);
    let place = |record: &serde_json::Value| {
        record["message"].as_str().is_some_and(|message| message.contains("src/process/shutdown.rs"))
    };
    run.check(
        records.iter().any(|record| place(record) && record["level"] == "error"),
        "the location of the panic",
    );
    let run = run_with_panic("a sender", json().var("LOGGING_ENABLED", "false"));
    run.check(lines(&run.stderr).len() == 1, "only the failure is logged");
}
