//! Archives in, documents out: what becomes of each row, and what the indices hold.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::archives::{
    Archive, DID, account_event, delete, post, unreadable, update, uri, without_uri,
};
use crate::harness::fake::Fake;
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::{Base64Vectors, Item, Store};
use crate::harness::vectors::vector;
use crate::harness::{Run, TestEnv, posts};

/// All actions sent so far, in order of arrival.
fn sent(fake: &Fake) -> Vec<Item> {
    fake.bulks().into_iter().flat_map(|record| record.items).collect()
}

fn archive_of_every_kind_of_post() -> Archive {
    Archive::new("20251218_000000")
        .with(post("plain", "Hello \u{1f331} \"world\" \\ \n\u{0} \u{2028}é"))
        .with(post("empty", ""))
        .with(post("vectors", "two").vector("L6", &vector(1)).vector("L12", &vector(2)))
        .with(post("not-half", "an f32 that no f16 holds").vector("L6", &[0.1; 384]))
        .with(post("one-vector", "one").vector("L6", &vector(3)).bad_vector("L12", "not base85 é"))
        .with(post("no-vector", "none").bad_vector("L6", ""))
        .with(post("reply", "a reply").hydrated("root", &uri("root")).hydrated("parent", &uri("parent")))
        .with(post("quote", "a quote").hydrated("quote", &uri("quoted")))
        .with(post("recorded", "links").recorded("root", &uri("r")).recorded("parent", &uri("p")))
        .with(post("recorded-quote", "a quote").recorded("quote", &uri("q")))
        .with(
            post("offset", "a time zone")
                .created_at(json!("2025-12-18T09:00:00.5+09:00"), Some("2025-12-18T00:00:00.500Z")),
        )
        .with(
            post("precise", "microseconds")
                .created_at(json!("2025-12-18T00:00:00.123456Z"), Some("2025-12-18T00:00:00.123Z")),
        )
        .with(post("no-time", "yesterday").created_at(json!("yesterday"), None))
        .with(post("surrogate", "").raw_text(r#""lone \ud83d here""#, "lone \u{fffd} here"))
        .with(update("updated", "an update of a post from elsewhere"))
}

#[test]
fn documents_hold_what_the_rows_say() {
    let archives = [archive_of_every_kind_of_post()];
    let env = TestEnv::with_archives(&archives);
    let run = env.run(&[]).exits(0);
    assert_holds(&env.fake, &archives);
    run.counts(&[("rows.read", 15), ("rows.indexed", 15), ("archives.processed", 1)]);
    run.counts(&[("reasons.dropped_fields.created_at", 1), ("reasons.dropped_fields.embedding", 2)]);
    run.check(run.stdout.is_empty(), "standard output is empty unless requested");
}

#[test]
fn vectors_of_a_wrong_length_or_not_finite_are_dropped_and_counted() {
    let encoded = crate::harness::vectors::encode;
    let (mut infinite, mut not_a_number) = (vector(1), vector(1));
    infinite[100] = f32::INFINITY;
    not_a_number[383] = f32::NAN;
    let bad = [&vector(1)[..383], &infinite, &not_a_number, &[]].map(encoded);
    let rows = bad.iter().enumerate().map(|(n, bad)| {
        post(&format!("p{n}"), "kept").bad_vector("L6", bad).vector("L12", &vector(n as u32))
    });
    let archives = [Archive::new("20251218_000000").with_all(rows)];
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0).counts(&[("rows.indexed", 4), ("reasons.dropped_fields.embedding", 4)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn base64_vectors_keep_every_bit() {
    let archives = [archive_of_every_kind_of_post()];
    let env = TestEnv::with_archives(&archives);
    env.fake.store(|store| store.base64 = Base64Vectors::BigEndian);
    env.run(&["--vector-encoding", "base64"]).exits(0);
    assert_holds(&env.fake, &archives);
    let sent = sent(&env.fake);
    let one = sent.iter().find(|item| item.id == uri("vectors")).unwrap();
    assert!(one.source["embeddings"]["all_MiniLM_L6_v2"].is_string(), "{}", one.source);
}

#[test]
fn an_older_table_name_and_a_bare_database_are_read() {
    let older = Archive::new("20250101_000000").table("posts").with_all(posts("old", 3));
    let bare = Archive::new("20250102_000000").with_all(posts("bare", 2));
    let env = TestEnv::with_archives(std::slice::from_ref(&older));
    env.write(&format!("archives/{}", bare.name()), bare.database());
    env.run(&[]).exits(0).counts(&[("archives.processed", 2), ("rows.indexed", 5)]);
    assert_holds(&env.fake, &[older, bare]);
}

#[test]
fn only_the_last_event_of_a_post_per_archive_is_sent() {
    let archive = Archive::new("20251218_000000")
        .with(post("a", "first"))
        .with(post("b", "only"))
        .with(update("a", "second"))
        .with(post("a", "third"));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.run(&["--batch-docs", "1"]).exits(0).counts(&[("rows.indexed", 2), ("rows.superseded", 2)]);
    let sent: Vec<(String, Option<u64>)> =
        sent(&env.fake).into_iter().map(|item| (item.id, item.version)).collect();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent.contains(&(uri("a"), Some(archive.version(4)))), "{sent:?}");
    assert!(sent.contains(&(uri("b"), Some(archive.version(2)))), "{sent:?}");
}

#[test]
fn a_delete_beats_every_later_event() {
    let archives = [Archive::new("20251218_000000")
        .with(post("a", "first"))
        .with(delete("a"))
        .with(post("a", "emitted anew"))
        .with(delete("b"))];
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0).counts(&[("rows.deleted", 2), ("rows.superseded", 2), ("rows.indexed", 0)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn an_older_archive_does_not_overwrite_a_newer_one() {
    let newer = Archive::new("20251219_000000").with(post("a", "new"));
    let older = Archive::new("20251218_000000").with(post("a", "old")).with(post("b", "only here"));
    let env = TestEnv::with_archives(std::slice::from_ref(&newer));
    env.run(&[]).exits(0);
    env.add(std::slice::from_ref(&older));
    env.run(&[]).exits(0).counts(&[("rows.superseded", 1), ("rows.indexed", 1)]);
    assert_holds(&env.fake, &[newer, older]);
}

#[test]
fn a_post_with_a_tombstone_is_looked_up_and_suppressed() {
    let first = Archive::new("20251218_000000").with(delete("a"));
    let later = Archive::new("20251219_000000").with(post("a", "emitted anew")).with(post("b", "new"));
    let env = TestEnv::with_archives(std::slice::from_ref(&first));
    env.fake.store(|store| store.forget_deletes = true);
    env.run(&[]).exits(0).counts(&[("rows.deleted", 1)]);
    env.fake.forget_requests();
    env.add(std::slice::from_ref(&later));
    env.run(&[]).exits(0).counts(&[("rows.suppressed", 1), ("rows.indexed", 1)]);
    assert_holds(&env.fake, &[first, later]);
    let to_a: Vec<_> = sent(&env.fake).into_iter().filter(|item| item.id == uri("a")).collect();
    assert!(to_a.iter().all(|item| item.operation == "delete"), "the post is not sent");
    assert_eq!(to_a.len(), 1, "a copy left by an interrupted run is deleted");
    let requests = env.fake.requests();
    let look_up = requests.iter().find(|record| record.request.is_mget()).unwrap();
    let body = String::from_utf8_lossy(&look_up.request.body).into_owned() + &look_up.request.path;
    assert!(body.contains("post_tombstones") && body.contains(&uri("a")), "{body}");
    assert_eq!(look_up.request.param("_source"), Some("false"), "only ids are requested");
}

#[test]
fn a_post_is_deleted_only_after_its_tombstone_is_confirmed() {
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 40)),
        Archive::new("20251218_000500").with_all((0..40).map(|n| delete(&format!("p{n}")))),
    ];
    let env = TestEnv::with_archives(&archives);
    env.run(&["--senders", "4", "--batch-docs", "6"]).exits(0).counts(&[("rows.deleted", 40)]);
    assert_holds(&env.fake, &archives);
    let bulks = env.fake.bulks();
    let confirmed = |id: &str| {
        let with_tombstone = bulks.iter().filter(|record| {
            record.items.iter().any(|i| i.index == "post_tombstones" && i.id == id && i.is_confirmed())
        });
        with_tombstone.filter_map(|record| record.answered).map(|moment| moment.order).min()
    };
    let deletes = bulks.iter().flat_map(|record| {
        record.items.iter().filter(|item| item.operation == "delete").map(move |item| (record, item))
    });
    let mut deleted = BTreeSet::new();
    for (record, item) in deletes {
        deleted.insert(item.id.clone());
        assert_eq!(item.index, "posts");
        assert!(confirmed(&item.id).is_some_and(|order| order < record.arrived.order), "{}", item.id);
    }
    assert_eq!(deleted.len(), 40);
}

#[test]
fn versions_order_by_archive_time_and_row_with_deletes_above_posts() {
    let archive = Archive::new("20251218_000000").with(post("a", "a post")).with(delete("b"));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.run(&[]).exits(0);
    let mut sent: Vec<_> = sent(&env.fake)
        .into_iter()
        .map(|item| (item.operation, item.index, item.id, item.version, item.version_type))
        .collect();
    sent.sort();
    let action = |operation: &str, index: &str, name: &str, version| {
        (operation.to_owned(), index.to_owned(), uri(name), Some(version), "external_gte".to_owned())
    };
    let expected = [
        action("delete", "posts", "b", 1 << 62 | archive.version(2)),
        action("index", "post_tombstones", "b", archive.version(2)),
        action("index", "posts", "a", archive.version(1)),
    ];
    assert_eq!(sent, expected);
}

fn run_with_odd_rows(env: &TestEnv) -> Run {
    let no_commit = json!({"message": {"did": DID, "kind": "commit"}}).to_string();
    let no_record = json!({"message": {"kind": "commit", "commit": {"operation": "create"}}}).to_string();
    let archives = [Archive::new("20251218_000000")
        .with(account_event())
        .with(without_uri())
        .with(unreadable("null", None))
        .with(unreadable("broken", Some(r#"{"message": {"did": "#)))
        .with(unreadable("no-commit", Some(&no_commit)))
        .with(unreadable("no-record", Some(&no_record)))
        .with(unreadable("deep", Some(&"[".repeat(20_000))))
        .with_all(posts("good", 3))];
    env.add(&archives);
    let run = env.run(&[]).exits(3);
    assert_holds(&env.fake, &archives);
    assert_eq!(env.status_of(&archives[0]), "processed");
    run
}

#[test]
fn odd_rows_are_counted_by_reason_and_harm_no_other_row() {
    let env = TestEnv::new();
    let run = run_with_odd_rows(&env);
    run.counts(&[("rows.read", 10), ("rows.indexed", 3), ("rows.skipped", 2), ("rows.rejected", 5)]);
    run.counts(&[("reasons.skipped.account_event", 1), ("archives.processed", 1)]);
    run.check(run.count("reasons.rejected.invalid_json") >= 1, "broken JSON is counted as such");
    run.check(run.reasons("skipped").len() == 2, "each kind of skipped row has its own reason");
    run.check(run.reasons("rejected").len() >= 3, "kinds of rejected rows have their own reasons");
}

#[test]
fn rejected_rows_become_dead_letters() {
    let env = TestEnv::new();
    run_with_odd_rows(&env);
    let letters = env.dead_letters();
    let mut rows: Vec<u64> = letters.iter().filter_map(|letter| letter["row_id"].as_u64()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [3, 4, 5, 6, 7]);
    for letter in &letters {
        assert_eq!(letter["archive"], "mega_jetstream_20251218_000000.db.zip", "{letter}");
        assert_eq!(letter["stage"], "decode", "{letter}");
        for field in ["at_uri", "error_type", "reason"] {
            assert!(letter[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {letter}");
        }
    }
    let broken = letters.iter().find(|letter| letter["row_id"] == 4).unwrap();
    assert_eq!((&broken["at_uri"], &broken["error_type"]), (&json!(uri("broken")), &json!("invalid_json")));
}

#[test]
fn each_archive_belongs_to_exactly_one_shard() {
    let archives: Vec<Archive> = (0..8)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("s{n}-"), 2)))
        .collect();
    let env = TestEnv::with_archives(&archives);
    let mut processed = 0;
    for (shard, state) in [("0/3", "zero.json"), ("1/3", "one.json"), ("2/3", "two.json")] {
        let run = env.ingest().args(&["--shard", shard]).var("SPOOL_STATE_FILE", state).run().exits(0);
        processed += run.count("archives.processed");
    }
    assert_eq!(processed, 8);
    assert_holds(&env.fake, &archives);
}

#[test]
fn an_index_deleted_behind_its_alias_is_not_recreated() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 3))]);
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| store.indices.remove("posts_v1"));
    env.fake.release();
    running.wait().exits(5).says("create it").counts(&[("archives.processed", 0), ("archives.pending", 1)]);
    env.fake.store(|store| assert!(!store.indices.contains_key("posts"), "no index was created"));
}

