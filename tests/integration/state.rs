//! The state file: processed archives are not loaded again, and unconfirmed ones are not marked.

use serde_json::{Value, json};

use crate::harness::archives::{Archive, delete};
use crate::harness::model::{assert_holds, assert_processed_are_held};
use crate::harness::script::Fault;
use crate::harness::{STATE_FILE, TestEnv, posts, string, wait_until};

fn archive(n: usize) -> Archive {
    Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("a{n}-"), 5))
}

/// An entry in the format of the established tool.
fn entry(archive: &Archive, status: &str) -> Value {
    let mut entry =
        json!({"filename": archive.name(), "status": status, "timestamp": "2025-12-18T01:02:03.456789Z"});
    if status == "failed" {
        entry["error"] = json!("database is locked");
    }
    entry
}

#[test]
fn a_second_run_sends_nothing() {
    let archives = [archive(0), archive(1)];
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0).counts(&[("archives.processed", 2), ("archives.already_done", 0)]);
    env.fake.forget_requests();
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.already_done", 2), ("archives.processed", 0), ("rows.read", 0)]);
    assert!(env.fake.bulks().is_empty());
}

#[test]
fn a_lost_index_does_not_look_like_success() {
    let archives = [archive(0), archive(1)];
    let says = "lists 2 archives as processed (10 rows)";
    let env = TestEnv::with_archives(&archives);
    let mut marked = archives.each_ref().map(|archive| entry(archive, "processed"));
    marked.iter_mut().for_each(|entry| entry["rows"] = json!(5));
    env.write(STATE_FILE, json!(marked).to_string());
    env.run(&[]).exits(0).says(says);
    let run = env.run(&["--check"]).exits(0);
    run.check(run.stdout.contains(says), "a check warns, too");
    env.fake.store(|store| store.indices.clear());
    env.run(&["--create-indices"]).exits(0).says("posts_v1 was just created").says(says);

    // Documents of archives that were marked just now may not be visible yet.
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0);
    env.fake.store(|store| store.index("posts").unwrap().documents.clear());
    let run = env.run(&[]).exits(0);
    run.check(!run.stderr.contains("archives as processed ("), "there is no early warning");
}

