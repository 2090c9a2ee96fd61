//! `--mode spool` looks for new archives while others are in flight.

use std::time::Duration;

use crate::harness::archives::{Archive, delete, post};
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Invocation, TestEnv, posts, wait_until};

const METRICS_FILE: &str = "ingest.prom";

/// Archives of these minutes, with a few posts each.
fn archives(minutes: std::ops::Range<usize>) -> Vec<Archive> {
    minutes
        .map(|n| Archive::new(&format!("20251218_00{n:02}00")).with_all(posts(&format!("a{n}-"), 3)))
        .collect()
}

/// The program, with a look every second and a metrics file.
fn spool(env: &TestEnv) -> Invocation<'_> {
    env.ingest().args(&["--mode", "spool", "--metrics-file", METRICS_FILE]).var("SPOOL_INTERVAL_SEC", "1")
}

/// Waits until the metrics show these numbers of pending and processed archives.
#[track_caller]
fn wait_for_metrics(env: &TestEnv, pending: usize, processed: usize) {
    let all = pending + processed;
    let lines = [
        format!("megastream_ingest_archives{{state=\"pending\"}} {pending}\n"),
        format!("megastream_ingest_archives{{state=\"processed\"}} {processed}\n"),
        format!("megastream_ingest_archives_discovered {all}\n"),
    ];
    wait_until(&format!("{pending} pending, {processed} processed"), || {
        let metrics = env.read(METRICS_FILE).unwrap_or_default();
        lines.iter().all(|line| metrics.contains(line))
    });
}

#[test]
fn archives_are_loaded_and_marked_while_an_older_request_hangs() {
    let all = archives(0..11);
    let env = TestEnv::with_archives(&all[..1]);
    env.fake.fail_bulks(1, Fault::Hang);
    let running = spool(&env).start();
    env.fake.wait_for_bulks(1);
    env.add(&all[1..]);
    env.wait_for_processed(&all[1..]);
    assert_eq!(env.status_of(&all[0]), "pending");
    wait_for_metrics(&env, 1, 10);
    let hung = env.fake.bulks().iter().filter(|record| record.answered.is_none()).count();
    assert_eq!(hung, 1, "the first request still hangs");
    env.fake.release();
    env.wait_for_processed(&all);
    wait_for_metrics(&env, 0, 11);
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.counts(&[("archives.processed", 11), ("archives.pending", 0), ("rows.read", 33)]);
    // Several looks load no archive twice.
    run.check(env.fake.bulks().len() == 11, "each is sent once");
    assert_holds(&env.fake, &all);
}

#[test]
fn a_signal_reports_archives_not_begun_in_one_line() {
    let all = archives(0..11);
    let env = TestEnv::with_archives(&all[..1]);
    env.fake.fail_bulks(1, Fault::Hang);
    // The only worker blocks within the first archive.
    let running = spool(&env).args(&["--workers", "1", "--senders", "1", "--batch-docs", "1"]).start();
    env.add(&[Archive::new("20251218_000000").with_all(posts("a0-", 9))]);
    env.fake.wait_for_bulks(1);
    env.add(&all[1..]);
    wait_for_metrics(&env, 11, 0);
    running.signal("TERM");
    wait_until("the signal is told", || running.has_logged("a second signal"));
    env.fake.release();
    let run = running.wait().exits(0);
    run.check(run.took < Duration::from_secs(15), "the run ends soon");
    run.counts(&[("archives.discovered", 11), ("archives.pending", 11)]);
    let told = run.stderr.lines().filter(|line| line.contains("not started")).collect::<Vec<_>>();
    run.check(told.len() == 1 && told[0].contains("10 archives"), "one line covers all archives");
    run.check(run.count("rows.indexed") > 0, "the request in flight is finished");
}

#[test]
fn a_look_notices_a_moved_alias_while_a_batch_is_in_flight() {
    let all = archives(0..2);
    let env = TestEnv::with_archives(&all[..1]);
    env.fake.fail_bulks(1, Fault::Hang);
    let running = spool(&env).start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    // Only a look queries the aliases now.
    wait_until("the move is logged", || running.has_logged("posts is posts_v2"));
    env.add(&all[1..]);
    env.wait_for_processed(&all[1..]);
    let sent = |archive: &Archive| {
        let items = env.fake.bulks().into_iter().flat_map(|record| record.items);
        items.filter(|item| item.version == Some(archive.version(1))).count()
    };
    assert_eq!(sent(&all[1]), 1, "it was sent once, to the new index");
    env.fake.release();
    env.wait_for_processed(&all);
    running.signal("TERM");
    let run = running.wait().exits(0).says("is loaded again");
    run.counts(&[("archives.processed", 2), ("archives.pending", 0)]);
    assert_eq!(sent(&all[0]), 2);
    assert_eq!(env.fake.documents("posts_v2").len(), 6);
}

#[test]
fn a_look_notices_a_moved_alias_while_nothing_is_in_flight() {
    let [first, second] = [
        Archive::new("20251218_000000").with_all(posts("p", 2)),
        Archive::new("20251219_000000").with(delete("p0")).with(post("p1", "emitted anew")),
    ];
    let env = TestEnv::with_archives(std::slice::from_ref(&first));
    let running = spool(&env).start();
    env.wait_for_processed(std::slice::from_ref(&first));
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    wait_until("the move is logged", || running.has_logged("posts is posts_v2"));
    env.fake.forget_requests();
    env.add(std::slice::from_ref(&second));
    env.wait_for_processed(std::slice::from_ref(&second));
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.check(!run.stderr.contains("is loaded again"), "nothing was sent to the old index");
    let indexed = env.fake.bulks().into_iter().flat_map(|record| record.items);
    assert_eq!(indexed.filter(|item| item.version == Some(second.version(2))).count(), 1);
    // The deletion reaches the old index, too.
    let ids = |index: &str| env.fake.documents(index).into_keys().collect::<Vec<_>>();
    assert_eq!(ids("posts_v1").len(), 1);
    assert_eq!(ids("posts_v2"), ids("posts_v1"));
}

#[test]
fn refusals_become_dead_letters_once_nothing_is_in_flight() {
    let all = archives(0..2);
    let env = TestEnv::with_archives(&all[..1]);
    env.fake.fail_items(|_| true, 3, 400, "mapper_parsing_exception");
    let running = spool(&env).start();
    env.wait_for_processed(&all[..1]);
    assert_eq!(env.dead_letters().len(), 3);
    env.add(&all[1..]);
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().counts(&[("rows.rejected", 3), ("rows.indexed", 3)]);
}

#[test]
fn a_folder_missing_while_a_request_hangs_is_looked_for_again() {
    let all = archives(0..2);
    let env = TestEnv::with_archives(&all[..1]);
    env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
    let running = spool(&env).start();
    env.fake.wait_for_bulks(1);
    std::fs::rename(env.path("archives"), env.path("away")).unwrap();
    wait_until("the folder is missed", || running.has_logged("the next look tries again"));
    std::fs::rename(env.path("away"), env.path("archives")).unwrap();
    env.add(&all[1..]);
    env.wait_for_processed(&all[1..]);
    env.fake.release();
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 2)]);
    assert_holds(&env.fake, &all);
}
