//! Aliases that move during a run, indices that require routing, and pipelines that drop or rename documents.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::archives::{Archive, delete, post, seconds, uri};
use crate::harness::fake::Fake;
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::run::Run;
use crate::harness::script::Fault;
use crate::harness::store::{Document, Item, Pipeline, Store};
use crate::harness::{TestEnv, in_parallel, long_or, posts};

/// Posts, then deletions of some, then new versions of all of them.
fn history() -> [Archive; 3] {
    let again = (0..10).map(|n| post(&format!("p{n}"), "emitted anew"));
    [
        Archive::new("20251218_000000").with_all(posts("p", 10)),
        Archive::new("20251219_000000")
            .with_all((0..5).map(|n| delete(&format!("p{n}"))))
            .with_all(posts("q", 5)),
        Archive::new("20251220_000000").with_all(again),
    ]
}

/// The ids in all indices behind an alias.
fn ids(fake: &Fake, alias: &str) -> BTreeSet<String> {
    fake.store(|store| {
        let members = store.members(alias);
        members
            .iter()
            .flat_map(|index| store.indices[index].documents.keys().cloned().collect::<Vec<_>>())
            .collect()
    })
}

/// Asserts that every post is in an index, a deleted one in none, and that each deletion has a tombstone.
#[track_caller]
fn assert_converged(env: &TestEnv, case: &str) {
    let deleted: BTreeSet<String> = (0..5).map(|n| uri(&format!("p{n}"))).collect();
    let alive = (5..10).map(|n| uri(&format!("p{n}"))).chain((0..5).map(|n| uri(&format!("q{n}"))));
    assert_eq!(ids(&env.fake, "posts"), alive.collect(), "{case}");
    assert_eq!(ids(&env.fake, "post_tombstones"), deleted, "{case}");
}

#[test]
fn a_rollover_during_a_run_loses_and_resurrects_no_post() {
    in_parallel([&["posts"][..], &["post_tombstones"], &["posts", "post_tombstones"]], |rolled| {
        for (before, is_async, spools) in
            [(1, false, false), (2, false, true), (1, true, true), (2, true, false)]
        {
            for hang_at in long_or(0..3, 1..2) {
                let case =
                    format!("{rolled:?} roll, {before} before, async {is_async}, spool {spools}, {hang_at}");
                assert_rollover(rolled, before, is_async, spools, hang_at, &case);
            }
        }
    });
}

fn assert_rollover(rolled: &[&str], before: u32, is_async: bool, spools: bool, hang_at: usize, case: &str) {
    let [first, rest @ ..] = history();
    let env = TestEnv::with_archives(std::slice::from_ref(&first));
    env.fake.store(|store| store.forget_deletes = true);
    env.run(&[]).exits(0);
    if before == 2 {
        env.fake.store(|store| {
            rolled.iter().for_each(|alias| store.add_index(&format!("{alias}_v2"), alias, true))
        });
    }
    if is_async {
        env.fake.use_async_translog();
    }
    env.add(&rest);
    env.fake.fail(Request::is_bulk, hang_at, 1, Fault::Hang);
    env.fake.forget_requests();
    let mode = if spools { "spool" } else { "once" };
    let running =
        env.ingest().args(&["--mode", mode, "--batch-docs", "3"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.fake.wait_for_bulks(hang_at + 1);
    env.fake
        .store(|store| rolled.iter().for_each(|alias| store.add_index(&format!("{alias}_v3"), alias, true)));
    if is_async {
        env.fake.use_async_translog();
    }
    env.fake.release();
    if spools {
        env.wait_for_processed(&rest);
        running.signal("TERM");
    }
    running.wait().exits(0);
    assert_converged(&env, case);
    for archive in &rest {
        assert_eq!(env.status_of(archive), "processed", "{case}");
    }
}

#[test]
fn a_rollover_to_an_index_that_indexes_vectors_goes_on() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3))];
    let env = TestEnv::with_archives(&archives);
    env.fake.store(|store| {
        let properties = &mut store.index("posts").unwrap().mapping["properties"];
        properties["embeddings"] = serde_json::json!({"type": "object", "enabled": false});
    });
    env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    env.fake.release();
    running.wait().exits(0).says("posts is posts_v2");
    assert_eq!(env.fake.documents("posts_v2").len(), 3);
}