#[test]
fn a_cursor_of_the_established_tool_covers_every_archive_up_to_it() {
    let archives = [archive(0), archive(1), archive(2)];
    let env = TestEnv::with_archives(&archives);
    // 2025-12-18T00:00:01Z.
    env.write(STATE_FILE, r#"{"last_time_us": 1766016001000000, "updated_at": "2025-12-18T00:01:00Z"}"#);
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.processed", 1), ("archives.already_done", 2), ("rows.read", 5)]);
    env.run(&[]).exits(0).counts(&[("archives.already_done", 3)]);
}

#[test]
fn entries_have_the_fields_of_the_established_tool() {
    let broken = archive(1);
    let env = TestEnv::with_archives(&[archive(0)]);
    env.write(&format!("archives/{}", broken.name()), "no zip at all");
    env.run(&[]).exits(3);
    let state = env.state();
    assert_eq!(state.len(), 2);
    for (name, entry) in state {
        let time = string(&entry["timestamp"]);
        assert!(time.starts_with("20") && time.contains('T'), "{entry}");
        let failed = name == broken.name();
        assert_eq!(entry["status"], if failed { "failed" } else { "processed" });
        assert_eq!(entry["error"].as_str().is_some_and(|error| !error.is_empty()), failed, "{entry}");
    }
}

#[test]
fn a_state_file_of_the_established_tool_is_honoured() {
    let archives = [archive(0), archive(1), archive(2)];
    let env = TestEnv::with_archives(&archives);
    let entries = json!([entry(&archives[0], "processed"), entry(&archives[1], "failed")]);
    env.write(STATE_FILE, entries.to_string());
    env.run(&[]).counts(&[("archives.processed", 1), ("rows.read", 5)]);
    assert_holds(&env.fake, &archives[2..]);
    assert_eq!(env.status_of(&archives[1]), "failed");
    env.run(&["--retry-failed"]).exits(0).counts(&[("archives.processed", 1), ("rows.read", 5)]);
    assert_holds(&env.fake, &archives[1..]);
    assert_eq!(env.status_of(&archives[1]), "processed");
}

#[test]
fn unknown_entries_and_fields_are_kept() {
    let archives = [archive(0)];
    let env = TestEnv::with_archives(&archives);
    let foreign = json!({"filename": "mega_jetstream_20200101_000000.db.zip", "status": "processed",
        "timestamp": "2020-01-01T00:00:00Z", "from_a_later_release": {"rows": [1, 2.5, null]}});
    env.write(STATE_FILE, json!([foreign]).to_string());
    env.run(&[]).exits(0);
    let state = env.state();
    assert_eq!(state.get("mega_jetstream_20200101_000000.db.zip"), Some(&foreign));
    assert_eq!(env.status_of(&archives[0]), "processed");
}

#[test]
fn an_invalid_state_file_stops_the_run_and_stays_unchanged() {
    let whole = json!([entry(&archive(0), "processed")]).to_string();
    for content in
        ["", "\n", "{}", "null", "not json", &whole[..whole.len() - 1], "[1]", r#"[{"status":"x"}]"#]
    {
        let env = TestEnv::with_archives(&[archive(0)]);
        env.write(STATE_FILE, content);
        env.run(&[]).exits(2).says(STATE_FILE);
        assert_eq!(env.read(STATE_FILE).as_deref(), Some(content));
        assert!(env.fake.bulks().is_empty(), "{content}");
    }
}

#[test]
fn a_state_file_that_an_editor_has_saved_with_a_byte_order_mark_is_told_as_that() {
    let env = TestEnv::with_archives(&[archive(0)]);
    for content in [b"\xEF\xBB\xBF[]".as_slice(), b"\xFF\xFE[\0]\0", b"\xFE\xFF\0[\0]"] {
        env.write(STATE_FILE, content);
        env.run(&[]).exits(2).says(STATE_FILE).says("byte order mark").says("UTF-8");
        assert_eq!(std::fs::read(env.path(STATE_FILE)).unwrap(), content);
    }
}

#[test]
fn a_state_file_that_is_edited_during_a_run_ends_it_and_is_left_as_it_is() {
    let env = TestEnv::with_archives(&[archive(0)]);
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&[archive(0)]);
    env.write(STATE_FILE, "[]");
    env.add(&[archive(1)]);
    let run = running.wait().exits(1).says("has changed it during the run").says("while no run uses it");
    run.check(!run.stderr.contains("free the disk"), "it does not blame the disk");
    assert_eq!(env.read(STATE_FILE).as_deref(), Some("[]"));
}

#[test]
fn a_state_file_that_cannot_be_written_after_a_signal_fails_the_run() {
    for mode in ["once", "spool"] {
        let env = TestEnv::with_archives(&[archive(0)]);
        env.write(STATE_FILE, "[]");
        env.fake.fail_bulks(1, Fault::Hang);
        let running = env.ingest().args(&["--mode", mode]).start();
        env.fake.wait_for_bulks(1);
        env.write(STATE_FILE, "[ ]");
        running.signal("TERM");
        wait_until("the signal is noticed", || running.has_logged("stopping"));
        env.fake.release();
        let run = running.wait().exits(1).says("ERROR] the state file").says("has changed it during the run");
        assert_eq!(run.summary()["interrupted"], true);
        run.counts(&[("archives.pending", 1)]);
    }
}

#[test]
fn a_broken_archive_fails_no_other_archive() {
    let archives = [archive(0), archive(2)];
    let env = TestEnv::with_archives(&archives);
    let half = archive(1).zip();
    env.write(&format!("archives/{}", archive(1).name()), &half[..half.len() / 2]);
    let run = env.run(&[]).exits(3);
    run.counts(&[("archives.processed", 2), ("archives.failed", 1), ("rows.indexed", 10)]);
    assert_holds(&env.fake, &archives);
    assert_eq!(env.status_of(&archive(1)), "failed");
}

#[test]
fn a_failed_archive_is_retried_only_on_request_or_when_changed() {
    let archive = archive(0);
    let env = TestEnv::new();
    env.write(&format!("archives/{}", archive.name()), "broken");
    env.run(&[]).exits(3);
    let before = env.state();

    env.run(&[]).counts(&[("archives.processed", 0), ("rows.read", 0)]);
    assert_eq!(env.state(), before, "it is not read again");
    env.run(&["--retry-failed"]).exits(3).counts(&[("archives.failed", 1)]);
    assert_eq!(env.status_of(&archive), "failed");

    env.add(std::slice::from_ref(&archive));
    env.run(&[]).exits(0).counts(&[("archives.processed", 1)]);
    assert_eq!(env.status_of(&archive), "processed");
    assert_holds(&env.fake, &[archive]);
}

#[test]
fn an_archive_is_marked_processed_only_after_confirmation() {
    let archives = [archive(0)];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail_bulks(1, Fault::Hang);
    let mut running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    assert_eq!(env.status_of(&archives[0]), "pending");
    assert!(running.is_running());
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(env.status_of(&archives[0]), "processed");
}

#[test]
fn an_asynchronous_translog_is_flushed_before_archives_are_marked() {
    let env = TestEnv::with_archives(&[archive(0)]);
    env.fake.use_async_translog();
    env.fake.fail(|request| request.path.ends_with("/_flush"), 0, 1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for(|record| record.request.path.ends_with("/_flush"), 1);
    let last_bulk = env.fake.bulks().iter().filter_map(|record| record.answered).map(|m| m.order).max();
    let flush = env.fake.requests().into_iter().find(|record| record.request.path.ends_with("/_flush"));
    assert!(
        flush.is_some_and(
            |flush| Some(flush.arrived.order) > last_bulk && flush.request.path.contains("posts")
        )
    );
    assert_eq!(env.status_of(&archive(0)), "pending");
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(env.status_of(&archive(0)), "processed");
}

#[test]
fn a_second_process_is_kept_out() {
    let env = TestEnv::with_archives(&[archive(0)]);
    env.fake.fail_bulks(1, Fault::Hang);
    let first = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.ingest().without("SUMMARY_JSON").run().exits(6).says(STATE_FILE);
    env.fake.release();
    first.wait().exits(0);
    env.run(&[]).exits(0).counts(&[("archives.already_done", 1)]);
}

#[test]
fn a_second_process_with_another_path_to_the_file_is_kept_out() {
    let env = TestEnv::with_archives(&[archive(0)]);
    env.write(STATE_FILE, "[]");
    std::os::unix::fs::symlink(STATE_FILE, env.path("link")).unwrap();
    env.fake.fail_bulks(1, Fault::Hang);
    let first = env.ingest().start();
    env.fake.wait_for_bulks(1);
    let second = env.ingest().var("SPOOL_STATE_FILE", "link").without("SUMMARY_JSON");
    second.run().exits(6).says(STATE_FILE);
    env.fake.release();
    first.wait().exits(0);
}

#[test]
fn the_next_run_completes_a_killed_run() {
    let archives: Vec<Archive> =
        (0..4).map(|n| archive(n).with(delete(&format!("a{}-0", n.saturating_sub(1))))).collect();
    for bulks in [1, 3, 6, 9] {
        let env = TestEnv::with_archives(&archives);
        let is_bulk = |request: &crate::harness::http::Request| request.is_bulk();
        env.fake.fail(is_bulk, bulks - 1, usize::MAX, Fault::Hang);
        let killed = env.ingest().args(&["--batch-docs", "2", "--senders", "1"]).start();
        env.fake.wait_for_bulks(bulks);
        killed.signal("KILL");
        killed.wait().exits(128 + 9);
        assert_processed_are_held(&env, &archives);
        env.fake.release();
        env.run(&[]).exits(0).counts(&[("archives.pending", 0), ("archives.discovered", 4)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn a_list_shows_what_would_be_loaded_and_changes_nothing() {
    let env = TestEnv::with_archives(&[archive(0), archive(1)]);
    let state = json!([entry(&archive(0), "processed")]).to_string();
    env.write(STATE_FILE, &state);
    let run = env.ingest().args(&["--list"]).without("ELASTICSEARCH_URL").run().exits(0);
    run.check(run.stdout.contains(&archive(0).name()), "the processed archive is listed");
    run.check(run.stdout.contains(&archive(1).name()), "the new archive is listed");
    assert!(env.fake.requests().is_empty());
    assert_eq!(env.read(STATE_FILE), Some(state));
}

#[test]
fn the_state_file_path_can_be_set() {
    let env = TestEnv::with_archives(&[archive(0)]);
    env.ingest().var("SPOOL_STATE_FILE", "other.json").run().exits(0);
    assert_eq!(env.read(STATE_FILE), None);
    // The second is the name in later versions of the established tool.
    for variable in ["SPOOL_STATE_FILE", "MEGASTREAM_STATE_FILE"] {
        let run = env.ingest().var(variable, "other.json").run().exits(0);
        run.counts(&[("archives.already_done", 1)]);
    }
}
