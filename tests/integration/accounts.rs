//! `--account-deletions`: an account deletion deletes all posts of the account, whenever and by whomever they are
//! written.

use serde_json::{Value, json};

use crate::harness::archives::{Archive, DID, Row, account_event, delete, post, uri};
use crate::harness::fake::Fake;
use crate::harness::http::{Reply, Request};
use crate::harness::model::{Documents, expected, held};
use crate::harness::script::Fault;
use crate::harness::store::{Document, Store};
use crate::harness::{DEAD_LETTERS, STATE_FILE, TestEnv, lines, posts};

const OPTION: &str = "--account-deletions";

/// The author of posts that stay.
const OTHER: &str = "did:plc:zyxwvutsrqponmlkjihgfedc";

/// An archive that holds only the deletion of the account [`DID`].
fn deletion(time: &str) -> Archive {
    Archive::new(time).with(account_event())
}

fn other_posts(prefix: &str, count: usize) -> impl Iterator<Item = Row> {
    posts(prefix, count).into_iter().map(|event| event.row().by(OTHER))
}

fn tombstone(at_uri: &str) -> Value {
    json!({"at_uri": at_uri, "author_did": DID, "deleted_at": "2025-12-18T00:00:01.234Z"})
}

/// Asserts that [`DID`] and its posts `at_uris` have tombstones of this version. Apart from those posts, the indices
/// must hold what the archives say.
#[track_caller]
fn assert_account_deleted(env: &TestEnv, archives: &[Archive], version: u64, at_uris: &[String]) {
    let (mut posts, mut tombstones) = expected(archives);
    posts.retain(|_, (_, post)| post["author_did"] != DID);
    tombstones.insert(DID.to_owned(), (version, tombstone(&format!("at://{DID}"))));
    let of_posts = at_uris.iter().map(|at_uri| (at_uri.clone(), (version, tombstone(at_uri))));
    tombstones.extend(of_posts.collect::<Documents>());
    assert_eq!(held(&env.fake, "posts"), posts);
    assert_eq!(held(&env.fake, "post_tombstones"), tombstones);
}

fn uris(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| uri(&format!("{prefix}{n}"))).collect()
}

#[test]
fn posts_that_the_filter_of_an_alias_hides_go_too() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
    let env = TestEnv::with_fake(Fake::start_with(Store::with_aliases(&["posts", "post_tombstones"])));
    env.fake.store(|store| {
        let aliases = &mut store.index("posts").expect("an index").aliases;
        aliases.insert("posts".to_owned(), json!({"filter": {"term": {"content": "none has this text"}}}));
    });
    env.add(&archives[..1]);
    env.run(&[]).exits(0);
    env.add(&archives[1..]);
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
}

#[test]
fn primaries_are_searched_where_replicas_may_lag_behind_a_refresh() {
    let elasticsearch = None;
    // OpenSearch 3.5.0.
    let opensearch = Some("137267827");
    for version in [elasticsearch, opensearch] {
        let env = TestEnv::with_archives(&[deletion("20251218_000500")]);
        env.fake.store(|store| {
            let settings = store.indices.values_mut().map(|index| &mut index.settings);
            settings.zip(std::iter::repeat(version)).for_each(|(settings, version)| {
                settings
                    .extend(version.map(|version| ("index.version.created".to_owned(), version.to_owned())));
            });
        });
        env.run(&[OPTION]).exits(0);
        let searches = env.fake.requests().into_iter().filter(|record| record.request.is_search());
        let preferences: Vec<_> =
            searches.map(|record| record.request.param("preference").map(str::to_owned)).collect();
        assert_eq!(preferences, [version.map(|_| "_primary".to_owned())]);
    }
}

#[test]
fn any_copy_is_searched_where_the_server_does_not_know_the_preference_for_primaries() {
    // OpenSearch 2.4.0.
    const VERSION: &str = "136257827";
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[..1]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        for index in store.indices.values_mut() {
            index.settings.insert("index.version.created".into(), VERSION.into());
        }
    });
    env.fake.fail(|request| request.param("preference").is_some(), 0, usize::MAX, Fault::status(400));
    env.add(&archives[1..]);
    env.run(&[OPTION]).exits(0);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
}