#[test]
fn archives_marked_before_a_rollover_are_not_loaded_again() {
    let [first, second, third] = history();
    let env = TestEnv::with_archives(&[first]);
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&history()[..1]);
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    env.fake.forget_requests();
    env.add(&[second, third]);
    env.wait_for_processed(&history());
    running.signal("TERM");
    running.wait().exits(0);
    assert_converged(&env, "spool");
    let sent = env.fake.bulks().into_iter().flat_map(|record| record.items);
    let versions: BTreeSet<u64> = sent.filter_map(|item| item.version).collect();
    assert!(!versions.contains(&history()[0].version(1)), "the first archive is not sent again");
}

/// Takes both aliases away, as a script does that moves them in two steps. Returns a function that adds them again, with
/// a new write index if they `roll`.
fn take_aliases_away(env: &TestEnv, roll: bool) -> impl FnOnce(&TestEnv) + use<> {
    let names = ["posts", "post_tombstones"];
    let taken = env.fake.store(|store| {
        let all = names.iter().flat_map(|name| store.members(name)).collect::<Vec<_>>();
        let take =
            |index: String| (std::mem::take(&mut store.indices.get_mut(&index).unwrap().aliases), index);
        all.into_iter().map(take).collect::<Vec<_>>()
    });
    move |env| {
        env.fake.store(|store| {
            for (aliases, index) in taken {
                store.indices.get_mut(&index).unwrap().aliases = aliases;
            }
            if roll {
                names.iter().for_each(|name| store.add_index(&format!("{name}_v2"), name, true));
            }
        });
    }
}

#[test]
fn aliases_that_are_away_for_a_moment_lose_no_document_and_stop_no_run() {
    in_parallel([("once", false), ("once", true), ("spool", false), ("spool", true)], |(mode, roll)| {
        let [first, rest @ ..] = history();
        let env = TestEnv::with_archives(std::slice::from_ref(&first));
        env.fake.store(|store| store.forget_deletes = true);
        env.run(&[]).exits(0);
        env.add(&rest);
        env.fake.forget_requests();
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let options = ["--mode", mode, "--batch-docs", "3", "--senders", "2"];
        let running = env.ingest().args(&options).var("SPOOL_INTERVAL_SEC", "1").start();
        env.fake.wait_for_bulks(1);
        let add_again = take_aliases_away(&env, roll);
        env.fake.release();
        // Each sender has met the missing alias by then, and tries again.
        env.fake.wait_for_bulks(7);
        add_again(&env);
        if mode == "spool" {
            env.wait_for_processed(&rest);
            running.signal("TERM");
        }
        running.wait().exits(0);
        assert_converged(&env, mode);
        assert!(env.dead_letters().is_empty());
    });
}

/// Servers ignore `require_alias` in deletes, and create a missing index on one with an external version.
#[test]
fn a_delete_that_meets_no_alias_for_a_moment_stops_no_run_and_creates_no_index() {
    // A key that is not shown the aliases cannot create indices either.
    for is_hidden in [false, true] {
        assert_delete_waits(is_hidden);
    }
}

