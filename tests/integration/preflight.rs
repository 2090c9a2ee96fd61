//! The preflight: what is found before anything is sent, and what is created on request.

use serde_json::json;

use crate::harness::archives::{Archive, delete, post};
use crate::harness::fake::Fake;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::{Index, Store};
use crate::harness::{TestEnv, posts};

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with_all(posts("p", 3))]
}

/// Asserts exit code 5 with these words, and no writes; `--check` must agree.
#[track_caller]
fn assert_refused(env: &TestEnv, what: &str) {
    env.add(&archives());
    let indices = |store: &mut Store| store.indices.keys().cloned().collect::<Vec<_>>();
    let before = env.fake.store(indices);
    for arguments in [&[][..], &["--check"]] {
        let run = env.run(arguments).exits(5).says(what);
        run.check(env.fake.bulks().is_empty(), "no bulk request was sent");
        run.check(env.fake.store(indices) == before, "nothing was created");
        run.check(env.state().is_empty(), "the archive is still pending");
    }
}

#[test]
fn a_missing_index_is_refused() {
    assert_refused(&TestEnv::with_fake(Fake::start_with(Store::with_indices(&["post_tombstones"]))), "posts");
    assert_refused(&TestEnv::with_fake(Fake::start_with(Store::with_indices(&["posts"]))), "post_tombstones");
}

#[test]
fn a_wrong_api_key_is_refused() {
    let env = TestEnv::with_archives(&archives());
    let run = env.ingest().var("ELASTICSEARCH_API_KEY", "d3Jvbmc6a2V5LW9mLW5vYm9keQ==").run().exits(5);
    run.check(!run.stderr.contains("d3Jvbmc6a2V5"), "the key is not printed");
    assert!(env.fake.bulks().is_empty());
}

#[test]
fn a_missing_privilege_is_refused() {
    let env = TestEnv::new();
    for privilege in ["write", "index", "delete"] {
        env.fake.deny(privilege);
    }
    assert_refused(&env, "privilege");
}

#[test]
fn a_mapping_that_cannot_hold_vectors_is_refused() {
    let env = TestEnv::new();
    env.fake.store(|store| {
        let mapping = &mut store.index("posts").unwrap().mapping;
        mapping["properties"]["embeddings"]["properties"]["all_MiniLM_L6_v2"]["dims"] = json!(768);
    });
    assert_refused(&env, "all_MiniLM_L6_v2");
    let env = TestEnv::new();
    env.fake.store(|store| {
        let mapping = &mut store.index("posts").unwrap().mapping;
        mapping["properties"]["embeddings"]["properties"]["all_MiniLM_L12_v2"] = json!({"type": "text"});
    });
    assert_refused(&env, "all_MiniLM_L12_v2");
}

#[test]
fn an_alias_of_several_indices_without_a_write_index_is_refused() {
    let env = TestEnv::new();
    env.fake.store(|store| {
        let posts = store.indices.remove("posts_v1").unwrap();
        for name in ["posts_v1", "posts_v2"] {
            let mut index = Index::new(posts.mapping.clone());
            index.aliases.insert("posts".to_owned(), json!({}));
            store.indices.insert(name.to_owned(), index);
        }
    });
    assert_refused(&env, "posts");
}

/// Tombstones have the ids of their posts: in one index, each would replace or delete the other.
#[test]
fn an_index_behind_both_names_is_refused() {
    for (alias, index) in [("posts", "post_tombstones_v1"), ("post_tombstones", "posts_v1")] {
        let env = TestEnv::with_fake(Fake::start_with(Store::with_aliases(&["posts", "post_tombstones"])));
        env.fake.store(|store| {
            let aliases = &mut store.indices.get_mut(index).unwrap().aliases;
            aliases.insert(alias.to_owned(), json!({"is_write_index": false}));
        });
        assert_refused(&env, &format!("the index {index} is behind both"));
        env.run(&["--verify"]).exits(5).says("behind both");
    }
}