#[test]
fn an_index_that_leaves_the_alias_during_an_account_deletion_ends_no_run() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
    let env = TestEnv::with_fake(Fake::start_with(Store::with_aliases(&["posts", "post_tombstones"])));
    env.add(&archives[..1]);
    env.run(&[]).exits(0);
    // The filter hides posts, so the indices are searched by their own names.
    env.fake.store(|store| {
        store.add_index("posts_v0", "posts", false);
        for (index, is_write_index) in [("posts_v0", false), ("posts_v1", true)] {
            let alias = json!({"is_write_index": is_write_index, "filter": {"term": {"content": "none"}}});
            store.indices.get_mut(index).unwrap().aliases.insert("posts".to_owned(), alias);
        }
    });
    env.add(&archives[1..]);
    let is_refresh = |request: &Request| request.path.ends_with("/_refresh");
    env.fake.fail(is_refresh, 0, 1, Fault::Hang);
    let running = env.ingest().args(&[OPTION]).start();
    env.fake.wait_for(move |record| is_refresh(&record.request), 1);
    env.fake.store(|store| store.indices.remove("posts_v0"));
    env.fake.release();
    running.wait().exits(0);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
}

#[test]
fn an_account_deletion_deletes_its_posts_and_no_others() {
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 25)).with_all(other_posts("q", 3)),
        deletion("20251218_000500"),
    ];
    let env = TestEnv::with_archives(&archives[..1]);
    env.run(&[]).exits(0);
    env.add(&archives[1..]);
    env.fake.forget_requests();
    let run = env.run(&[OPTION, "--batch-docs", "10"]).exits(0);
    run.counts(&[("rows.deleted", 1), ("rows.skipped", 0), ("archives.processed", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 25));
    run.check(env.fake.bulks().iter().all(|bulk| bulk.items.len() <= 10), "the limits of requests are kept");

    // A second load, in another order, changes nothing.
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    env.fake.store(|store| store.forget_deletes = true);
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 25));
}

#[test]
fn a_deletion_without_a_time_has_the_time_of_its_archive() {
    let rows = [delete("gone"), account_event()].map(Row::without_time);
    let env = TestEnv::with_archives(&[Archive::new("20251218_000500").with_all(rows)]);
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 2)]);
    for id in [&uri("gone"), DID] {
        let (_, tombstone) = &held(&env.fake, "post_tombstones")[id];
        assert_eq!(tombstone["deleted_at"], "2025-12-18T00:05:00.000Z", "{id}");
    }
}