fn assert_delete_waits(is_hidden: bool) {
    let [first, second, _] = history();
    let env = TestEnv::with_archives(&[first]);
    env.run(&[]).exits(0);
    env.add(&[second]);
    env.fake.store(|store| store.refuses_to_create = is_hidden);
    env.fake.forget_requests();
    if is_hidden {
        let shows = |request: &Request| request.method == "GET" && !request.path.starts_with("/_");
        env.fake.fail(shows, 0, usize::MAX, Fault::status(403));
    }
    let is_delete =
        |request: &Request| request.is_bulk() && request.body.starts_with(br#"{"delete""#.as_slice());
    env.fake.fail(is_delete, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--senders", "1"]).start();
    env.fake.wait_for(move |record| is_delete(&record.request), 1);
    let add_again = take_aliases_away(&env, false);
    env.fake.release();
    env.fake.wait_for(move |record| is_delete(&record.request), 3);
    assert!(env.fake.store(|store| store.members("posts").is_empty()), "an index was created");
    add_again(&env);
    running.wait().exits(0);
    assert_converged(&env, "deletes");
    assert!(env.dead_letters().is_empty());
}

#[test]
fn an_alias_without_a_write_index_stops_the_run() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3))];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", false);
        store.index("posts").unwrap();
        for index in ["posts_v1", "posts_v2"] {
            store.indices.get_mut(index).unwrap().aliases.insert("posts".into(), serde_json::json!({}));
        }
    });
    env.fake.release();
    running.wait().exits(5).says("write index");
    assert!(env.dead_letters().is_empty());
}

fn require_routing(store: &mut Store, index: &str) {
    store.indices.get_mut(index).unwrap().mapping["_routing"] = serde_json::json!({"required": true});
}

#[test]
fn an_index_that_requires_routing_gets_the_author() {
    let archives = history();
    for required in [&["posts_v1", "post_tombstones_v1"][..], &["posts_v1"], &["post_tombstones_v1"]] {
        let env = TestEnv::with_archives(&archives);
        env.fake.store(|store| required.iter().for_each(|index| require_routing(store, index)));
        env.run(&["--check"]).exits(0);
        env.run(&["--workers", "1"]).exits(0);
        assert_holds(&env.fake, &archives);
        let did = uri("x").split('/').nth(2).unwrap().to_owned();
        for item in env.fake.bulks().into_iter().flat_map(|record| record.items) {
            let is_required = required.contains(&&*format!("{}_v1", item.index));
            assert_eq!(item.routing, is_required.then(|| did.clone()), "{item:?}");
        }
    }
}

#[test]
fn an_index_that_requires_routing_after_a_rollover_gets_it() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 6))];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--batch-docs", "2"]).start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", true);
        require_routing(store, "posts_v2");
    });
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(ids(&env.fake, "posts").len(), 6);
    assert!(env.dead_letters().is_empty());
}

/// A document sent with the routing of the old index may be in a shard of the new one where no delete finds it.
#[test]
fn a_rollover_to_an_index_that_needs_no_routing_leaves_no_copy_in_another_shard() {
    for is_member_before in [false, true] {
        let archives = [Archive::new("20251218_000000").with_all(posts("p", 6)).with(delete("d"))];
        let env = TestEnv::with_archives(&archives);
        let roll = |is_write_index| {
            env.fake.store(|store| {
                for alias in ["posts", "post_tombstones"] {
                    store.add_index(&format!("{alias}_v2"), alias, is_write_index);
                }
            });
        };
        env.fake.store(|store| ["posts_v1", "post_tombstones_v1"].map(|index| require_routing(store, index)));
        if is_member_before {
            roll(false);
        }
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let running = env.ingest().args(&["--batch-docs", "2", "--senders", "1"]).start();
        env.fake.wait_for_bulks(1);
        roll(true);
        env.fake.release();
        running.wait().exits(0);
        for (index, documents) in [("posts_v2", 6), ("post_tombstones_v2", 1)] {
            env.fake.store(|store| {
                assert_eq!(store.indices[index].documents.len(), documents, "{index} {is_member_before}");
                assert!(store.indices[index].misrouted.is_empty(), "{index} {is_member_before}");
            });
        }
        assert!(env.dead_letters().is_empty());
    }
}