#[test]
fn an_index_without_an_alias_is_written_to() {
    let env = TestEnv::with_fake(Fake::start_with(Store::with_indices(&["posts", "post_tombstones"])));
    let first = Archive::new("20251218_000000").with_all(posts("p", 3)).with(delete("never"));
    let later = Archive::new("20251219_000000").with(delete("p1"));
    let archives = [first, later];
    env.add(&archives[..1]);
    env.run(&[]).exits(0).counts(&[("rows.indexed", 3), ("rows.deleted", 1)]);
    env.add(&archives[1..]);
    env.run(&[]).exits(0).counts(&[("rows.deleted", 1)]);
    assert_holds(&env.fake, &archives);
    let deletes = sent(&env.fake).into_iter().filter(|item| item.operation == "delete");
    let deletes: Vec<_> = deletes.map(|item| (item.id, item.version, item.if_seq_no.is_some())).collect();
    assert_eq!(
        deletes,
        [(uri("p1"), None, true)],
        "a delete with an external version would create a missing index"
    );
}

#[test]
fn deletes_go_to_every_index_behind_an_alias() {
    let old = Archive::new("20251218_000000").with_all(posts("old", 3));
    let env = TestEnv::with_archives(std::slice::from_ref(&old));
    env.run(&[]).exits(0).counts(&[("rows.indexed", 3)]);
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    let deletes = ["old1", "new0"].map(delete);
    env.add(&[Archive::new("20251219_000000").with_all(posts("new", 2))]);
    env.add(&[Archive::new("20251220_000000").with_all(deletes)]);
    env.run(&["--batch-docs", "2"]).exits(0).says("2 indices").counts(&[("rows.deleted", 2)]);
    // Deletes from two indices must not exceed the limit of actions per request.
    let sizes: Vec<usize> = env.fake.bulks().iter().map(|record| record.items.len()).skip(1).collect();
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    let ids = |index: &str| env.fake.documents(index).into_keys().collect::<Vec<_>>();
    assert_eq!(ids("posts_v1"), [uri("old0"), uri("old2")]);
    assert_eq!(ids("posts_v2"), [uri("new1")]);
}
