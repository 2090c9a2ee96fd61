//! Indices with other names, and named pipelines.

use serde_json::json;

use crate::harness::archives::{Archive, delete};
use crate::harness::fake::Fake;
use crate::harness::store::Store;
use crate::harness::{TestEnv, posts};

const NAMES: [&str; 4] = ["--posts-index", "articles", "--tombstones-index", "post_tombstones-2"];

fn archives() -> [Archive; 2] {
    [
        Archive::new("20251218_000000").with_all(posts("p", 4)),
        Archive::new("20251219_000000").with(delete("p0")).with_all(posts("q", 2)),
    ]
}

fn held(env: &TestEnv, index: &str) -> usize {
    env.fake.store(|store| store.indices[index].documents.len())
}

#[test]
fn documents_go_to_the_configured_indices() {
    for is_async in [false, true] {
        let env = TestEnv::with_fake(Fake::start_with(Store::default()));
        env.add(&archives());
        let with = |more: &[&str]| -> Vec<String> {
            NAMES.iter().chain(more).map(|word| (*word).to_owned()).collect()
        };
        let run = |more: &[&str]| {
            let words = with(more);
            env.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        run(&["--check"]).exits(5).says("no index or alias articles");
        run(&["--create-indices", "--shard", "1/2", "--check"]).exits(0);
        let env_of_creation = run(&["--create-indices"]);
        env_of_creation.exits(0);
        if is_async {
            env.fake.use_async_translog();
        }
        run(&["--check"]).exits(0);
        assert_eq!((held(&env, "articles_v1"), held(&env, "post_tombstones-2_v1")), (5, 1));
        env.fake.store(|store| assert_eq!(store.indices.len(), 2));
        let indices = env.fake.bulks().into_iter().flat_map(|record| record.items).map(|item| item.index);
        assert!(indices.into_iter().all(|index| index == "articles" || index == "post_tombstones-2"));
    }
}

#[test]
fn index_names_from_the_environment_are_used_by_a_dry_run() {
    let env = TestEnv::with_archives(&archives());
    let run = env
        .ingest()
        .args(&["--dry-run", "--output", "-"])
        .var("POSTS_INDEX", "articles")
        .var("TOMBSTONES_INDEX", "gone")
        .run()
        .exits(0);
    run.check(
        run.stdout.contains(r#""_index":"articles""#) && run.stdout.contains(r#""_index":"gone""#),
        "both",
    );
    run.check(!run.stdout.contains(r#""_index":"post"#), "and no other");
}

#[test]
fn dead_letters_are_replayed_to_their_original_indices() {
    let env = TestEnv::with_fake(Fake::start_with(Store::with_indices(&["articles", "post_tombstones-2"])));
    env.fake.store(|store| {
        let mapping = Store::with_aliases(&["posts"]).indices["posts_v1"].mapping.clone();
        store.indices.get_mut("articles").unwrap().mapping = mapping;
    });
    let letter = json!({"archive": "a", "row_id": 1, "at_uri": "at://did:plc:x/app.bsky.feed.post/y",
        "stage": "elasticsearch", "error_type": "x", "reason": "y",
        "action": {"index": {"_index": "articles", "_id": "at://did:plc:x/app.bsky.feed.post/y",
            "version": 474061310263296005_u64, "version_type": "external_gte"}},
        "document": {"at_uri": "at://did:plc:x/app.bsky.feed.post/y", "author_did": "did:plc:x"}});
    env.write("letters", format!("{letter}\n"));
    let path = env.path("letters");
    let words: Vec<&str> = NAMES.into_iter().chain(["--replay", path.to_str().unwrap()]).collect();
    env.run(&words).exits(0);
    assert_eq!(held(&env, "articles"), 1);
}

#[test]
fn invalid_index_names_are_refused() {
    let env = TestEnv::with_archives(&archives());
    for name in ["a,b", "posts*", "Posts", "_all", ""] {
        env.run(&["--posts-index", name]).exits(2).says("--posts-index");
    }
    env.run(&["--posts-index", "post_tombstones"]).exits(2).says("the same");
}

#[test]
fn a_named_pipeline_is_used_by_each_index_action() {
    let env = TestEnv::with_archives(&archives());
    env.run(&["--pipeline", "my pipe"]).exits(5).says("pipeline my pipe, but there is no such pipeline");
    env.fake.store(|store| store.pipelines.insert("my pipe".into()));
    env.run(&["--pipeline", "my pipe"]).exits(0).says("documents go through");
    let bulks = env.fake.bulks();
    let mut named = 0;
    for record in &bulks {
        let indexes = record.items.iter().any(|item| item.operation == "index");
        assert_eq!(record.request.param("pipeline"), indexes.then_some("my pipe"));
        named += usize::from(indexes);
    }
    assert!(named > 0);
    // A named pipeline replaces the default of the index, so a missing default does no harm.
    let env = TestEnv::with_archives(&archives());
    env.fake.store(|store| {
        let settings = &mut store.index("posts").unwrap().settings;
        settings.insert("index.default_pipeline".into(), "missing".into());
    });
    let run = env.ingest().var("INGEST_PIPELINE", "_none").run().exits(0);
    run.check(!run.stderr.contains("missing"), "the default is not reported");
}