/// A pipeline is to blame only if the alias has not moved since the request was sent.
#[test]
fn documents_that_two_rollovers_overtake_are_sent_again() {
    for (is_routed, drops_second) in [(true, false), (false, true)] {
        let archives = [Archive::new("20251218_000000").with_all(posts("p", 2)).with(delete("d"))];
        let env = TestEnv::with_archives(&archives);
        let aliases = ["posts", "post_tombstones"];
        let roll = |version: u32, is_routed: bool| {
            env.fake.store(|store| {
                for alias in aliases {
                    let index = format!("{alias}_v{version}");
                    store.add_index(&index, alias, true);
                    if is_routed {
                        require_routing(store, &index);
                    }
                }
            });
        };
        env.fake.store(|store| {
            aliases.map(|alias| is_routed.then(|| require_routing(store, &format!("{alias}_v1"))))
        });
        let is_look = |request: &Request| request.path == "/posts";
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let running = env.ingest().args(&["--senders", "1"]).start();
        env.fake.wait_for_bulks(1);
        roll(2, false);
        env.fake.forget_requests();
        env.fake.fail(is_look, 0, 1, Fault::Hang);
        env.fake.release_hanging();
        env.fake.wait_for(|record| is_look(&record.request), 1);
        roll(3, is_routed);
        if drops_second {
            env.fake.store(|store| aliases.map(|alias| store.indices.remove(&format!("{alias}_v2"))));
        }
        env.fake.release();
        running.wait().exits(0);
        assert_eq!((ids(&env.fake, "posts").len(), ids(&env.fake, "post_tombstones").len()), (2, 1));
        assert!(env.dead_letters().is_empty());
    }
}

#[test]
fn older_indices_with_routing_or_a_write_block_are_searched_and_named() {
    let [first, second, third] = history();
    let env = TestEnv::with_archives(&[first]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        require_routing(store, "posts_v1");
        store.add_index("posts_v2", "posts", true);
    });
    env.add(&[second, third]);
    env.run(&[]).exits(0);
    assert_converged(&env, "routing");

    let [first, second, third] = history();
    let env = TestEnv::with_archives(&[first]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        let old = store.indices.get_mut("posts_v1").unwrap();
        old.settings.insert("index.blocks.write".into(), "true".into());
        store.add_index("posts_v2", "posts", true);
    });
    env.add(&[second.with(delete("nowhere")), third]);
    let run = env.run(&[]).exits(3).says("posts_v1");
    // Five deletions concern posts of the blocked index, which cannot be deleted or written again; the sixth does not.
    run.check(run.reasons("rejected") == ["index_takes_no_writes"], "the reason is named");
    assert_eq!(run.count("rows.deleted"), 1);
}

#[test]
fn a_post_in_a_searchable_snapshot_is_not_waited_for() {
    // The index becomes a snapshot before the run, or while it deletes.
    for is_seen in [true, false] {
        let [first, second, _] = history();
        let env = TestEnv::with_archives(&[first]);
        env.run(&[]).exits(0);
        env.fake.store(|store| store.add_index("posts_v2", "posts", true));
        env.add(&[second]);
        env.fake.forget_requests();
        let becomes_snapshot = || {
            env.fake.store(|store| {
                let old = store.indices.get_mut("posts_v1").unwrap();
                old.settings.insert("index.store.type".into(), "remote_snapshot".into());
            });
        };
        let run = if is_seen {
            becomes_snapshot();
            env.run(&[]).exits(3).says("posts_v1, an older index behind posts")
        } else {
            env.fake.fail_bulks(1, Fault::Hang);
            let running = env.ingest().start();
            env.fake.wait_for_bulks(1);
            becomes_snapshot();
            env.fake.release();
            running.wait().exits(3)
        };
        run.counts(&[("rows.rejected", 5), ("archives.processed", 1)]);
    }
}

