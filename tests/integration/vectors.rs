//! `--vector-encoding auto`: base64 is used only if a post sent so reads back unchanged, and no wrong vector stays.

use serde_json::{Value, json};

use crate::harness::archives::{Archive, Event, delete, post, uri};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::{Base64Vectors, Document, Index, Item, mapping_of};
use crate::harness::vectors::vector;
use crate::harness::{DEAD_LETTERS, TestEnv, lines};

/// `count` posts with both vectors.
fn with_vectors(prefix: &str, count: u32) -> Vec<Event> {
    let one =
        |n| post(&format!("{prefix}{n}"), "text").vector("L6", &vector(n)).vector("L12", &vector(n + 1000));
    (0..count).map(one).collect()
}

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with_all(with_vectors("p", 5))]
}

/// These archives, and a server that treats base64 like this.
fn env_with(archives: &[Archive], base64: Base64Vectors) -> TestEnv {
    let env = TestEnv::with_archives(archives);
    env.fake.store(|store| store.base64 = base64);
    env
}

/// A request that reads a post back, as opposed to one that looks up tombstones.
fn is_read_back(request: &Request) -> bool {
    request.is_mget() && request.param("_source_exclude_vectors").is_some()
}

fn read_backs(env: &TestEnv) -> Vec<Request> {
    env.fake.requests().into_iter().map(|record| record.request).filter(is_read_back).collect()
}

fn is_base64(item: &Item) -> bool {
    item.source["embeddings"]["all_MiniLM_L6_v2"].is_string()
}

/// The ids of each bulk request, and whether their vectors are base64.
fn sent(env: &TestEnv) -> Vec<Vec<(String, bool)>> {
    let indexed = |item: &&Item| item.operation == "index";
    let of = |items: &[Item]| -> Vec<_> {
        items.iter().filter(indexed).map(|item| (item.id.clone(), is_base64(item))).collect()
    };
    env.fake.bulks().iter().map(|record| of(&record.items)).filter(|posts| !posts.is_empty()).collect()
}

/// The requests for [`archives`]: one post alone in each of these encodings, then all posts in one.
fn expected(alone: &[bool], together: bool) -> Vec<Vec<(String, bool)>> {
    let mut expected: Vec<_> = alone.iter().map(|&base64| vec![(uri("p0"), base64)]).collect();
    expected.push((0..5).map(|n| (uri(&format!("p{n}")), together)).collect());
    expected
}

#[test]
fn base64_is_used_once_a_post_reads_back_unchanged() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    let run = env.run(&[]).exits(0).says("vectors are sent as base64");
    run.counts(&[("rows.read", 5), ("rows.indexed", 5), ("requests.bulk", 2), ("requests.retried", 0)]);
    assert_eq!(sent(&env), expected(&[true], true));
    assert_holds(&env.fake, &archives());
}

#[test]
fn base64_is_used_where_the_index_requires_routing_too() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.fake.store(|store| {
        store.indices.values_mut().for_each(|index| index.mapping["_routing"] = json!({"required": true}));
    });
    env.run(&[]).exits(0).says("vectors are sent as base64").counts(&[("requests.bulk", 2)]);
    assert_eq!(sent(&env), expected(&[true], true));
}

#[test]
fn a_server_that_refuses_base64_gets_arrays() {
    let env = env_with(&archives(), Base64Vectors::Refused);
    let run = env.run(&[]).exits(0).says("vectors are sent as arrays").says("document_parsing_exception");
    run.counts(&[("rows.indexed", 5), ("rows.rejected", 0), ("requests.bulk", 3)]);
    assert_eq!(sent(&env), expected(&[true, false], false));
    assert!(read_backs(&env).is_empty());
    assert!(env.dead_letters().is_empty());
    assert_holds(&env.fake, &archives());
}

#[test]
fn misread_base64_is_replaced_at_once_and_arrays_are_sent() {
    let env = env_with(&archives(), Base64Vectors::LittleEndian);
    env.run(&[]).exits(0).says("they are read back with other values").counts(&[("rows.indexed", 5)]);
    assert_eq!(sent(&env), expected(&[true, false], false));
    assert_holds(&env.fake, &archives());
}

#[test]
fn misread_vectors_are_replaced_even_if_the_run_ends_early() {
    let env = env_with(&archives(), Base64Vectors::LittleEndian);
    env.fake.fail(Request::is_bulk, 2, usize::MAX, Fault::status(401));
    env.run(&[]).exits(5);
    let held = env.fake.documents("posts");
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[&uri("p0")].source["embeddings"]["all_MiniLM_L6_v2"], json!(vector(0)));
}