#[test]
fn account_events_are_skipped_without_the_option() {
    let archives = [deletion("20251218_000000").with_all(posts("p", 2))];
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0).counts(&[("reasons.skipped.account_event", 1), ("rows.indexed", 2)]);
    let requests = env.fake.requests();
    assert!(!requests.iter().any(|record| record.request.is_search()));
    let look_ups = requests.iter().filter(|record| record.request.is_mget());
    assert!(look_ups.clone().count() > 0);
    for record in look_ups {
        assert_eq!(record.request.json()["docs"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn later_posts_of_a_deleted_account_are_suppressed() {
    let account = deletion("20251218_000500");
    let env = TestEnv::with_archives(std::slice::from_ref(&account));
    env.ingest().var("ACCOUNT_DELETIONS", "true").run().exits(0).counts(&[("rows.deleted", 1)]);
    env.fake.store(|store| store.forget_deletes = true);
    let archives = [
        Archive::new("20251218_000000").with_all(posts("p", 2)).with_all(other_posts("q", 2)),
        account,
        Archive::new("20251218_001000").with_all(posts("r", 2)),
    ];
    env.add(&archives);
    let run = env.run(&[OPTION]).exits(0);
    run.counts(&[("rows.suppressed", 4), ("rows.indexed", 2), ("rows.deleted", 0)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &[]);
}

#[test]
fn a_post_in_flight_in_another_process_is_deleted_too() {
    let archives = [Archive::new("20251218_000000").with(post("late", "late")), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[..1]);
    env.fake.store(|store| store.forget_deletes = true);
    env.fake.fail_bulks(1, Fault::Hang);
    let writing = env.ingest().args(&[OPTION]).start();
    env.fake.wait_for_bulks(1);

    let folder = env.path("others");
    std::fs::create_dir(&folder).unwrap();
    archives[1].write(&folder);
    let other = env.ingest().args(&[OPTION, "others"]).var("SPOOL_STATE_FILE", "other.json");
    let other = other.var("DEAD_LETTER_FILE", "other.ndjson").var("SUMMARY_JSON", "other_summary.json");
    other.run().exits(0).counts(&[("rows.deleted", 1)]);

    env.fake.release();
    writing.wait().exits(0).counts(&[("rows.suppressed", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &[]);
}

#[test]
fn the_next_run_deletes_posts_left_by_a_killed_run() {
    let archives = [Archive::new("20251218_000000").with(post("p", "left")), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[1..]);
    env.run(&[OPTION]).exits(0);
    // A run without the option leaves the same state as one killed between its writes and its last search.
    env.add(&archives[..1]);
    env.run(&[]).exits(0).counts(&[("rows.indexed", 1)]);
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    std::fs::remove_file(env.path("archives").join(archives[1].name())).unwrap();
    env.run(&[OPTION]).exits(0).counts(&[("rows.suppressed", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &[]);
}

#[test]
fn an_account_larger_than_one_page_of_hits_is_cleared() {
    let archive = deletion("20251218_000500");
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.fake.store(|store| {
        let index = store.index("posts").unwrap();
        for at_uri in uris("p", 2300) {
            let source = json!({"at_uri": at_uri, "author_did": DID});
            index.documents.insert(at_uri, Document::new(1, source));
        }
    });
    env.run(&[OPTION, "--batch-docs", "500"]).exits(0).counts(&[("rows.deleted", 1)]);
    let version = archive.version(1);
    assert_account_deleted(&env, &[archive], version, &uris("p", 2300));
}

#[test]
fn the_last_account_deletion_of_an_archive_wins() {
    let archive = deletion("20251218_000000").with(account_event().by(OTHER)).with(account_event());
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 2), ("rows.superseded", 1)]);
    let tombstones = held(&env.fake, "post_tombstones");
    let versions: Vec<_> = tombstones.iter().map(|(id, (version, _))| (id.as_str(), *version)).collect();
    assert_eq!(versions, [(DID, archive.version(3)), (OTHER, archive.version(2))]);
}

#[test]
fn a_superseded_account_deletion_still_deletes_posts() {
    let archives = [deletion("20251218_000000"), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[1..]);
    env.run(&[OPTION]).exits(0);
    env.add(&archives[..1]);
    env.fake.forget_requests();
    env.run(&[OPTION]).exits(0).counts(&[("rows.superseded", 1), ("rows.deleted", 0)]);
    assert!(env.fake.requests().iter().any(|record| record.request.is_search()));
    assert_account_deleted(&env, &archives, archives[1].version(1), &[]);
}

#[test]
fn failed_refreshes_and_searches_are_retried() {
    let told = |answer: Value| Fault::Reply(Reply::json(200, &answer));
    for fault in [
        Fault::status(429),
        Fault::status(503),
        Fault::CloseAfter,
        Fault::CutReply,
        told(json!({"_shards": {"failed": 1}})),
        told(json!({"timed_out": true, "_shards": {"failed": 1}, "hits": {"total": {"value": 0}}})),
    ] {
        let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
        let env = TestEnv::with_archives(&archives[..1]);
        env.run(&[]).exits(0);
        env.add(&archives[1..]);
        env.fake.fail(|request| request.path.ends_with("/_refresh"), 0, 2, fault.clone());
        env.fake.fail(Request::is_search, 0, 2, fault);
        env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
        assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
    }
}

#[test]
fn the_next_run_completes_an_interrupted_account_deletion() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[..1]);
    env.run(&[]).exits(0);
    env.add(&archives[1..]);
    env.fake.fail(Request::is_search, 0, usize::MAX, Fault::status(503));
    let running = env.ingest().args(&[OPTION]).start();
    env.fake.wait_for(|record| record.request.is_search(), 2);
    running.signal("TERM");
    running.wait().exits(143).counts(&[("rows.unconfirmed", 1), ("archives.pending", 1)]);
    assert_eq!(env.status_of(&archives[1]), "pending");
    env.fake.release();
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
}

#[test]
fn an_incomplete_account_deletion_becomes_a_replayable_dead_letter() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3)), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives[..1]);
    env.run(&[]).exits(0);
    env.add(&archives[1..]);
    let is_of_p1 = |item: &crate::harness::store::Item| item.id == uri("p1") && item.index != "posts";
    env.fake.fail_items(is_of_p1, usize::MAX, 400, "document_parsing_exception");
    env.run(&[OPTION]).exits(3).counts(&[("reasons.rejected.document_parsing_exception", 1)]);
    let letters = env.dead_letters();
    assert_eq!((letters.len(), &letters[0]["at_uri"], &letters[0]["row_id"]), (1, &json!(DID), &json!(1)));
    assert!(letters[0]["reason"].as_str().unwrap().contains(&uri("p1")), "{}", letters[0]);
    assert_eq!(held(&env.fake, "posts").len(), 1);

    env.fake.release();
    let replay = |option: &[&str]| {
        env.ingest().without("LOCAL_SQLITE_DB_PATH").args(&["--replay", DEAD_LETTERS]).args(option).run()
    };
    replay(&[]).exits(3).counts(&[("reasons.rejected.not_replayable", 1)]);
    replay(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &uris("p", 3));
}

