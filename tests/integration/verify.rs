//! `--verify` compares the index with the archives; `--repair` mends the differences.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::archives::{Archive, delete, post, unreadable, uri};
use crate::harness::fake::{API_KEY, Fake};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::run::Run;
use crate::harness::script::Fault;
use crate::harness::store::{Base64Vectors, Document, Index, Store};
use crate::harness::{DEAD_LETTERS, STATE_FILE, TestEnv, in_parallel, lines, posts, wait_until};

/// Posts, deletions, re-emissions, vectors, and rows without a document.
fn history() -> Vec<Archive> {
    let vector: Vec<f32> = (0..384).map(|n| n as f32 / 512.0 - 0.1).collect();
    vec![
        Archive::new("20251218_000000")
            .with_all(posts("p", 12))
            .with(post("p0", "superseded within the archive"))
            .with(post("vector", "with vectors").vector("L6", &vector).vector("L12", &vector))
            .with(unreadable("broken", Some("{"))),
        Archive::new("20251219_000000")
            .with_all((0..4).map(|n| delete(&format!("p{n}"))))
            .with(post("p4", "emitted anew")),
        Archive::new("20251220_000000").with(post("p1", "emitted after its deletion")),
    ]
}

/// A server with all documents of the archives.
fn loaded(store: Store) -> TestEnv {
    let env = TestEnv::with_fake(Fake::start_with(store));
    env.add(&history());
    assert_eq!(env.run(&[]).code, Some(3), "one row is unreadable");
    std::fs::remove_file(env.path(DEAD_LETTERS)).expect("the dead letters of the load");
    std::fs::remove_file(env.path(STATE_FILE)).expect("the state file of the load");
    env.fake.forget_requests();
    env
}

fn aliases() -> Store {
    Store::with_aliases(&["posts", "post_tombstones"])
}

/// The differences that a run found, as `finding name`, with the field if there is one.
fn differences(env: &TestEnv) -> BTreeSet<String> {
    let told = lines(&env.read("differences").expect("the output"));
    let name =
        |line: &Value| line["at_uri"].as_str().unwrap_or_default().rsplit('/').next().map(str::to_owned);
    told.iter()
        .map(|line| {
            let field = line["field"].as_str().map(|field| format!(" {field}")).unwrap_or_default();
            format!(
                "{} {}{field}",
                line["finding"].as_str().unwrap_or_default(),
                name(line).unwrap_or_default()
            )
        })
        .collect()
}