#[test]
fn indices_that_return_base64_or_no_vectors_get_arrays() {
    for base64 in [Base64Vectors::KeptAsSent, Base64Vectors::NotReturned] {
        let env = env_with(&archives(), base64);
        env.run(&[]).exits(0).says("vectors are sent as arrays: the index");
        assert_eq!(sent(&env), expected(&[true, false], false));
        let held = env.fake.documents("posts");
        assert!(held.values().all(|kept| kept.source["embeddings"]["all_MiniLM_L6_v2"].is_array()));
    }
}

#[test]
fn a_post_refused_in_both_encodings_proves_nothing() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.fake.fail_items(|item| item.id == uri("p0"), usize::MAX, 400, "document_parsing_exception");
    let run = env.run(&[]).exits(3).says("vectors are sent as base64");
    run.counts(&[("rows.indexed", 4), ("rows.rejected", 1)]);
    assert_eq!(env.dead_letters().len(), 1);
    assert_eq!(read_backs(&env).len(), 1);
}

#[test]
fn a_vector_of_zeros_is_not_tried() {
    let zeros = Archive::new("20251217_000000").with(post("zeros", "").vector("L6", &[0.0; 384]));
    let env = env_with(&[zeros], Base64Vectors::LittleEndian);
    env.run(&[]).exits(0).counts(&[("requests.bulk", 1)]);
    assert!(read_backs(&env).is_empty());
}

#[test]
fn an_inconclusive_post_is_followed_by_the_next() {
    let deletion = Archive::new("20251217_000000").with(delete("p0"));
    let env = env_with(&[deletion], Base64Vectors::BigEndian);
    env.run(&[]).exits(0);
    // The index holds a newer version of the second post, and the third one cannot be read back.
    let newer = Document::new(u64::MAX >> 2, json!({}));
    env.fake.store(|store| store.index("posts").unwrap().documents.insert(uri("p1"), newer));
    env.fake.fail(is_read_back, 0, 1, Fault::status(503));
    env.add(&archives());
    env.fake.forget_requests();
    let run = env.run(&[]).exits(0).says("vectors are sent as base64");
    run.counts(&[("rows.suppressed", 1), ("rows.superseded", 1), ("rows.indexed", 3)]);
    let alone = [("p1", true), ("p2", true), ("p2", false), ("p3", true)];
    let alone: Vec<_> = alone.iter().map(|&(name, base64)| vec![(uri(name), base64)]).collect();
    let batch = [("p1", false), ("p2", false), ("p3", true), ("p4", true)];
    let batch: Vec<_> = batch.iter().map(|&(name, base64)| (uri(name), base64)).collect();
    let sent = sent(&env);
    assert_eq!((&sent[..4], &sent[4]), (&alone[..], &batch));
}

#[test]
fn arrays_are_used_for_good_after_twenty_inconclusive_posts() {
    let archives = [Archive::new("20251218_000000").with_all(with_vectors("p", 25))];
    let env = env_with(&archives, Base64Vectors::LittleEndian);
    env.fake.fail(is_read_back, 0, usize::MAX, Fault::status(403));
    env.run(&[]).exits(0).says("vectors are sent as arrays: 20 posts");
    assert_eq!(read_backs(&env).len(), 20);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_short_outage_is_retried() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.fake.fail_bulks(2, Fault::status(503));
    env.run(&[]).exits(0).says("vectors are sent as base64").counts(&[("requests.retried", 2)]);
    assert_holds(&env.fake, &archives());
}

#[test]
fn many_workers_test_the_encoding_once() {
    let archives: Vec<Archive> = (0..6)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(with_vectors(&format!("a{n}-"), 4)))
        .collect();
    let env = env_with(&archives, Base64Vectors::BigEndian);
    let run = env.run(&["--workers", "6"]).exits(0);
    run.counts(&[("rows.indexed", 24), ("requests.bulk", 7)]);
    assert_eq!(read_backs(&env).len(), 1);
    assert!(sent(&env).iter().flatten().all(|(_, base64)| *base64));
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_signal_ends_the_encoding_test_and_the_next_run_repeats_it() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.fake.fail_bulks(usize::MAX, Fault::status(503));
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    running.signal("TERM");
    running.wait().exits(143);
    env.fake.release();
    env.run(&[]).exits(0).says("vectors are sent as base64");
    assert_holds(&env.fake, &archives());
}