#[test]
fn an_index_put_behind_both_names_during_a_run_stops_it_and_keeps_the_tombstones() {
    let archive = Archive::new("20251218_000000").with(delete("a")).with(post("b", "text"));
    let env = TestEnv::with_fake(Fake::start_with(Store::with_aliases(&["posts", "post_tombstones"])));
    env.add(std::slice::from_ref(&archive));
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| {
        let aliases = &mut store.indices.get_mut("post_tombstones_v1").unwrap().aliases;
        aliases.insert("posts".to_owned(), json!({"is_write_index": false}));
    });
    env.fake.release();
    running.wait().exits(5).says("behind both");
    assert!(env.state().is_empty(), "nothing is marked");
    assert_eq!(env.fake.documents("post_tombstones_v1").len(), 1);
}

#[test]
fn an_index_deleted_during_a_run_stops_it_and_is_not_recreated() {
    let env = TestEnv::with_fake(Fake::start_with(Store::default()));
    env.add(&archives());
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().args(&["--create-indices"]).start();
    env.fake.wait_for_bulks(1);
    env.fake.store(|store| store.indices.clear());
    env.fake.release();
    let run = running.wait().exits(5);
    run.check(run.stderr.contains("an index is missing"), "the reason is logged");
    env.fake.store(|store| assert!(store.indices.is_empty()));
    env.run(&["--create-indices"]).exits(0);
    assert_holds(&env.fake, &archives());
}

#[test]
fn missing_indices_are_created_on_request() {
    let env = TestEnv::with_fake(Fake::start_with(Store::default()));
    env.add(&archives());
    env.run(&["--create-indices"]).exits(0);
    assert_holds(&env.fake, &archives());
    env.fake.store(|store| {
        let mapping = store.index("posts").unwrap().mapping.clone();
        for model in ["all_MiniLM_L6_v2", "all_MiniLM_L12_v2"] {
            let vector = &mapping["properties"]["embeddings"]["properties"][model];
            assert_eq!(
                (&vector["type"], &vector["dims"]),
                (&json!("dense_vector"), &json!(384)),
                "{mapping}"
            );
        }
        assert_eq!(mapping["properties"]["at_uri"]["type"], "keyword");
        let tombstones = store.index("post_tombstones").unwrap().mapping.clone();
        assert_eq!(tombstones["properties"]["deleted_at"]["type"], "date");
    });
    env.run(&["--create-indices"]).exits(0).counts(&[("archives.already_done", 1)]);
}

#[test]
fn the_https_hint_is_only_given_before_the_first_answer() {
    let says = |answers: usize| {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail(|_| true, answers, 1, Fault::CloseBefore);
        let run = env.run(&[]).exits(0).says("next attempt");
        run.stderr.contains("does the server expect https?")
    };
    assert!(says(0));
    assert!(!says(1), "the first request is answered, the second one is not");
    assert!(!says(3));
}

#[test]
fn retry_after_is_honoured() {
    let env = TestEnv::with_archives(&archives());
    let busy = Reply::error(503, "busy", "busy").with_header("Retry-After", "1");
    env.fake.fail(|_| true, 0, 1, Fault::Reply(busy));
    env.run(&[]).exits(0).says("next attempt in 1.0 s");
    let times: Vec<_> = env.fake.requests().iter().map(|record| record.arrived.time).collect();
    assert!(times[1].duration_since(times[0]).as_millis() >= 950, "{:?}", times[1] - times[0]);
    assert_holds(&env.fake, &archives());
}

/// Answers such requests with a status from now on.
fn refuse(env: &TestEnv, condition: fn(&Request) -> bool, status: u16) {
    env.fake.fail(condition, 0, usize::MAX, Fault::status(status));
}

fn is_whole(request: &Request) -> bool {
    request.method != "PUT" && ["/posts", "/post_tombstones"].contains(&request.path.as_str())
}

fn is_part(request: &Request) -> bool {
    ["_mapping", "_settings", "_alias"].iter().any(|part| request.path.ends_with(part))
}