#[test]
fn a_replayed_post_of_a_deleted_account_is_suppressed() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 1)), deletion("20251218_000500")];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail_items(|item| item.id == uri("p0"), 1, 400, "document_parsing_exception");
    env.run(&[]).exits(3).counts(&[("rows.rejected", 1), ("rows.skipped", 1)]);
    std::fs::remove_file(env.path(STATE_FILE)).unwrap();
    std::fs::remove_file(env.path("archives").join(archives[0].name())).unwrap();
    env.run(&[OPTION]).exits(0).counts(&[("rows.deleted", 1)]);
    let replay = env.ingest().without("LOCAL_SQLITE_DB_PATH").args(&["--replay", DEAD_LETTERS, OPTION]);
    replay.run().exits(0).counts(&[("rows.suppressed", 1)]);
    assert_account_deleted(&env, &archives, archives[1].version(1), &[]);
}

#[test]
fn reappearing_posts_do_not_keep_the_run_for_ever() {
    let env = TestEnv::with_archives(&[deletion("20251218_000000")]);
    let found = json!({"timed_out": false, "_shards": {"failed": 0},
        "hits": {"total": {"value": 1}, "hits": [{"_id": uri("undying")}]}});
    env.fake.fail(Request::is_search, 0, usize::MAX, Fault::Reply(Reply::json(200, &found)));
    env.run(&[OPTION]).exits(3).counts(&[("reasons.rejected.posts_remain", 1)]);
}

#[test]
fn a_dry_run_writes_the_account_tombstone() {
    let archive = deletion("20251218_000000").with_all(posts("p", 1));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let run = env.run(&["--dry-run", "--output", "-", OPTION]).exits(0);
    run.counts(&[("rows.deleted", 1), ("rows.indexed", 1)]);
    let written = lines(&run.stdout);
    assert_eq!(written.len(), 4);
    assert_eq!(written[2]["index"]["_id"], DID);
    assert_eq!(written[3]["at_uri"], format!("at://{DID}"));
}

#[test]
fn an_unsuitable_mapping_or_key_is_refused_only_with_the_option() {
    let archives = [deletion("20251218_000000").with_all(posts("p", 1))];
    let without_refresh = TestEnv::with_archives(&archives);
    without_refresh.fake.deny("maintenance");
    let with_text = TestEnv::with_archives(&archives);
    with_text.fake.store(|store| {
        store.index("posts").unwrap().mapping["properties"]["author_did"] = json!({"type": "text"});
    });
    for (env, what) in [(without_refresh, "maintenance"), (with_text, "author_did as text")] {
        for arguments in [&[OPTION][..], &["--check", OPTION]] {
            env.run(arguments).exits(5).says(what);
            assert!(env.fake.bulks().is_empty());
        }
        env.run(&[]).exits(0).counts(&[("rows.indexed", 1)]);
    }
}
