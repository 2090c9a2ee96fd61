//! Failing writes: the run stops, nothing is marked, and the next run completes the work.

use std::process::Command;

use serde_json::json;

use crate::harness::archives::{Archive, unreadable};
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{DEAD_LETTERS, STATE_FILE, TestEnv, posts};

/// An archive with one row that becomes a dead letter.
fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("a", 5)).with(unreadable("odd", Some("{")))
}

#[test]
fn an_archive_with_unwritable_dead_letters_is_not_marked() {
    let env = TestEnv::with_archives(&[archive()]);
    // `/proc` takes no files, not even from root.
    let path = "/proc/dead_letters";
    let run = env.run(&["--dead-letter", path]).exits(1);
    let run = run.says("the dead-letter file /proc/dead_letters cannot be written");
    run.counts(&[("archives.processed", 0), ("archives.failed", 0), ("archives.pending", 1)]);
    assert_eq!(env.read(STATE_FILE), None);
    env.run(&[]).exits(3).counts(&[("archives.processed", 1), ("rows.rejected", 1)]);
    assert_eq!(env.dead_letters().len(), 1);
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn unwritable_dead_letters_are_reported_before_the_first_one() {
    let whole = Archive::new("20251218_000000").with_all(posts("a", 5));
    let env = TestEnv::with_archives(std::slice::from_ref(&whole));
    for arguments in [&[][..], &["--mode", "spool"], &["--dry-run"], &["--verify", "--repair"]] {
        let run = env.ingest().args(&["--dead-letter", "/proc/dead_letters"]).args(arguments).run().exits(1);
        run.says("the dead-letter file /proc/dead_letters cannot be written")
            .counts(&[("archives.processed", 0), ("rows.read", 0)]);
    }
    assert!(env.fake.bulks().is_empty() && env.read(STATE_FILE).is_none());
    env.run(&[]).exits(0);
    assert_eq!(env.read(DEAD_LETTERS), None);
}

#[test]
fn pipes_and_devices_for_state_and_dead_letters_are_refused() {
    let env = TestEnv::with_archives(&[archive()]);
    assert!(Command::new("mkfifo").arg(env.path("pipe")).status().unwrap().success());
    for path in ["/dev/full", "/dev/null", "pipe"] {
        for name in ["DEAD_LETTER_FILE", "SPOOL_STATE_FILE"] {
            let run = env.ingest().var(name, path).run().exits(2).says("is not a regular file: name a file");
            run.check(run.stderr.contains(name) && run.stderr.contains(path), "setting and path are named");
        }
    }
    assert!(env.fake.requests().is_empty());
}

#[test]
fn the_next_run_completes_dead_letters_cut_by_a_full_disk() {
    // The dead letters together exceed the room on the disk.
    let rows = (0..400).map(|n| unreadable(&format!("odd{n}"), Some("{")));
    let archive = Archive::new("20251218_000000").with_all(rows);
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let run = env.ingest().largest_file(40).run().exits(1);
    let run = run.says(&format!("the dead-letter file {DEAD_LETTERS} cannot be written"));
    run.counts(&[("archives.processed", 0), ("archives.pending", 1)]);
    run.check(
        !run.stderr.contains("row rejected") && !run.stderr.contains("rows rejected"),
        "it names no lost letter",
    );
    assert_eq!(env.read(STATE_FILE), None);
    let cut = env.read(DEAD_LETTERS).unwrap();
    assert!(!cut.ends_with('\n'), "the disk was full within a line");
    env.run(&[]).exits(3).counts(&[("archives.processed", 1), ("rows.rejected", 400)]);
    let whole = env.read(DEAD_LETTERS).unwrap();
    let last_run = whole.lines().skip(cut.lines().count());
    assert_eq!(last_run.filter(|line| line.starts_with('{') && line.ends_with('}')).count(), 400);
}

#[test]
fn a_state_file_that_cannot_be_replaced_stays_unchanged() {
    let entry = json!({"filename": "mega_jetstream_20200101_000000.db.zip", "status": "processed",
        "timestamp": "2020-01-01T00:00:00Z"});
    let before = json!([entry]).to_string();
    let env = TestEnv::with_archives(&[archive()]);
    env.write(STATE_FILE, &before);
    let temporary = env.path(&format!("{STATE_FILE}.tmp"));
    std::fs::create_dir(&temporary).unwrap();
    let run = env.run(&[]).exits(1).says(".processed_files.json cannot be written");
    run.counts(&[("archives.processed", 0), ("archives.pending", 1)]);
    assert_eq!(env.read(STATE_FILE), Some(before));
    std::fs::remove_dir(&temporary).unwrap();
    env.run(&[]).exits(3).counts(&[("archives.processed", 1)]);
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn a_state_file_too_large_for_the_disk_stays_unchanged() {
    let entry = |n: u32| {
        json!({"filename": format!("mega_jetstream_20200101_{n:06}.db.zip"), "status": "processed",
            "timestamp": "2020-01-01T00:00:00Z"})
    };
    let before = json!((0..1000).map(entry).collect::<Vec<_>>()).to_string();
    let env = TestEnv::with_archives(&[archive()]);
    env.write(STATE_FILE, &before);
    let run = env.ingest().largest_file(60).run().exits(1).says(".processed_files.json cannot be written");
    run.counts(&[("archives.processed", 0), ("archives.pending", 1)]);
    assert_eq!(env.read(STATE_FILE), Some(before));
    assert!(!env.path(&format!("{STATE_FILE}.tmp")).exists());
    env.run(&[]).exits(3).counts(&[("archives.processed", 1)]);
    assert_eq!(env.state().len(), 1001);
}

#[test]
fn a_state_file_that_cannot_be_locked_stops_the_run_before_sending() {
    for (path, code) in [("no/such/folder/state.json", 2), ("/proc/state.json", 1)] {
        let env = TestEnv::with_archives(&[archive()]);
        env.ingest().var("SPOOL_STATE_FILE", path).run().exits(code).says(path);
        assert!(env.fake.requests().is_empty(), "{path}");
    }
}

#[test]
fn a_server_that_hides_its_shards_is_flushed_anyway() {
    for status in [400, 403, 404, 405, 501] {
        let env = TestEnv::with_archives(&[archive()]);
        env.fake.use_async_translog();
        let is_question = |request: &Request| request.path.ends_with("/_search_shards");
        env.fake.fail(is_question, 0, usize::MAX, Fault::status(status));
        let run = env.run(&[]).exits(3);
        run.counts(&[("archives.processed", 1)]);
        run.check(run.stderr.matches("does not show where its shards are").count() == 1, "one warning");
        let flushes = env.fake.requests().iter().filter(|r| r.request.path.ends_with("/_flush")).count();
        assert!(flushes > 0, "{status}");
        let check = env.run(&["--check"]).exits(0);
        check.check(check.stdout.contains("warning: durability: "), "a check finds it, too");
    }
}

#[test]
fn writes_lost_by_a_node_restart_are_sent_again_in_the_same_run() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.use_async_translog();
    env.fake.fail(|request| request.path.ends_with("/_flush"), 0, 1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for(|record| record.request.path.ends_with("/_flush"), 1);
    // The node dies between its confirmations and the flush, and loses what it had not synced.
    env.fake.store(|store| {
        store.node_starts += 1;
        store.index("posts").unwrap().documents.clear();
    });
    env.fake.release();
    running.wait().exits(3).says("async").counts(&[("archives.processed", 1), ("archives.pending", 0)]);
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn an_alias_that_moves_behind_a_proxy_that_always_hides_the_shards_is_noticed_in_the_same_run() {
    for page in [Fault::page(404), Fault::page(200)] {
        let env = TestEnv::with_archives(&[archive()]);
        env.fake.use_async_translog();
        env.fake.fail(|request| request.path.ends_with("/_search_shards"), 0, usize::MAX, page);
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let running = env.ingest().args(&["--retry-budget", "5"]).start();
        env.fake.wait_for_bulks(1);
        env.fake.store(|store| store.add_index("posts_v2", "posts", true));
        env.fake.use_async_translog();
        env.fake.release();
        running.wait().exits(3).says("posts is posts_v2").counts(&[("archives.processed", 1)]);
        assert_eq!(env.fake.documents("posts_v2").len(), 5);
    }
}
