//! The fields of a post.

use super::*;

#[test]
fn a_create_becomes_a_post() {
    let text = real_post().to_string();
    let expected = Post {
        at_uri: URI,
        author_did: DID.into(),
        content: "Hello \u{1f331} \"world\"".into(),
        created_at: Some(1_761_827_696_789),
        thread_root_post: Some("at://root".into()),
        thread_parent_post: Some("at://parent".into()),
        quote_post: Some("at://quote".into()),
        dropped: Dropped::default(),
        record: "",
        scores: "",
        added: Added::default(),
    };
    let record: Value = serde_json::from_str(post(&text).record).unwrap();
    assert_eq!(record, real_post()["message"]["commit"]["record"]);
    assert_eq!(Post { record: "", scores: "", ..post(&text) }, expected);
    let update = with(real_post(), "/message/commit/operation", json!("update")).to_string();
    assert_eq!(Post { record: "", scores: "", ..post(&update) }, expected);
}

#[test]
fn the_scores_of_a_post_are_the_text_in_its_inferences() {
    let text = with(real_post(), "/inferences", json!({"text": {"topic": {"a": 0.5}}, "success": true}));
    assert_eq!(post(&text.to_string()).scores, r#"{"topic":{"a":0.5}}"#);
    for none in [json!(null), json!([]), json!({}), json!({"topic": {}})] {
        assert_eq!(post(&with(real_post(), "/inferences", none).to_string()).scores, "");
    }
}

#[test]
fn the_author_comes_from_the_column_or_else_the_message() {
    let text = with(real_post(), "/message/did", json!("did:plc:message")).to_string();
    assert_eq!(post(&text).author_did, DID);
    for did in [Field::Null, Field::Text(b""), Field::Text(b"\xff"), Field::Other] {
        let Verdict::Post(post) = classify(&Row { did, ..row(&text) }) else { panic!() };
        assert_eq!(post.author_did, "did:plc:message");
    }
    let text = with(real_post(), "/message/did", json!(5)).to_string();
    let Verdict::Post(post) = classify(&Row { did: Field::Null, ..row(&text) }) else { panic!() };
    assert_eq!(post.author_did, "");
}

#[test]
fn a_text_that_is_not_a_string_is_dropped_and_counted() {
    let record = "/message/commit/record/text";
    for value in [json!(1), json!({"a": 1}), json!(["text"]), json!(true)] {
        let text = with(real_post(), record, value).to_string();
        assert_eq!((post(&text).content, dropped(&post(&text))), ("".into(), vec!["content"]));
    }
    for document in [with(real_post(), record, json!(null)), without(real_post(), record)] {
        let text = document.to_string();
        assert_eq!((post(&text).content, dropped(&post(&text))), ("".into(), vec![]));
    }
}

#[test]
fn an_invalid_creation_time_is_dropped_and_counted() {
    let record = "/message/commit/record/createdAt";
    for value in ["", "yesterday", "2025-13-45T99:00:00Z", "2025-10-30"] {
        let text = with(real_post(), record, json!(value)).to_string();
        assert_eq!((post(&text).created_at, dropped(&post(&text))), (None, vec!["created_at"]), "{value}");
    }
    for document in [
        with(real_post(), record, json!(17)),
        with(real_post(), record, json!(null)),
        without(real_post(), record),
    ] {
        let text = document.to_string();
        assert_eq!((post(&text).created_at, dropped(&post(&text))), (None, vec!["created_at"]));
    }
    let text = with(real_post(), record, json!("0001-01-01T00:00:00Z")).to_string();
    assert_eq!((post(&text).created_at, dropped(&post(&text))), (Some(-62_135_596_800_000), vec![]));
}

#[test]
fn links_that_are_not_hydrated_come_from_the_record() {
    type Link = fn(Post<'static>) -> Option<Cow<'static, str>>;
    let links: [(&str, Link, &str); 3] = [
        ("reply_post", |post| post.thread_root_post, "at://record-root"),
        ("parent_post", |post| post.thread_parent_post, "at://record-parent"),
        ("quote_post", |post| post.quote_post, QUOTED),
    ];
    for (member, link, expected) in links {
        for value in
            [json!(null), json!({}), json!("at://x"), json!({"uri": ""}), json!({"uri": 1}), json!([])]
        {
            let text = with(real_post(), &format!("/hydrated_metadata/{member}"), value).to_string();
            assert_eq!(link(post(text.leak())).as_deref(), Some(expected), "{member}");
        }
    }
}

#[test]
fn missing_links_are_left_out() {
    let mut document = without(real_post(), "/hydrated_metadata");
    for member in ["reply", "embed"] {
        document =
            with(document, &format!("/message/commit/record/{member}"), json!({"root": 1, "record": []}));
    }
    let text = document.to_string();
    let post = post(&text);
    assert_eq!((post.thread_root_post, post.thread_parent_post, post.quote_post), (None, None, None));
}

#[test]
fn a_quote_with_media_is_one_level_deeper() {
    let embed = json!({"$type": "app.bsky.embed.recordWithMedia", "media": {"uri": "no"},
        "record": {"$type": "app.bsky.embed.record", "record": {"uri": QUOTED}}});
    let document = with(without(real_post(), "/hydrated_metadata"), "/message/commit/record/embed", embed);
    assert_eq!(post(&document.to_string()).quote_post.as_deref(), Some(QUOTED));
}

#[test]
fn lists_feeds_and_starter_packs_are_not_quotes() {
    let quote_of = |record: Value, hydrated: Value| {
        let document = with(real_post(), "/message/commit/record/embed/record", record);
        let document = with(document, "/hydrated_metadata/quote_post", hydrated);
        post(document.to_string().leak()).quote_post
    };
    for collection in [
        "app.bsky.graph.list",
        "app.bsky.feed.generator",
        "app.bsky.graph.starterpack",
        "app.bsky.feed.postgate",
    ] {
        let uri = format!("at://did:plc:other/{collection}/3m4");
        let (record, hydrated) = (json!({"uri": uri}), json!({"uri": uri}));
        assert_eq!(quote_of(record.clone(), json!(null)), None, "{uri}");
        assert_eq!(quote_of(json!({"record": record}), json!(null)), None, "{uri}");
        assert_eq!(quote_of(record.clone(), hydrated.clone()), None, "{uri}");
        // The other URI names a post and counts.
        assert_eq!(
            quote_of(json!({"uri": uri, "record": {"uri": QUOTED}}), hydrated).as_deref(),
            Some(QUOTED)
        );
        assert_eq!(quote_of(record, json!({"uri": QUOTED})).as_deref(), Some(QUOTED));
    }
    for uri in [
        "at://did:plc:other",
        "at://did:plc:other/app.bsky.feed.post",
        "app.bsky.feed.post",
        "https://x/app.bsky.feed.post/1",
    ] {
        assert_eq!(quote_of(json!({"uri": uri}), json!(null)), None, "{uri}");
    }
    let escaped = json!({"uri": QUOTED}).to_string().replace('/', "\\/");
    let text = real_post().to_string().replace(&json!({"uri": QUOTED}).to_string(), &escaped);
    let text = text.replace("at://quote", "");
    assert_eq!(post(&text).quote_post.as_deref(), Some(QUOTED));
}
