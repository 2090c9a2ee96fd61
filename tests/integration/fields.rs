//! `--exclude-field` and `--add-field`.

use serde_json::{Value, json};

use crate::harness::archives::{Archive, DID, Event, post, uri};
use crate::harness::{TestEnv, lines, vectors};

fn feature(kind: &str, member: &str, value: &str) -> Value {
    json!({"features": [{"$type": format!("app.bsky.richtext.facet#{kind}"), member: value}]})
}

/// A post with every source that added fields are read from.
fn full_post(name: &str) -> Event {
    let image = json!({"alt": "a cat", "aspectRatio": {"width": 3, "height": 4},
        "image": {"mimeType": "image/png", "size": 5}});
    post(name, "full")
        .vector("L6", &vectors::vector(1))
        .vector("L12", &vectors::vector(2))
        .hydrated("root", &uri("root"))
        .hydrated("parent", &uri("parent"))
        .record("tags", json!(["Rust"]))
        .record(
            "facets",
            json!([feature("link", "uri", "https://a.example"), feature("mention", "did", DID)]),
        )
        .record("embed", json!({"images": [image], "external": {"uri": "https://b.example", "title": "T"}}))
        .inferred("video", json!({"audio_transcription": {"text": "spoken", "language": "english"}}))
        .other_vector("all-mpnet-base-v2", &[0.5; 768])
}

fn documents(env: &TestEnv, flags: &[&str]) -> Vec<Value> {
    let flags = [&["--dry-run", "--output", "out.ndjson"], flags].concat();
    env.run(&flags).exits(0);
    lines(&env.read("out.ndjson").unwrap()).into_iter().skip(1).step_by(2).collect()
}

#[test]
fn excluded_fields_are_in_no_document_and_no_mapping() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(full_post("p"))]);
    env.fake.store(|store| store.indices.clear());
    let excluded = "thread_root_post,thread_parent_post,all-MiniLM-L6-v2";
    env.run(&["--create-indices", "--exclude-field", excluded, "--exclude-field", "content"]).exits(0);
    env.fake.store(|store| {
        let index = store.index("posts").unwrap();
        let source = &index.documents[&uri("p")].source;
        let names: Vec<_> = source.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["at_uri", "author_did", "created_at", "embeddings", "indexed_at"]);
        assert_eq!(
            source["embeddings"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["all_MiniLM_L12_v2"]
        );
        let mapped = index.mapping["properties"].as_object().unwrap();
        assert!(!mapped.contains_key("content") && mapped.contains_key("quote_post"));
        assert!(mapped["embeddings"]["properties"].get("all_MiniLM_L6_v2").is_none());
    });
}

#[test]
fn a_strict_index_without_a_field_loads_if_the_field_is_excluded() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(full_post("p"))]);
    env.fake.store(|store| {
        let mapping = &mut store.index("posts").unwrap().mapping;
        mapping["dynamic"] = json!("strict");
        mapping["properties"].as_object_mut().unwrap().remove("thread_root_post");
        mapping["properties"]["embeddings"]["properties"].as_object_mut().unwrap().remove("all_MiniLM_L6_v2");
    });
    env.run(&["--check"]).exits(5);
    let excluded = ["--exclude-field=thread_root_post", "--exclude-field=embeddings.all_MiniLM_L6_v2"];
    env.run(&[&["--check"], &excluded[..]].concat()).exits(0);
    env.run(&excluded).exits(0).counts(&[("rows.indexed", 1)]);
}

#[test]
fn excluding_required_or_adding_unknown_fields_is_a_usage_error() {
    let env = TestEnv::with_archives(&[]);
    env.run(&["--dry-run", "--exclude-field", "at_uri"])
        .exits(2)
        .says("every post needs")
        .says("thread_root_post");
    env.ingest().args(&["--dry-run"]).var("ADD_FIELDS", "langs,tags").run().exits(2).says("hashtags");
    env.run(&["--account-deletions", "--exclude-field", "author_did"]).exits(2).says("--account-deletions");
}