/// The server takes every tombstone, so this is not a server that refuses everything.
#[test]
fn many_deletions_of_posts_in_a_blocked_older_index_become_dead_letters() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 1_050))]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        let old = store.indices.get_mut("posts_v1").unwrap();
        old.settings.insert("index.blocks.write".into(), "true".into());
        store.add_index("posts_v2", "posts", true);
    });
    let deletions = (0..1_050).map(|n| delete(&format!("p{n}")));
    env.add(&[Archive::new("20251219_000000").with_all(deletions)]);
    env.run(&[]).exits(3).counts(&[("rows.rejected", 1_050), ("archives.processed", 1)]);
    assert_eq!(ids(&env.fake, "post_tombstones").len(), 1_050);
}

/// A load during which an index gets a pipeline, since one that exists before is found by the preflight.
fn with_pipeline(alias: &str, pipeline: Pipeline, archive: Archive) -> Run {
    let env = TestEnv::with_archives(&[archive]);
    // A batch begins with a look-up if it has posts, else with a bulk request. Both wait until the pipeline exists.
    let is_of_a_batch = |request: &Request| request.is_mget() || request.is_bulk();
    env.fake.fail(is_of_a_batch, 0, usize::MAX, Fault::Hang);
    let running = env.ingest().args(&["--workers", "1"]).start();
    env.fake.wait_for(|record| is_of_a_batch(&record.request), 1);
    env.fake.store(|store| store.index(alias).unwrap().pipeline = pipeline);
    env.fake.release();
    running.wait()
}

#[test]
fn dropped_or_changed_posts_become_dead_letters_and_such_tombstones_stop_the_run() {
    for pipeline in [Pipeline::Drop, Pipeline::OtherId, Pipeline::OtherVersion] {
        let archive = Archive::new("20251218_000000").with_all(posts("p", 3));
        let run = with_pipeline("posts", pipeline, archive).exits(3);
        run.counts(&[("rows.indexed", 0), ("rows.rejected", 3)]);
        run.check(run.reasons("rejected") == ["dropped_by_pipeline"], "the reason is named");

        let archive = Archive::new("20251218_000000").with_all(posts("p", 3)).with(delete("p0"));
        let run = with_pipeline("post_tombstones", pipeline, archive);
        run.exits(5).says("pipeline").counts(&[("archives.processed", 0)]);
    }
}

#[test]
fn documents_that_a_pipeline_sends_behind_the_other_name_stop_the_run() {
    for (alias, other) in [("posts", "post_tombstones_v1"), ("post_tombstones", "posts_v1")] {
        let archive = Archive::new("20251218_000000").with_all(posts("p", 3)).with(delete("p0"));
        let run = with_pipeline(alias, Pipeline::OtherIndex(other), archive);
        run.exits(5).says(other).says("pipeline").counts(&[("archives.processed", 0)]);
    }
}

#[test]
fn an_alias_that_gets_a_routing_during_a_run_is_noticed() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 3))];
    let env = TestEnv::with_archives(&archives);
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| {
        let aliases = &mut store.indices.get_mut("posts_v1").unwrap().aliases;
        aliases.insert(
            "posts".into(),
            json!({"is_write_index": true, "index_routing": "a", "search_routing": "a"}),
        );
    });
    env.fake.release();
    running.wait().exits(0).says("the routing of the alias posts has changed");
    assert_eq!(env.fake.bulks().len(), 2, "the archive is loaded again");
}

#[test]
fn writes_to_an_alias_require_the_alias() {
    let mut store = Store::with_indices(&["post_tombstones"]);
    store.add_index("posts_v1", "posts", true);
    let env = TestEnv::with_fake(Fake::start_with(store));
    let archives = history();
    env.add(&archives);
    env.run(&[]).exits(0);
    assert_holds(&env.fake, &archives);
    let requires = |item: &Item| item.require_alias == (item.index == "posts");
    assert!(env.fake.bulks().iter().flat_map(|record| &record.items).all(requires));
}