#[test]
fn an_explicit_encoding_is_not_tested() {
    for (encoding, base64) in [("array", false), ("base64", true)] {
        let env = env_with(&archives(), Base64Vectors::BigEndian);
        env.run(&["--vector-encoding", encoding]).exits(0).counts(&[("requests.bulk", 1)]);
        assert_eq!(sent(&env), expected(&[], base64));
        assert!(read_backs(&env).is_empty());
    }
}

/// Changes the mapping to that of OpenSearch.
fn map_as_knn(env: &TestEnv) {
    env.fake.store(|store| {
        let knn = json!({"type": "knn_vector", "dimension": 384});
        let fields = json!({"all_MiniLM_L6_v2": knn, "all_MiniLM_L12_v2": knn});
        store.index("posts").unwrap().mapping["properties"]["embeddings"]["properties"] = fields;
    });
}

#[test]
fn explicit_base64_is_refused_for_an_index_that_may_not_read_it() {
    let base64 = ["--vector-encoding", "base64"];
    let refused = |env: &TestEnv, why: &str| {
        for arguments in [&base64[..], &["--check", "--vector-encoding", "base64"]] {
            env.run(arguments).exits(5).says("--vector-encoding base64").says(why);
        }
        assert!(sent(env).is_empty());
    };
    refused(&env_with(&archives(), Base64Vectors::Refused), "refuses vectors as base64");
    let knn = env_with(&archives(), Base64Vectors::BigEndian);
    map_as_knn(&knn);
    refused(&knn, "map all vectors as dense_vector");
    let untold = env_with(&archives(), Base64Vectors::BigEndian);
    let asks = |request: &Request| request.method == "GET";
    let no = Reply::json(
        403,
        &json!({"error": {"type": "security_exception", "reason": "no permissions for [x]"}}),
    );
    untold.fake.fail(asks, 0, usize::MAX, Fault::Reply(no));
    refused(&untold, "as far as this run can see");
}

/// Dead letters of posts with vectors in this encoding, and a server that accepts them now.
fn dead_letters(env: &TestEnv, encoding: &str) {
    env.fake.fail_items(|item| item.operation == "index", usize::MAX, 400, "document_parsing_exception");
    env.run(&["--vector-encoding", encoding]).exits(3);
    std::fs::rename(env.path(DEAD_LETTERS), env.path("dead")).unwrap();
    env.fake.release();
}

#[test]
fn a_replay_uses_the_encoding_the_server_reads() {
    for (before, flags, now) in [
        ("base64", &["--replay", "dead"][..], false),
        ("array", &["--replay", "dead"], false),
        ("array", &["--replay", "dead", "--vector-encoding", "base64"], true),
        ("base64", &["--replay", "dead", "--vector-encoding", "base64"], true),
    ] {
        let env = env_with(&archives(), Base64Vectors::BigEndian);
        dead_letters(&env, before);
        let earlier = sent(&env).len();
        env.ingest().without("LOCAL_SQLITE_DB_PATH").args(flags).run().exits(0);
        assert!(
            sent(&env)[earlier..].iter().flatten().all(|(_, base64)| *base64 == now),
            "{before} {flags:?}"
        );
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn fields_other_than_dense_vector_get_arrays_without_a_test() {
    let env = env_with(&archives(), Base64Vectors::LittleEndian);
    map_as_knn(&env);
    env.run(&[]).exits(0).says("vectors are sent as arrays").counts(&[("requests.bulk", 1)]);
    assert_eq!(sent(&env), expected(&[], false));
}

#[test]
fn the_encoding_test_reads_the_write_index_of_an_alias() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.fake.store(|store| {
        store.indices.remove("posts");
        for (name, writes) in [("posts_v1", false), ("posts_v2", true)] {
            let mut index = Index::new(mapping_of("posts"));
            index.aliases.insert("posts".to_owned(), json!({"is_write_index": writes}));
            store.indices.insert(name.to_owned(), index);
        }
    });
    env.run(&[]).exits(0).says("vectors are sent as base64");
    let asked: Vec<Value> = read_backs(&env).iter().map(Request::json).collect();
    assert_eq!(asked, [json!({"docs": [{"_index": "posts_v2", "_id": uri("p0")}]})]);
}

#[test]
fn a_dry_run_writes_arrays() {
    let env = env_with(&archives(), Base64Vectors::BigEndian);
    env.run(&["--dry-run", "--output", "out.ndjson"]).exits(0);
    let written = lines(&env.read("out.ndjson").unwrap());
    assert!(written[1]["embeddings"]["all_MiniLM_L6_v2"].is_array(), "{}", written[1]);
    assert!(env.fake.requests().is_empty());
}
