//! Many events, faults and processes: the indices end up the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::archives::{Archive, Row, delete, post, update, uri};
use crate::harness::client::exchange;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::Item;
use crate::harness::vectors::vector;
use crate::harness::{Running, TestEnv};

/// Archives in which posts are created, updated, deleted and created again.
fn archives_with_a_history() -> Vec<Archive> {
    let times =
        ["20251218_000000", "20251218_000500", "20251218_001000", "20251219_000000", "20260101_000000"];
    let rows = |archive: usize| {
        (0..60_usize).flat_map(move |number| {
            let name = format!("p{number}");
            let text = format!("text {number} of archive {archive}");
            // This mixture contains every order of create, update and delete.
            let first: Option<Row> = match (number * 7 + archive * 3) % 11 {
                0 if archive > 0 => Some(delete(&name)),
                1 | 2 => Some(update(&name, &text).into()),
                3 => None,
                _ => Some(post(&name, &text).vector("L6", &vector((number + archive) as u32)).into()),
            };
            let again = (number % 13 == archive).then(|| post(&name, "once more").row());
            first.into_iter().chain(again)
        })
    };
    times.into_iter().enumerate().map(|(n, time)| Archive::new(time).with_all(rows(n))).collect()
}

#[test]
fn the_result_does_not_depend_on_the_number_of_workers_and_senders() {
    let archives = archives_with_a_history();
    for (workers, senders) in [("1", "1"), ("4", "8"), ("2", "3")] {
        let env = TestEnv::with_archives(&archives);
        env.run(&["--workers", workers, "--senders", senders, "--batch-docs", "7"]).exits(0);
        assert_holds(&env.fake, &archives);
        assert!(env.fake.peak_open_bulks() <= senders.parse().unwrap());
    }
}

#[test]
fn the_result_does_not_depend_on_the_order_of_archives() {
    let archives = archives_with_a_history();
    let env = TestEnv::new();
    // Deletes are forgotten at once, as if each archive came hours after the one before.
    env.fake.store(|store| store.forget_deletes = true);
    for n in [3, 1, 4, 0, 2] {
        env.add(&archives[n..=n]);
        env.run(&[]).exits(0).counts(&[("archives.processed", 1)]);
    }
    assert_holds(&env.fake, &archives);
}

#[test]
fn loading_everything_again_changes_nothing() {
    let archives = archives_with_a_history();
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0);
    env.fake.store(|store| store.forget_deletes = true);
    env.ingest().var("SPOOL_STATE_FILE", "none-yet.json").run().exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn concurrent_processes_reach_the_same_result() {
    let archives = archives_with_a_history();
    let env = TestEnv::with_archives(&archives);
    let shards = [("0/3", "zero"), ("1/3", "one"), ("2/3", "two")];
    let running: Vec<Running> = shards
        .into_iter()
        .map(|(shard, name)| {
            let process = env.ingest().args(&["--shard", shard, "--batch-docs", "5"]);
            process.var("SPOOL_STATE_FILE", name).var("SUMMARY_JSON", &format!("{name}.summary")).start()
        })
        .collect();
    let processed: u64 = running.into_iter().map(|run| run.wait().exits(0).count("archives.processed")).sum();
    assert_eq!(processed, archives.len() as u64);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_mixture_of_faults_does_not_change_the_result() {
    let archives = archives_with_a_history();
    let faults = [
        Fault::status(429),
        Fault::CloseAfter,
        Fault::status(503),
        Fault::CloseHalfway,
        Fault::Garbage,
        Fault::ItemFewer,
        Fault::CloseBefore,
        Fault::CutReply,
    ];
    let env = TestEnv::with_archives(&archives);
    for (n, fault) in faults.into_iter().enumerate() {
        // Each fault hits every 23rd bulk or look-up request, each at an offset of its own.
        let seen = AtomicUsize::new(0);
        let hits = move |request: &Request| {
            (request.is_bulk() || request.is_mget()) && seen.fetch_add(1, Ordering::Relaxed) % 23 == 2 * n
        };
        env.fake.fail(hits, 0, usize::MAX, fault);
    }
    let items = AtomicUsize::new(1);
    let every_tenth = move |_: &Item| items.fetch_add(1, Ordering::Relaxed).is_multiple_of(10);
    env.fake.fail_items(every_tenth, 40, 429, "es_rejected_execution_exception");
    let run = env.run(&["--batch-docs", "9", "--senders", "3"]).exits(0);
    run.check(run.count("requests.retried") > 5, "requests were retried");
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_batch_older_than_gc_deletes_is_looked_up_again() {
    let archive =
        Archive::new("20251218_000000").with(post("gone", "deleted meanwhile")).with(post("b", "b"));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.fake.store(|store| {
        store.forget_deletes = true;
        let settings = &mut store.index("posts").unwrap().settings;
        settings.insert("index.gc_deletes".to_owned(), "1s".to_owned());
    });
    let busy = Reply::error(429, "es_rejected_execution_exception", "busy").with_header("Retry-After", "2");
    env.fake.fail_bulks(1, Fault::Reply(busy));
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    // Another process deletes the post, and Elasticsearch forgets the delete.
    let later = Archive::new("20251219_000000");
    let tombstone = json!({"index": {"_index": "post_tombstones", "_id": uri("gone"),
        "version": later.version(1), "version_type": "external_gte"}});
    let body = format!("{tombstone}\n{}\n", json!({"at_uri": uri("gone")}));
    assert_eq!(exchange(&env.fake, "POST /_bulk", body.as_bytes()).unwrap().0, 200);
    running.wait().exits(0).counts(&[("rows.suppressed", 1), ("rows.indexed", 1)]);
    let ids: Vec<String> = env.fake.documents("posts").into_keys().collect();
    assert_eq!(ids, [uri("b")]);
}

#[test]
fn credentials_stay_out_of_the_most_verbose_log() {
    let env = TestEnv::with_archives(&archives_with_a_history()[..1]);
    env.fake.fail_bulks(1, Fault::CloseAfter);
    // The harness searches the output and all files of every run for the API key.
    let run = env.ingest().var("RUST_LOG", "trace").run().exits(0);
    run.check(!run.stderr.contains("ApiKey "), "no header is logged");
}