#[test]
fn a_server_that_shows_mapping_and_settings_separately_is_loaded() {
    for status in [400, 403, 404, 405, 501] {
        let env = TestEnv::with_archives(&archives());
        refuse(&env, is_whole, status);
        for arguments in [&["--check"][..], &["--create-indices"]] {
            let run = env.run(arguments).exits(0);
            run.check(!run.stdout.contains("warning: "), "all is known");
        }
        assert_holds(&env.fake, &archives());

        let env = TestEnv::new();
        refuse(&env, is_whole, status);
        env.fake.store(|store| {
            let mapping = &mut store.index("posts").unwrap().mapping;
            mapping["properties"]["embeddings"]["properties"]["all_MiniLM_L6_v2"]["dims"] = json!(768);
        });
        assert_refused(&env, "all_MiniLM_L6_v2");
    }
}

#[test]
fn a_server_that_hides_its_indices_is_loaded_with_a_warning() {
    for status in [400, 403, 405, 501] {
        let env = TestEnv::with_archives(&archives());
        refuse(&env, is_whole, status);
        refuse(&env, is_part, status);
        let run = env.run(&["--check"]).exits(0);
        run.check(run.stdout.contains("warning: posts: "), "the reason is logged");
        env.run(&[]).exits(0).says("does not show");
        assert_holds(&env.fake, &archives());
    }
}

/// A delete through the alias would reach the write index alone.
#[test]
fn hidden_indices_are_refused_if_there_are_several() {
    let env = TestEnv::with_fake(Fake::start_with(Store::with_aliases(&["posts", "post_tombstones"])));
    env.fake.store(|store| store.add_index("posts_v2", "posts", true));
    refuse(&env, is_whole, 403);
    refuse(&env, is_part, 403);
    assert_refused(&env, "posts is an alias of several indices");
}

#[test]
fn no_index_is_created_if_existing_ones_are_hidden() {
    for status in [400, 403, 405, 501] {
        let env = TestEnv::with_fake(Fake::start_with(Store::default()));
        env.add(&archives());
        refuse(&env, is_whole, status);
        refuse(&env, is_part, status);
        env.run(&["--create-indices"]).exits(5).says("--create-indices");
        env.fake.store(|store| assert!(store.indices.is_empty()));
        assert!(!env.fake.requests().iter().any(|record| record.request.method == "PUT"));
    }
}

#[test]
fn a_server_that_hides_some_privileges_is_loaded() {
    let told = [
        json!({"has_all_requested": true}),
        json!({"has_all_requested": true, "index": {}}),
        json!({}),
        json!("<html>"),
    ];
    for body in told {
        let env = TestEnv::with_archives(&archives());
        let is_question = |request: &Request| request.path.ends_with("/_has_privileges");
        env.fake.fail(is_question, 0, usize::MAX, Fault::Reply(Reply::json(200, &body)));
        env.run(&[]).exits(0);
        assert_holds(&env.fake, &archives());
    }
}

/// Amazon's gateway answers like this for APIs that the service does not offer, whatever the credentials.
#[test]
fn a_server_that_hides_apis_as_amazon_does_is_loaded() {
    for (hidden, warning) in [
        (&["/_has_privileges"][..], "does not show the privileges"),
        (&["/posts", "/post_tombstones"], ""),
        (
            &["/posts", "/post_tombstones", "/_mapping", "/_settings", "/_alias"],
            "does not show this key whether posts exists",
        ),
        (&["/_search_shards"], "does not show where its shards are"),
    ] {
        let env = TestEnv::with_archives(&archives());
        env.fake.use_async_translog();
        env.fake.admit_by(move |request| {
            let is_hidden = request.method != "PUT" && hidden.iter().any(|end| request.path.ends_with(end));
            let message = format!("Your request: '{}' is not allowed.", request.path);
            is_hidden.then(|| Reply::json(401, &json!({"Message": message})))
        });
        env.run(&["--check"]).exits(0);
        env.run(&[]).exits(0).says(warning);
        assert_holds(&env.fake, &archives());
    }
}