#[test]
fn added_fields_are_written_and_change_nothing_else() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(full_post("p"))]);
    let plain = &documents(&env, &[])[0];
    let all = "langs,hashtags,links,mentions,media,external_embed,video_transcript,vector:all-mpnet-base-v2";
    let mut full = documents(&env, &["--add-field", all]).remove(0);
    let further = json!({
        "langs": ["en"], "hashtags": ["rust"], "links": ["https://a.example", "https://b.example"],
        "mentions": [DID], "contains_images": true, "contains_video": false, "image_count": 1, "video_count": 0,
        "media": [{"media_type": "image", "mime_type": "image/png", "size": 5, "width": 3, "height": 4,
            "alt_text": "a cat"}],
        "external_embed": {"uri": "https://b.example", "title": "T"},
        "video_transcript": "spoken", "video_transcript_language": "english"});
    for (name, value) in further.as_object().unwrap() {
        assert_eq!(full.as_object_mut().unwrap().remove(name).as_ref(), Some(value), "{name}");
    }
    let vector = full["embeddings"].as_object_mut().unwrap().remove("all_mpnet_base_v2").unwrap();
    assert_eq!(vector, json!(vec![0.5; 768]));
    full["indexed_at"] = plain["indexed_at"].clone();
    assert_eq!(full, *plain);
}

#[test]
fn unreadable_added_fields_are_dropped_and_counted_by_name() {
    let rows = [
        full_post("a"),
        full_post("b").record("langs", json!("en")).other_vector("all-mpnet-base-v2", &[0.5; 384]),
    ];
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(rows)]);
    env.fake.store(|store| store.indices.clear());
    env.run(&["--create-indices", "--workers", "1", "--add-field", "langs,vector:all-mpnet-base-v2"])
        .exits(0)
        .counts(&[
            ("rows.indexed", 2),
            ("reasons.dropped_fields.langs", 1),
            ("reasons.dropped_fields.vector:all-mpnet-base-v2", 1),
        ]);
}

#[test]
fn a_model_that_no_row_has_is_named_at_the_end() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(full_post("p"))]);
    const WARNING: &str =
        "no row has a vector of this model; the rows have vectors of all-mpnet-base-v2: check the name";
    let run = env.run(&["--dry-run", "--add-field", "vector:all-mpnet-base-v3"]).exits(0).says(WARNING);
    run.says("--add-field vector:all-mpnet-base-v3");
    let run = env.run(&["--dry-run", "--add-field", "vector:all-mpnet-base-v2"]).exits(0);
    run.check(!run.stderr.contains("no row has"), "this one is there");
}

#[test]
fn added_fields_are_mapped_and_checked() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with(full_post("p"))]);
    env.fake.store(|store| store.indices.clear());
    let added = ["--add-field", "media,langs,vector:all-mpnet-base-v2"];
    env.run(&[&["--create-indices"], &added[..]].concat()).exits(0).counts(&[("rows.indexed", 1)]);
    let check = env.run(&[&["--check"], &added[..]].concat()).exits(0);
    check.check(check.stdout.contains("embeddings.all_mpnet_base_v2"), "what is written is listed");
    env.fake.store(|store| {
        let fields = &mut store.index("posts").unwrap().mapping["properties"];
        fields["media"]["properties"]["size"] = json!({"type": "boolean"});
        fields["contains_video"] = json!({"type": "long"});
        fields["embeddings"]["properties"]["all_mpnet_base_v2"] = json!({"type": "text"});
    });
    let check = env.run(&[&["--check"], &added[..]].concat()).exits(5);
    for wrong in [
        "maps media.size as boolean",
        "maps contains_video as long",
        "maps embeddings.all_mpnet_base_v2 as text",
    ] {
        check.check(check.stdout.contains(wrong), wrong);
    }
}