/// An archive with two posts, then one with a newer emission of the first. The older one comes late.
fn late_and_newer() -> [Archive; 2] {
    [
        Archive::new("20251218_000000").with(post("p", "older")).with(post("q", "only")),
        Archive::new("20251219_000000").with(post("p", "newer")),
    ]
}

#[test]
fn an_archive_loaded_after_a_rollover_hides_no_newer_emission_in_an_older_index() {
    for (shows_age, requires_routing) in [(true, false), (false, true)] {
        let [late, newer] = late_and_newer();
        let env = TestEnv::with_archives(std::slice::from_ref(&newer));
        env.run(&[]).exits(0);
        env.fake.store(|store| {
            if requires_routing {
                require_routing(store, "posts_v1");
            }
            store.add_index("posts_v2", "posts", true);
            if !shows_age {
                for index in store.indices.values_mut() {
                    index.settings.insert("index.creation_date".into(), String::new());
                }
            }
        });
        env.add(std::slice::from_ref(&late));
        env.run(&[]).exits(0).counts(&[("rows.superseded", 1), ("rows.indexed", 1)]);
        assert!(env.fake.documents("posts_v2").keys().eq([&uri("q")]), "{shows_age}");
        assert_eq!(env.fake.documents("posts_v1")[&uri("p")].version, newer.version(1));
        env.run(&["--verify"]).exits(0).counts(&[("findings.newer", 1), ("findings.equal", 2)]);
        // A load of everything writes the last emission of each post to the new index.
        env.ingest().var("SPOOL_STATE_FILE", "another.json").run().exits(0);
        let versions = env.fake.documents("posts_v2").into_values().map(|document| document.version);
        assert_eq!(versions.collect::<Vec<_>>(), [newer.version(1), late.version(2)]);
    }
}

#[test]
fn an_older_emission_that_a_rollover_overtakes_is_removed() {
    let [late, newer] = late_and_newer();
    let env = TestEnv::with_archives(&[newer]);
    env.run(&[]).exits(0);
    env.add(&[late]);
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(2);
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    env.fake.release();
    running.wait().exits(0);
    assert!(env.fake.documents("posts_v2").keys().eq([&uri("q")]));
    assert!(env.dead_letters().is_empty());
}

#[test]
fn a_deleted_post_with_a_newer_emission_in_an_older_index_is_suppressed() {
    let [late, newer] = late_and_newer();
    let env = TestEnv::with_archives(&[newer]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", true);
        let tombstones = store.index("post_tombstones").unwrap();
        tombstones.documents.insert(uri("p"), Document::new(1, json!({})));
    });
    env.add(&[late]);
    env.run(&[]).exits(0).counts(&[("rows.suppressed", 1), ("rows.indexed", 1)]);
    assert_eq!(ids(&env.fake, "posts"), BTreeSet::from([uri("q")]));
}

#[test]
fn an_archive_newer_than_all_indices_is_not_looked_up_in_the_older_ones() {
    let [late, newer] = late_and_newer();
    let env = TestEnv::with_archives(&[late]);
    env.run(&[]).exits(0);
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", true);
        let first = seconds("20251218_120000") * 1000;
        store.indices.values_mut().zip(first..).for_each(|(index, created)| index.created = created);
    });
    env.add(std::slice::from_ref(&newer));
    env.fake.forget_requests();
    env.run(&[]).exits(0).counts(&[("rows.indexed", 1)]);
    let look_ups: Vec<_> =
        env.fake.requests().into_iter().filter(|record| record.request.is_mget()).collect();
    assert_eq!(look_ups.len(), 2, "before and after the write");
    for look_up in look_ups {
        assert!(!String::from_utf8_lossy(&look_up.request.body).contains(r#""posts"#), "{look_up:?}");
    }
    assert_eq!(env.fake.documents("posts_v2")[&uri("p")].version, newer.version(1));
}
