//! `--replay`: refused documents are sent again, and later changes survive.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::archives::{Archive, delete, post, unreadable, uri};
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{DEAD_LETTERS, Run, STATE_FILE, TestEnv, lines, posts};

/// The default path for documents that a replay rejects.
const FAILED: &str = ".dead_letters.ndjson.failed";

const REFUSAL: &str = "document_parsing_exception";

/// Loads archives while these posts and tombstones are refused.
fn refused(archives: &[Archive], names: &'static [&'static str]) -> TestEnv {
    let env = TestEnv::with_archives(archives);
    refuse(&env, names);
    let run = env.run(&[]).exits(3);
    run.check(run.count("rows.rejected") >= names.len() as u64, "the documents are refused");
    env.fake.release();
    env.fake.forget_requests();
    env
}

fn refuse(env: &TestEnv, names: &'static [&'static str]) {
    env.fake.fail_items(move |item| names.iter().any(|name| item.id == uri(name)), usize::MAX, 400, REFUSAL);
}

/// Replays the dead letters, and asserts that they and the state file stay unchanged.
#[track_caller]
fn replay(env: &TestEnv, arguments: &[&str]) -> Run {
    let before = (env.read(DEAD_LETTERS), env.read(STATE_FILE));
    let run = env.ingest().without("LOCAL_SQLITE_DB_PATH").args(&["--replay", DEAD_LETTERS]).args(arguments);
    let run = run.run();
    run.check((env.read(DEAD_LETTERS), env.read(STATE_FILE)) == before, "file and state are unchanged");
    let archives = ["discovered", "already_done", "processed", "failed", "pending"];
    archives.iter().for_each(|name| run.counts(&[(&format!("archives.{name}"), 0)]));
    run
}

#[test]
fn refused_posts_and_tombstones_are_sent_again_under_their_versions() {
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 6)).with(post("gone", "soon deleted")),
        Archive::new("20251218_000500").with(delete("gone")).with_all(posts("q", 2)),
    ];
    let env = refused(&archives, &["p2", "p5", "gone", "q0"]);
    let run = replay(&env, &["--senders", "1"]).exits(0);
    run.counts(&[("rows.read", 5), ("rows.deleted", 1), ("rows.rejected", 0)]);
    assert_holds(&env.fake, &archives);
    assert_eq!(env.read(FAILED), None);
    // One batch holds letters of all archives; the tombstone and its delete follow separately.
    assert_eq!(env.fake.bulks().iter().map(|record| record.items.len()).collect::<Vec<_>>(), [4, 1, 1]);

    replay(&env, &["--batch-docs", "1", "--senders", "3"]).exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn later_changes_survive_a_replay() {
    let first = Archive::new("20251218_000000").with_all(posts("p", 3));
    let env = refused(std::slice::from_ref(&first), &["p0", "p1", "p2"]);
    let later = Archive::new("20251219_000000").with(post("p0", "edited")).with(delete("p1"));
    env.add(std::slice::from_ref(&later));
    // An hour later, the index has forgotten the delete, and only the tombstone is left.
    env.fake.store(|store| store.forget_deletes = true);
    env.run(&[]).exits(0);
    let run = replay(&env, &[]).exits(0);
    run.counts(&[("rows.indexed", 1), ("rows.superseded", 1), ("rows.suppressed", 1)]);
    assert_holds(&env.fake, &[first, later]);
}

#[test]
fn documents_refused_again_go_to_a_new_file_unchanged() {
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 2)),
        Archive::new("20251218_000500").with_all(posts("q", 2)),
    ];
    let env = refused(&archives, &["p0", "p1", "q1"]);
    refuse(&env, &["p1", "q1"]);
    let run = replay(&env, &[]).exits(3);
    run.counts(&[("rows.indexed", 1), ("rows.rejected", 2), (&format!("reasons.rejected.{REFUSAL}"), 2)]);
    let by_uri = |letters: Vec<Value>, names: &[&str]| {
        let mut letters: Vec<Value> =
            letters.into_iter().filter(|l| names.iter().any(|n| l["at_uri"] == json!(uri(n)))).collect();
        letters.sort_by_key(|letter| letter["at_uri"].to_string());
        letters
    };
    let failed = lines(&env.read(FAILED).unwrap());
    assert_eq!(failed.len(), 2);
    assert_eq!(by_uri(failed, &["p1", "q1"]), by_uri(env.dead_letters(), &["p1", "q1"]));

    env.fake.release();
    env.run(&["--replay", FAILED, "--dead-letter", "again"]).exits(0).counts(&[("rows.indexed", 2)]);
    assert_eq!(env.read("again"), None);
    assert_holds(&env.fake, &archives);
}

#[test]
fn unreplayable_lines_are_counted_and_kept() {
    let archive =
        Archive::new("20251218_000000").with_all(posts("p", 2)).with(unreadable("bad", Some("{\"no\"")));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    refuse(&env, &["p1"]);
    let run = env.run(&[]).exits(3);
    run.counts(&[("rows.rejected", 2)]);
    let told = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    run.check(
        told.contains("once the cause is corrected, send 1 document again with --replay"),
        "replayable lines are counted",
    );
    run.check(
        told.contains("1 row is damaged in the archive: there is nothing to send again"),
        "unreplayable lines are counted",
    );
    env.fake.release();
    let letters = env.read(DEAD_LETTERS).unwrap();
    let decoded = letters.lines().find(|line| line.contains("\"decode\"")).unwrap();
    let elsewhere = letters.lines().find(|line| line.contains(REFUSAL)).unwrap().replace("posts", "secrets");
    env.write(DEAD_LETTERS, format!("{letters}\n{elsewhere}\nno JSON  \n  \n{{\"half"));
    let run = replay(&env, &["--dead-letter", "kept"]).exits(3);
    run.counts(&[("rows.read", 5), ("rows.indexed", 1), ("reasons.rejected.not_replayable", 4)]);
    run.check(!run.stderr.contains("with --replay"), "a second replay is not advised");
    assert_eq!(env.read("kept").unwrap(), format!("{decoded}\n{elsewhere}\nno JSON  \n{{\"half\n"));
    assert!(env.fake.documents("secrets").is_empty());
    assert_holds(&env.fake, &[archive]);
}