fn verify(env: &TestEnv, more: &[&str]) -> Run {
    let arguments: Vec<&str> = ["--verify", "--output", "differences"].iter().chain(more).copied().collect();
    env.run(&arguments)
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Damages documents in every way that other programs might. Returns the expected differences.
fn damage(env: &TestEnv) -> BTreeSet<String> {
    env.fake.store(|store| {
        let members = store.members("posts");
        let of = |store: &Store, name: &str| -> String {
            let holds = |index: &&String| store.indices[*index].documents.contains_key(&uri(name));
            members.iter().find(holds).expect("the post").clone()
        };
        let edit = |store: &mut Store, name: &str, change: &dyn Fn(&mut Document)| {
            let index = store.indices.get_mut(&of(store, name)).expect("its index");
            change(index.documents.get_mut(&uri(name)).expect("the post"));
        };
        let gone = of(store, "p5");
        store.indices.get_mut(&gone).expect("its index").documents.remove(&uri("p5"));
        edit(store, "p6", &|document| document.version = 3);
        edit(store, "p7", &|document| document.source["content"] = json!("changed"));
        edit(store, "p8", &|document| document.source["quote_post"] = json!("at://x"));
        edit(store, "vector", &|document| document.source["embeddings"]["all_MiniLM_L6_v2"][7] = json!(0.25));
        edit(store, "p9", &|document| document.version += 1);
        let back = Document::new(1, json!({"content": "back again"}));
        let posts: &mut Index = store.index("posts").expect("the index of posts");
        posts.documents.insert(uri("p1"), back);
        let tombstones = store.members("post_tombstones");
        for index in tombstones {
            store.indices.get_mut(&index).expect("an index").documents.remove(&uri("p2"));
        }
    });
    set(&[
        "missing p5",
        "stale p6",
        "different p7 content",
        "different p8 quote_post",
        "different vector embeddings.all_MiniLM_L6_v2",
        "resurrected p1",
        "undeleted p2",
    ])
}

fn assert_found_and_repaired(env: &TestEnv, case: &str) {
    let run = verify(env, &[]);
    assert_eq!(run.code, Some(3), "{case}: one row is unreadable");
    assert_eq!(differences(env), BTreeSet::new(), "{case}");
    let expected = damage(env);
    let before = env.fake.requests().len();
    let run = verify(env, &[]);
    assert_eq!(run.code, Some(3), "{case}");
    let mut found = differences(env);
    // An older archive contains the post as well, and reports it in a line of its own.
    assert!(found.is_superset(&expected), "{case}: {found:?}");
    found.retain(|line| !expected.contains(line));
    assert!(found.is_subset(&set(&["missing p2"])), "{case}: {found:?}");
    let written = env.fake.requests()[before..].iter().filter(|record| record.request.is_bulk()).count();
    assert_eq!(written, 0, "{case}: verify writes nothing");
    assert!(env.read(STATE_FILE).is_none() && env.read(DEAD_LETTERS).is_none(), "{case}");

    let run = verify(env, &["--repair"]);
    let summary = run.summary();
    assert_eq!(run.code, Some(3), "{case}: one row is unreadable");
    assert_eq!(summary["repaired"]["different"], 3, "{case}: {summary}");
    assert!(lines(&env.read("differences").unwrap()).iter().all(|line| line["repaired"] == true), "{case}");
    for name in ["missing", "stale", "different", "resurrected", "undeleted"] {
        assert_eq!(summary["findings"][name], 0, "{case}: {summary}");
    }
    let run = verify(env, &[]);
    assert_eq!(differences(env), BTreeSet::new(), "{case}");
    assert_eq!(run.summary()["rows"]["rejected"], 1, "{case}");
}

#[test]
fn differences_are_named_by_row_and_repaired() {
    let env = loaded(aliases());
    assert_found_and_repaired(&env, "aliases");
    // Another program has overwritten one post.
    env.fake.store(|store| {
        let index = store.index("posts").expect("an index");
        index.documents.get_mut(&uri("p9")).expect("a post").version -= 1;
    });
    assert_holds(&env.fake, &history());
}

#[test]
fn differences_are_found_in_every_index_layout() {
    let several = || {
        let mut store = aliases();
        store.add_index("posts_old", "posts", false);
        store.add_index("post_tombstones_old", "post_tombstones", false);
        store
    };
    let routed = |mut store: Store| {
        for index in store.indices.values_mut() {
            index.mapping["_routing"] = json!({"required": true});
        }
        store
    };
    let vectors = |base64, mut store: Store| {
        store.base64 = base64;
        store
    };
    let cases = [
        ("concrete", Store::with_indices(&["posts", "post_tombstones"])),
        ("several", several()),
        ("routed", routed(aliases())),
        ("several and routed", routed(several())),
        ("vectors on demand", vectors(Base64Vectors::BigEndian, aliases())),
        ("vectors as sent", vectors(Base64Vectors::KeptAsSent, aliases())),
    ];
    in_parallel(cases, |(case, store)| {
        let env = loaded(store);
        assert_found_and_repaired(&env, case);
    });
}

#[test]
fn a_repair_in_base64_is_refused_if_the_server_does_not_read_it() {
    let env = loaded(aliases());
    damage(&env);
    verify(&env, &["--repair", "--vector-encoding", "base64"]).exits(5).says("base64");
    assert!(env.fake.bulks().is_empty(), "nothing is sent");
    // A verification sends no vectors.
    assert_eq!(verify(&env, &["--vector-encoding", "base64"]).code, Some(3));
}

#[test]
fn a_post_is_looked_for_in_every_index_behind_the_alias() {
    let env = loaded(aliases());
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", true);
        // The post is in two indices: the newer version counts. An old copy beside a tombstone is a difference, too.
        let old = store.indices["posts_v1"].documents[&uri("p4")].clone();
        store.index("posts").expect("the new one").documents.insert(uri("p4"), old);
        let index = store.indices.get_mut("posts_v1").expect("the old one");
        index.documents.get_mut(&uri("p4")).expect("a post").version = 5;
        index.documents.insert(uri("p3"), Document::new(5, json!({})));
    });
    verify(&env, &[]);
    assert_eq!(differences(&env), set(&["resurrected p3"]));
    verify(&env, &["--repair"]);
    verify(&env, &[]);
    assert_eq!(differences(&env), BTreeSet::new());
}

