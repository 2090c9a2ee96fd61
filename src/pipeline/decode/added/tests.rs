//! Tests of the readers of `--add-field`.

use super::*;
use crate::model::Dropped;
use crate::model::schema::POST_FIELDS;

const ALL: FieldChoice = FieldChoice {
    excluded: &[],
    added: &["langs", "hashtags", "links", "mentions", "media", "external_embed", "video_transcript"],
    models: &[],
};

fn added(choice: FieldChoice, record: &str, video: &str) -> Added {
    let post = Post {
        at_uri: "at://a",
        author_did: "".into(),
        content: "".into(),
        created_at: None,
        thread_root_post: None,
        thread_parent_post: None,
        quote_post: None,
        dropped: Dropped::default(),
        record,
        scores: "",
        added: Added::default(),
    };
    let embeddings = Embeddings {
        all_minilm_l12_v2: None,
        all_minilm_l6_v2: None,
        others: &[],
        dropped: Dropped::default(),
        dropped_others: &[],
        video,
    };
    read(choice, &post, &embeddings)
}

/// Returns the fields, and the names of unreadable ones. Omits the fields that `media` adds to every post.
fn of(record: &Json, video: &Json) -> (Json, Vec<&'static str>) {
    let added = added(ALL, &record.to_string(), &video.to_string());
    let without = ["contains_images", "contains_video", "image_count", "video_count"];
    let values = added.values.into_iter().filter(|(name, _)| !without.contains(name));
    (values.map(|(name, value)| (name.to_owned(), value)).collect(), added.dropped)
}

fn feature(kind: &str, member: &str, value: impl Into<Json>) -> Json {
    json!({"features": [{"$type": format!("app.bsky.richtext.facet#{kind}"), member: value.into()}]})
}