#[test]
fn a_file_without_dead_letters_is_refused_and_not_copied() {
    let archive = Archive::new("20251218_000000").with_all(posts("p", 2));
    let env = TestEnv::with_archives(&[]);
    for content in [archive.zip(), b"PASSWORD=secret\nOTHER=secret\n".to_vec(), b"{}\n".to_vec()] {
        env.write("other", content);
        let run = env.run(&["--replay", "other"]).exits(2).says("has no dead letters");
        run.check(env.read("other.failed").is_none(), "nothing is copied");
        run.check(!run.stderr.contains("secret"), "nothing is quoted");
        run.check(env.fake.requests().is_empty(), "no request was sent");
    }
}

#[test]
fn an_empty_file_has_nothing_to_send_and_is_not_taken_for_an_archive() {
    let env = TestEnv::with_archives(&[]);
    env.write("empty", "");
    let run = env.run(&["--replay", "empty"]).exits(0).says("\"empty\": no rows");
    run.check(!run.stderr.contains("-wal"), "the advice is not that on an archive");
}

#[test]
fn an_interrupted_replay_is_repeated() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 40))];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail_items(|_| true, usize::MAX, 400, REFUSAL);
    env.run(&[]).exits(3);
    env.fake.release();
    env.fake.forget_requests();
    env.fake.fail(Request::is_bulk, 3, usize::MAX, Fault::status(503));
    let running =
        env.ingest().args(&["--replay", DEAD_LETTERS, "--batch-docs", "1", "--senders", "1"]).start();
    env.fake.wait_for_bulks(5);
    running.signal("TERM");
    let run = running.wait().exits(143);
    run.counts(&[("rows.indexed", 3), ("archives.pending", 0)]);
    run.check(run.count("rows.unconfirmed") > 0, "the rest is unconfirmed");
    env.fake.release();
    replay(&env, &[]).exits(0).counts(&[("rows.read", 40), ("rows.indexed", 40)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn an_unavailable_server_ends_the_replay_within_the_budget() {
    let env = refused(&[Archive::new("20251218_000000").with_all(posts("p", 2))], &["p1"]);
    env.fake.fail_bulks(usize::MAX, Fault::status(503));
    replay(&env, &["--retry-budget", "1"]).exits(4).counts(&[("rows.unconfirmed", 1)]);
}

#[test]
fn confirmed_documents_are_flushed_if_not_synced() {
    let env = refused(&[Archive::new("20251218_000000").with_all(posts("p", 2))], &["p1"]);
    env.fake.use_async_translog();
    replay(&env, &[]).exits(0).counts(&[("rows.indexed", 1)]);
    let paths: Vec<String> = env.fake.requests().iter().map(|record| record.request.path.clone()).collect();
    let last = |end: &str| paths.iter().rposition(|path| path.ends_with(end));
    assert!(last("/_flush") > last("/_bulk"), "{paths:?}");
}

#[test]
fn the_state_file_is_neither_read_nor_locked() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 2))];
    let env = refused(&archives, &["p1"]);
    env.write(STATE_FILE, "no state");
    replay(&env, &[]).exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn flags_that_conflict_with_a_replay_are_refused() {
    let env = TestEnv::new();
    env.write("dead", "");
    for arguments in [
        &["--replay", "dead", "archives"][..],
        &["--replay", "dead", "--dry-run"],
        &["--replay", "dead", "--list"],
        &["--replay", "dead", "--check"],
        &["--replay", "dead", "--output", "out"],
        &["--replay", "dead", "--mode", "spool"],
        &["--replay", "dead", "--dead-letter", "dead"],
        &["--replay", "dead", "--dead-letter", "./dead"],
        &["--replay", "dead", "--summary-json", "dead"],
        &["--replay", "missing"],
        &["--replay", "archives"],
    ] {
        let run = env.ingest().args(arguments).run().exits(2).says("--replay");
        run.check(env.fake.requests().is_empty(), "no request was sent");
    }
    env.ingest().var("DEAD_LETTER_FILE", "dead").args(&["--replay", "dead"]).run().exits(2);
    env.ingest().without("ELASTICSEARCH_URL").args(&["--replay", "dead"]).run().exits(2);
    env.run(&["--replay", "dead"]).exits(0).counts(&[("rows.read", 0)]);
    assert_eq!(env.read("dead").as_deref(), Some(""));
}

#[test]
fn a_replay_into_shards_that_restart_again_and_again_ends() {
    let env = refused(&[Archive::new("20251218_000000").with_all(posts("p", 1))], &["p0"]);
    env.fake.use_async_translog();
    let is_flush = |request: &Request| request.path.ends_with("/_flush");
    env.fake.fail(is_flush, 0, usize::MAX, Fault::Delay(Duration::from_millis(50)));
    let mut running = env.ingest().args(&["--replay", DEAD_LETTERS]).start();
    while running.is_running() {
        env.fake.store(|store| store.node_starts += 1);
        thread::sleep(Duration::from_millis(5));
    }
    let run = running.wait().exits(4).says("the indices keep changing").says("shards restart");
    run.check(env.fake.bulks().len() > 20, "it is tried often enough");
}