#[test]
fn a_post_that_holds_a_credential_is_no_difference() {
    // A password such as `changeme` is a word that posts have.
    let key = String::from_utf8(base64_simd::STANDARD.decode_to_vec(API_KEY).unwrap()).unwrap();
    let word = key.split_once(':').unwrap().1;
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(post("a", word))]);
    env.run(&[]).exits(0);
    verify(&env, &[]).exits(0).counts(&[("findings.equal", 1)]);
}

#[test]
fn an_alias_for_searches_is_verified_without_a_write_index() {
    let env = loaded(aliases());
    env.fake.store(|store| {
        store.add_index("posts_v0", "posts", false);
        for index in ["posts_v0", "posts_v1"] {
            store.indices.get_mut(index).unwrap().aliases.insert("posts".to_owned(), json!({}));
        }
    });
    assert_eq!(verify(&env, &[]).code, Some(3), "one row is unreadable");
    assert_eq!(differences(&env), BTreeSet::new());
    verify(&env, &["--repair"]).exits(5).says("is_write_index");
}

#[test]
fn a_rollover_during_verify_is_not_a_difference() {
    let env = loaded(aliases());
    env.fake.fail(Request::is_mget, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--verify", "--output", "differences"]).start();
    env.fake.wait_for(|record| record.request.is_mget(), 1);
    env.fake.store(|store| {
        store.add_index("posts_v2", "posts", true);
        let all = std::mem::take(&mut store.indices.get_mut("posts_v1").expect("an index").documents);
        store.indices.get_mut("posts_v2").expect("an index").documents = all;
    });
    env.fake.release();
    running.wait();
    assert_eq!(differences(&env), BTreeSet::new());
}

#[test]
fn an_alias_that_is_away_for_a_moment_after_a_difference_was_found_is_waited_for() {
    let env = loaded(aliases());
    let lost = uri("p5");
    env.fake.store(|store| store.index("posts").unwrap().documents.remove(&lost).expect("the post"));
    // The first look at the alias is that of the preflight.
    let looks = |request: &Request| request.method == "GET" && request.path == "/posts";
    env.fake.fail(looks, 1, 1, Fault::Hang);
    let running = env.ingest().args(&["--verify", "--repair"]).start();
    env.fake.wait_for(|record| looks(&record.request), 2);
    let taken = env.fake.store(|store| std::mem::take(&mut store.index("posts").unwrap().aliases));
    env.fake.release();
    env.fake.wait_for(|record| looks(&record.request), 4);
    env.fake.store(|store| store.index("posts_v1").unwrap().aliases = taken);
    running.wait().exits(3).says("1 row repaired");
    assert!(env.fake.documents("posts").contains_key(&lost));
}

#[test]
fn verify_needs_only_read_privileges_and_repair_needs_more() {
    let env = loaded(aliases());
    ["index", "delete", "view_index_metadata"].iter().for_each(|privilege| env.fake.deny(privilege));
    assert_eq!(verify(&env, &[]).code, Some(3), "one row is unreadable");
    assert_eq!(differences(&env), BTreeSet::new());
    assert_eq!(verify(&env, &["--repair"]).code, Some(5));
    // --check checks what a load needs.
    let run = env.run(&["--check"]).exits(5);
    run.check(
        run.stdout.contains("index, delete, view_index_metadata on posts"),
        "the missing ones are named",
    );
}

#[test]
fn the_advice_on_a_broken_archive_does_not_name_the_state_file() {
    let env = loaded(aliases());
    let broken = Archive::new("20251221_000000");
    env.write(&format!("archives/{}", broken.name()), "no archive");
    let run = verify(&env, &[]).exits(3).says("failed: not a valid zip");
    run.check(run.stderr.contains("some rows were not compared"), "the advice fits");
    run.check(
        !run.stderr.contains("--retry-failed") && !run.stderr.contains("--list"),
        "nothing that does not help",
    );
}

#[test]
fn a_closed_index_is_refused_at_once() {
    let env = loaded(aliases());
    env.fake.store(|store| {
        let settings = &mut store.index("posts").expect("an index").settings;
        settings.insert("index.verified_before_close".into(), "true".into());
    });
    let run = verify(&env, &[]);
    run.exits(5).says("posts_v1 is closed: open it");
}

#[test]
fn an_index_that_hides_its_settings_is_read_with_routing_if_required() {
    // Routing that an index does not require may lead to another shard.
    for (posts, tombstones) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut store = aliases();
        store.add_index("posts_old", "posts", false);
        let env = loaded(store);
        let is_told = |request: &Request| {
            let first = request.path.split('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
            request.method == "GET" && ["posts", "post_tombstones"].contains(&first.as_str())
        };
        env.fake.store(|store| {
            for (name, routed) in [("posts", posts), ("post_tombstones", tombstones)] {
                store.index(name).expect("an index").mapping["_routing"] = json!({"required": routed});
            }
            let old = store.index("posts").expect("an index").documents.remove(&uri("p5")).expect("a post");
            store.indices.get_mut("posts_old").expect("an index").documents.insert(uri("p5"), old);
        });
        let denied = Reply::error(403, "security_exception", "action is unauthorized");
        env.fake.fail(is_told, 0, usize::MAX, Fault::Reply(denied));
        // The key may read, so the names of the indices are shown.
        let alias = json!({"name": "posts", "indices": ["posts_old", "posts_v1"]});
        let resolved = Reply::json(200, &json!({"aliases": [alias]}));
        let resolves = |request: &Request| request.path.starts_with("/_resolve/index/posts");
        env.fake.fail(resolves, 0, usize::MAX, Fault::Reply(resolved));
        let run = verify(&env, &[]);
        assert_eq!(run.code, Some(3), "{posts} {tombstones}, and one row is unreadable: {}", run.stderr);
        assert_eq!(differences(&env), BTreeSet::new(), "{posts} {tombstones}");
    }
}

#[test]
fn faults_are_retried_until_the_budget_ends_the_run() {
    for fault in [Fault::status(429), Fault::status(503), Fault::CloseBefore, Fault::CutReply, Fault::Garbage]
    {
        let env = loaded(aliases());
        env.fake.fail(Request::is_mget, 1, 2, fault.clone());
        assert_eq!(verify(&env, &[]).code, Some(3), "{fault:?}: one row is unreadable");
        assert_eq!(differences(&env), BTreeSet::new(), "{fault:?}");
    }
    let env = loaded(aliases());
    let is_large = |request: &Request| {
        request.is_mget() && request.json()["docs"].as_array().is_some_and(|docs| docs.len() > 4)
    };
    env.fake.fail(is_large, 0, usize::MAX, Fault::status(413));
    assert_eq!(verify(&env, &[]).code, Some(3), "one row is unreadable");
    assert_eq!(differences(&env), BTreeSet::new(), "requests that are too large are halved");

    let env = loaded(aliases());
    env.fake.fail(Request::is_mget, 0, usize::MAX, Fault::status(503));
    let run = verify(&env, &["--retry-budget", "0"]);
    assert_eq!(run.code, Some(4));
    assert!(run.summary()["rows"]["unconfirmed"].as_u64().is_some_and(|rows| rows > 0));
}

#[test]
fn a_page_that_quotes_the_request_shows_no_credentials() {
    let env = loaded(aliases());
    let body = format!("<html>no backend for Authorization: ApiKey {API_KEY}</html>").into_bytes();
    let asks_for_contents =
        |request: &Request| request.is_mget() && request.param("_source_exclude_vectors").is_some();
    env.fake.fail(asks_for_contents, 0, 1, Fault::Reply(Reply { status: 200, headers: vec![], body }));
    let run = env.run(&["--verify"]).exits(3).says("no backend for");
    run.counts(&[("findings.different", 0), ("findings.equal", 13)]);
}

#[test]
fn a_signal_ends_verify_at_once_with_a_summary() {
    let env = loaded(aliases());
    env.fake.fail(Request::is_mget, 0, usize::MAX, Fault::Hang);
    let running = env.ingest().args(&["--verify"]).start();
    env.fake.wait_for(|record| record.request.is_mget(), 1);
    let asked = Instant::now();
    running.signal("TERM");
    let run = running.wait();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(run.code, Some(143));
    assert_eq!(run.summary()["interrupted"], true);
    env.fake.release();
}

#[test]
fn a_signal_ends_a_look_at_the_indices_after_a_difference_at_once() {
    let env = loaded(aliases());
    damage(&env);
    let (has_looked_up, hung) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let hangs = hung.clone();
    let hangs = move |request: &Request| {
        has_looked_up.fetch_or(request.is_mget(), Ordering::Relaxed);
        let hangs_now = request.method == "GET" && has_looked_up.load(Ordering::Relaxed);
        hangs.fetch_or(hangs_now, Ordering::Relaxed);
        hangs_now
    };
    env.fake.fail(hangs, 0, usize::MAX, Fault::Hang);
    let running = env.ingest().args(&["--verify"]).start();
    wait_until("a look hangs", || hung.load(Ordering::Relaxed));
    let asked = Instant::now();
    running.signal("TERM");
    running.wait().exits(143);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[test]
fn repair_waits_until_the_index_forgets_a_delete() {
    let env = loaded(aliases());
    env.fake.store(|store| {
        let index = store.index("posts").expect("an index");
        index.settings.insert("index.gc_deletes".into(), "10s".into());
        let version = index.documents[&uri("p5")].version;
        index.documents.remove(&uri("p5"));
        index.remember_delete(&uri("p5"), version + 1);
    });
    let running = env.ingest().args(&["--verify", "--repair", "--output", "differences"]).start();
    env.fake.wait_for(|record| record.request.is_bulk(), 1);
    env.fake.store(Store::forget_deletes_so_far);
    let run = running.wait();
    assert_eq!(run.summary()["repaired"]["missing"], 1);
    assert_eq!(run.summary()["findings"]["missing"], 0);
}

#[test]
fn a_refused_repair_is_a_dead_letter_and_stays_a_difference() {
    let env = loaded(aliases());
    damage(&env);
    env.fake.fail_items(|item| item.id == uri("p7"), usize::MAX, 400, "document_parsing_exception");
    let run = verify(&env, &["--repair"]);
    assert_eq!(run.summary()["rows"]["rejected"], 2, "the refused row and the unreadable row");
    assert_eq!(env.dead_letters().len(), 2);
    let output = env.read("differences").unwrap_or_default();
    let refused: Vec<&str> = output.lines().filter(|line| line.contains(&uri("p7"))).collect();
    run.check(
        refused.len() == 1 && refused[0].contains("\"repaired\":false"),
        "the output has the refused row",
    );
    verify(&env, &[]);
    assert_eq!(differences(&env), set(&["different p7 content"]));
}

#[test]
fn a_repair_of_which_everything_is_refused_stops_the_run_and_is_no_dead_letter() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 1200))]);
    env.fake.fail_items(|_| true, usize::MAX, 400, "document_parsing_exception");
    let run = verify(&env, &["--repair"]).exits(1).says("refused 1000 actions in a row");
    assert_eq!(env.dead_letters().len(), 0);
    assert_eq!(run.summary()["rows"]["unconfirmed"], 1200);
}

#[test]
fn metrics_and_the_report_show_differences() {
    let env = loaded(aliases());
    damage(&env);
    let run = verify(&env, &["--metrics-file", "m.prom"]);
    let metrics = env.read("m.prom").expect("the metrics file");
    assert!(metrics.contains("rows_verified_total{finding=\"undeleted\"} 1"), "{metrics}");
    assert!(run.stderr.contains("differ from the archives"), "{}", run.stderr);
    assert!(run.stderr.contains("undeleted"), "{}", run.stderr);
}

#[test]
fn flags_that_conflict_with_verify_are_refused() {
    let env = TestEnv::new();
    for arguments in [
        &["--verify", "--mode", "spool"][..],
        &["--verify", "--dry-run"],
        &["--verify", "--check"],
        &["--verify", "--list"],
        &["--verify", "--retry-failed"],
        &["--verify", "--bulk-load-settings"],
        &["--verify", "--create-indices"],
        &["--verify", "--replay", "summary.json"],
        &["--repair"],
    ] {
        assert_eq!(env.run(arguments).code, Some(2), "{arguments:?}");
    }
}