#[test]
fn every_field_is_read() {
    let record = json!({
        "text": "not read",
        "langs": ["en", "pt-BR", "EN", "ja", "de"],
        "tags": ["Rust", "SQL"],
        "facets": [
            feature("tag", "tag", "Öl"), feature("tag", "tag", "rust"), feature("link", "uri", "https://a.example/x"),
            feature("mention", "did", "did:plc:a"), feature("mention", "did", "did:plc:a"), feature("new", "x", 1)],
        "embed": {"$type": "app.bsky.embed.external",
            "external": {"uri": "https://b.example", "title": "T", "description": "D", "thumb": {}}},
    });
    let (fields, dropped) =
        of(&record, &json!({"audio_transcription": {"text": "spoken", "language": "english", "task": "x"}}));
    assert_eq!(
        fields,
        json!({
            "langs": ["en", "pt-br", "ja"],
            "hashtags": ["öl", "rust", "sql"],
            "links": ["https://a.example/x", "https://b.example"],
            "mentions": ["did:plc:a"],
            "external_embed": {"uri": "https://b.example", "title": "T", "description": "D"},
            "video_transcript": "spoken", "video_transcript_language": "english"})
    );
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn images_and_videos_are_read_even_with_a_quote() {
    let image = |alt: &str| {
        json!({"alt": alt, "aspectRatio": {"width": 3, "height": 4},
        "image": {"mimeType": "image/jpeg", "size": 5, "ref": {}}})
    };
    let images = json!({"images": [image("a cat"), image("")]});
    let video = json!({"video": {"mimeType": "video/mp4", "size": 6}, "alt": "a dog"});
    let told = |embed: Json| {
        let added = added(ALL, &json!({"embed": embed}).to_string(), "");
        assert!(added.dropped.is_empty());
        let get = |name| added.get(name).cloned().unwrap_or_default();
        (
            get("media"),
            ["contains_images", "contains_video", "image_count", "video_count"]
                .map(|name| get(name).to_string()),
        )
    };
    let expected_images = json!([
        {"media_type": "image", "mime_type": "image/jpeg", "size": 5, "width": 3, "height": 4, "alt_text": "a cat"},
        {"media_type": "image", "mime_type": "image/jpeg", "size": 5, "width": 3, "height": 4}]);
    let two_images = (expected_images, ["true", "false", "2", "0"].map(String::from));
    assert_eq!(told(images.clone()), two_images);
    assert_eq!(told(json!({"record": {"record": {"uri": "at://q"}}, "media": images})), two_images);
    let expected = json!([{"media_type": "video", "mime_type": "video/mp4", "size": 6, "alt_text": "a dog"}]);
    assert_eq!(told(video), (expected, ["false", "true", "0", "1"].map(String::from)));
    assert_eq!(told(json!({})), (Json::Null, ["false", "false", "0", "0"].map(String::from)));
}

#[test]
fn unreadable_fields_are_left_out_and_counted_once_by_name() {
    for (record, video, fields, dropped) in [
        (json!({"langs": "en"}), json!(null), json!({}), &["langs"][..]),
        (json!({"langs": ["en", 7, "e_n"]}), json!({}), json!({"langs": ["en"]}), &["langs"]),
        (json!({"langs": null, "tags": null, "embed": null}), json!({}), json!({}), &[]),
        (json!({"facets": [feature("tag", "tag", 7)]}), json!({}), json!({}), &["hashtags"]),
        (
            json!({"facets": 1}),
            json!({"audio_transcription": {"text": []}}),
            json!({}),
            &["hashtags", "links", "mentions", "video_transcript"],
        ),
        (json!({"embed": []}), json!({}), json!({}), &["links", "media", "external_embed"]),
        (
            json!({"embed": {"images": [{"image": {"size": -1}, "alt": 2}]}}),
            json!({}),
            json!({"media": [{"media_type": "image"}]}),
            &["media"],
        ),
        (
            json!({"langs": [1.5], "embed": {"images": [{"image": {"size": 2.5}, "aspectRatio": {"width": 1e30}}]}}),
            json!({}),
            json!({"media": [{"media_type": "image"}]}),
            &["langs", "media"],
        ),
        (json!({}), json!({"audio_transcription": {"text": " "}}), json!({}), &[]),
    ] {
        assert_eq!(of(&record, &video), (fields, dropped.to_vec()), "{record} {video}");
    }
}

#[test]
fn what_an_index_would_refuse_with_its_post_is_left_out() {
    let record = json!({"embed": {"images": [7, {"image": {"size": 1_u64 << 31}, "aspectRatio": {"width": u64::MAX}}]}});
    assert_eq!(of(&record, &json!({})), (json!({"media": [{"media_type": "image"}]}), vec!["media"]));
    let record = json!({"embed": {"images": vec![json!({}); 20_000]}});
    let (fields, dropped) = of(&record, &json!({}));
    assert_eq!((fields["media"].as_array().map(Vec::len), dropped), (Some(MAX_IMAGES), vec!["media"]));
}

#[test]
fn half_a_surrogate_pair_does_not_affect_the_rest() {
    let added = added(ALL, r#"{"tags": ["a\ud83d"], "langs": ["en"]}"#, "");
    assert_eq!(added.get("hashtags"), Some(&json!(["a\u{fffd}"])));
}

#[test]
fn fields_that_are_not_requested_are_not_read() {
    let choice = FieldChoice { added: &["langs"], ..FieldChoice::default() };
    let record = r#"{"langs": ["en"], "tags": ["a"], "facets": 1}"#;
    assert_eq!(added(choice, record, "{").values, [("langs", json!(["en"]))]);
    assert_eq!(added(FieldChoice::default(), record, "{"), Added::default());
}

#[test]
fn every_name_of_add_field_has_a_reader() {
    let mut asked: Vec<_> = POST_FIELDS.iter().filter_map(|field| field.asked).collect();
    asked.dedup();
    assert_eq!(asked, READERS.iter().map(|reader| reader.asked).collect::<Vec<_>>());
}
