//! Tests of `classify`, rule by rule.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const URI: &str = "at://did:plc:author/app.bsky.feed.post/3m4abcdefgh2a";
const DID: &str = "did:plc:author";
const QUOTED: &str = "at://did:plc:other/app.bsky.feed.post/3m4record";

/// A realistic `raw_post`: a reply with a quote, all of it hydrated.
fn real_post() -> Value {
    let linked = |name: &str| json!({"uri": format!("at://{name}"), "cid": "bafy", "record": {"text": "x", "uri": "no"}});
    json!({
        "at_uri": URI, "did": DID, "time_us": null,
        "message": {"did": DID, "kind": "commit", "time_us": 1_761_827_696_789_000_i64, "commit": {
            "rev": "3m4a", "operation": "create", "collection": "app.bsky.feed.post", "rkey": "3m4abcdefgh2a",
            "record": {
                "createdAt": "2025-10-30T12:34:56.789Z", "text": "Hello \u{1f331} \"world\"", "langs": ["en"],
                "reply": {"root": {"uri": "at://record-root"}, "parent": {"uri": "at://record-parent"}},
                "embed": {"$type": "app.bsky.embed.record", "record": {"uri": QUOTED}},
            },
            "cid": "bafyrei",
        }},
        "hydrated_metadata": {
            "user": {"did": DID, "handle": "user.example", "pinned_post": {"uri": "no"}}, "mentions": {},
            "parent_post": linked("parent"), "reply_post": linked("root"), "quote_post": linked("quote"),
        },
        "inferences": {"text": {"topic": {"Topic 0 & Interest": 0.0123}}, "success": true},
    })
}

fn real_delete() -> Value {
    let commit =
        json!({"rev": "3m4a", "operation": "delete", "collection": "app.bsky.feed.post", "rkey": "3m4a"});
    json!({"message": {"did": DID, "kind": "commit", "time_us": 1_761_827_696_789_012_i64, "commit": commit}})
}

/// A document with the value at a JSON pointer replaced.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

/// A document without the member at a JSON pointer.
fn without(mut document: Value, pointer: &str) -> Value {
    let (object, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    document
}

fn row(raw_post: &str) -> Row<'_> {
    Row {
        id: 1,
        at_uri: Field::Text(URI.as_bytes()),
        did: Field::Text(DID.as_bytes()),
        raw_post: Field::Text(raw_post.as_bytes()),
        inferences: Field::Null,
    }
}

#[track_caller]
fn post(raw_post: &str) -> Post<'_> {
    match classify(&row(raw_post)) {
        Verdict::Post(post) => post,
        other => panic!("no post: {other:?}"),
    }
}

#[track_caller]
fn deletion(raw_post: &str) -> Deletion<'_> {
    match classify(&row(raw_post)) {
        Verdict::Delete(deletion) => deletion,
        other => panic!("no deletion: {other:?}"),
    }
}

/// The name under which a row is rejected.
#[track_caller]
fn rejection(row: Row<'_>) -> &'static str {
    match classify(&row) {
        Verdict::Reject(rejection) => rejection.name,
        other => panic!("no rejection: {other:?}"),
    }
}

#[track_caller]
fn rejected(raw_post: Value) -> &'static str {
    rejection(row(&raw_post.to_string()))
}

fn dropped(post: &Post<'_>) -> Vec<&'static str> {
    post.dropped.fields().collect()
}

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
fn the_order_of_keys_does_not_matter() {
    let document = real_post();
    let mut reversed = String::new();
    for (key, value) in document.as_object().unwrap().iter().rev() {
        reversed.push_str(&format!("{}{}: {value}", if reversed.is_empty() { "{" } else { "," }, json!(key)));
    }
    reversed.push('}');
    assert_ne!(reversed.find("message"), document.to_string().find("message"));
    let text = document.to_string();
    assert_eq!(
        Post { record: "", scores: "", ..post(&reversed) },
        Post { record: "", scores: "", ..post(&text) }
    );
}

#[test]
fn a_delete_becomes_a_deletion() {
    let text = real_delete().to_string();
    let expected = Deletion { at_uri: URI, author_did: DID.into(), deleted_at: Some(1_761_827_696_789) };
    assert_eq!(deletion(&text), expected);
    let with_record = with(real_post(), "/message/commit/operation", json!("delete")).to_string();
    assert_eq!(deletion(&with_record), expected);
}

#[test]
fn a_deletion_without_a_usable_time_has_none() {
    for time in [json!(null), json!("1761827696789012"), json!(1.5), json!(i64::MAX), json!({})] {
        let text = with(real_delete(), "/message/time_us", time).to_string();
        assert_eq!(deletion(&text).deleted_at, None, "{text}");
    }
    assert_eq!(deletion(&without(real_delete(), "/message/time_us").to_string()).deleted_at, None);
}

#[test]
fn an_account_event_is_skipped_whatever_else_the_row_holds() {
    let text = json!({"message": {"did": DID, "kind": "account", "account": {"active": false}}}).to_string();
    for at_uri in [Field::Null, Field::Text(b""), Field::Other, Field::Text(URI.as_bytes())] {
        let row = Row { at_uri, id: -1, ..row(&text) };
        assert_eq!(classify(&row), Verdict::Skip(SkipReason::AccountEvent));
    }
    assert_eq!(SkipReason::AccountEvent.name(), "account_event");
}

fn account_event(account: Value) -> String {
    let time_us = 1_761_827_696_789_012_i64;
    json!({"message": {"did": "did:plc:message", "kind": "account", "time_us": time_us, "account": account}})
        .to_string()
}

#[test]
fn the_deletion_of_an_account_has_the_first_did_that_can_be_used() {
    let text = account_event(json!({"active": false, "status": "deleted", "did": "did:plc:account"}));
    let long = format!("did:plc:{}", "x".repeat(MAX_ID_BYTES));
    let nowhere = text.replace("did:plc:message", "");
    for (column, text, expected) in [
        (Field::Text(DID.as_bytes()), &text, DID),
        (Field::Null, &text, "did:plc:message"),
        (Field::Text(URI.as_bytes()), &text, "did:plc:message"),
        (Field::Text(long.as_bytes()), &text, "did:plc:message"),
        (Field::Text(b"\xff"), &nowhere, "did:plc:account"),
    ] {
        let row = Row { did: column, at_uri: Field::Text(b""), ..row(text) };
        let expected = AccountDeletion { did: expected.into(), deleted_at: Some(1_761_827_696_789) };
        assert_eq!(classify(&row), Verdict::DeleteAccount(expected));
    }
}

#[test]
fn an_account_event_of_another_status_or_without_a_did_is_skipped() {
    let deleted = account_event(json!({"status": "deleted"}));
    let of_nobody = deleted.replace("did:plc:message", "nobody");
    for text in [
        account_event(json!({"status": "deactivated"})),
        account_event(json!({"status": ["deleted"]})),
        account_event(json!({"active": false})),
        account_event(json!("deleted")),
        of_nobody,
    ] {
        let row = Row { did: Field::Null, at_uri: Field::Text(b""), ..row(&text) };
        assert_eq!(classify(&row), Verdict::Skip(SkipReason::AccountEvent), "{text}");
    }
}

#[test]
fn an_empty_at_uri_is_skipped_even_where_raw_post_is_broken() {
    let text = real_post().to_string();
    for at_uri in [Field::Null, Field::Text(b"")] {
        for raw_post in [Field::Text(text.as_bytes()), Field::Text(b"{"), Field::Null, Field::Other] {
            let row = Row { at_uri, raw_post, ..row("") };
            assert_eq!(classify(&row), Verdict::Skip(SkipReason::EmptyAtUri));
        }
    }
    assert_eq!(SkipReason::EmptyAtUri.name(), "empty_at_uri");
}

#[test]
fn a_commit_of_another_collection_is_skipped_whatever_it_is() {
    let pointer = "/message/commit/collection";
    for collection in
        ["app.bsky.feed.threadgate", "app.bsky.feed.like", "app.bsky.feed.postgate", "app.bsky.feed.Post"]
    {
        for document in [real_post(), real_delete(), without(real_post(), "/message/commit/record")] {
            let text = with(document, pointer, json!(collection)).to_string();
            for id in [1, -1] {
                let row = Row { id, ..row(&text) };
                assert_eq!(classify(&row), Verdict::Skip(SkipReason::OtherCollection), "{text}");
            }
        }
    }
    assert_eq!(SkipReason::OtherCollection.name(), "other_collection");
    // A commit without a collection is taken for one of posts.
    for document in [
        without(real_post(), pointer),
        with(real_post(), pointer, json!(null)),
        with(real_post(), pointer, json!("")),
        with(real_post(), pointer, json!(["app.bsky.feed.like"])),
    ] {
        assert_eq!(post(document.to_string().leak()).at_uri, URI);
    }
}

#[test]
fn what_is_too_long_to_be_read_is_rejected_with_its_size() {
    let text = real_post().to_string();
    let bytes = 70 << 20;
    let Verdict::Reject(rejection) = classify(&Row { raw_post: Field::TooLong(bytes), ..row("") }) else {
        panic!()
    };
    let reason = "raw_post has 73400320 bytes, more than the limit of 67108864";
    assert_eq!(rejection, Rejection::new("too_long", reason));
    let Verdict::Reject(rejection) = classify(&Row { at_uri: Field::TooLong(bytes), ..row(&text) }) else {
        panic!()
    };
    assert_eq!(
        rejection,
        Rejection::new("id_too_long", "at_uri has 73400320 bytes, but an _id has at most 512")
    );
    let Verdict::Post(post) = classify(&Row { did: Field::TooLong(bytes), ..row(&text) }) else { panic!() };
    assert_eq!(post.author_did, DID);
}

#[test]
fn an_at_uri_that_is_no_id_is_rejected() {
    let text = real_post().to_string();
    assert_eq!(rejection(Row { at_uri: Field::Other, ..row(&text) }), "invalid_at_uri");
    assert_eq!(rejection(Row { at_uri: Field::Text(b"at://\xff"), ..row(&text) }), "invalid_at_uri");
    let id = "é".repeat(MAX_ID_BYTES / 2 + 1);
    let (fits, over) = (&id.as_bytes()[..MAX_ID_BYTES], id.as_bytes());
    assert_eq!(rejection(Row { at_uri: Field::Text(over), ..row(&text) }), "id_too_long");
    assert!(matches!(classify(&Row { at_uri: Field::Text(fits), ..row(&text) }), Verdict::Post(_)));
}

#[test]
fn a_row_id_that_a_version_has_no_room_for_is_rejected() {
    let text = real_post().to_string();
    for id in [i64::MIN, -1, MAX_ROW_ID, i64::MAX] {
        assert_eq!(rejection(Row { id, ..row(&text) }), "row_id_out_of_range");
    }
    for id in [0, MAX_ROW_ID - 1] {
        assert!(matches!(classify(&Row { id, ..row(&text) }), Verdict::Post(_)));
    }
}

#[test]
fn a_raw_post_that_is_no_json_text_is_rejected() {
    assert_eq!(rejection(Row { raw_post: Field::Null, ..row("") }), "null_raw_post");
    assert_eq!(rejection(Row { raw_post: Field::Other, ..row("") }), "wrong_type");
    assert_eq!(rejection(Row { raw_post: Field::Text(b"{\"a\": \"\xff\"}"), ..row("") }), "invalid_json");
    for text in ["", " ", r#"{"message": {"did": "#, "{} {}", "{\"a\": NaN}"] {
        assert_eq!(rejection(row(text)), "invalid_json", "{text}");
    }
    let text = real_post().to_string();
    for end in [text.len() - 1, text.len() / 2] {
        assert_eq!(rejection(row(&text[..end])), "invalid_json");
    }
}

#[test]
fn a_rejection_says_where() {
    let Verdict::Reject(Rejection { reason, .. }) = classify(&row("{\"message\": x}")) else { panic!() };
    assert_eq!(reason, "raw_post is not JSON: expected a value at byte 12");
    let Verdict::Reject(rejection) = classify(&row(&"[".repeat(1_000_000))) else { panic!() };
    assert_eq!(rejection, Rejection::new("too_deep", "raw_post has more than 128 levels at byte 128"));
}

#[test]
fn a_raw_post_without_a_commit_is_rejected() {
    assert_eq!(rejected(with(real_post(), "/message", json!(null))), "no_commit");
    assert_eq!(rejected(without(real_post(), "/message")), "no_commit");
    assert_eq!(rejected(without(real_post(), "/message/commit")), "no_commit");
    for value in [json!(null), json!([]), json!("create"), json!(1)] {
        assert_eq!(rejected(with(real_post(), "/message/commit", value)), "no_commit");
    }
    for document in [json!({}), json!([]), json!(null), json!("text")] {
        assert_eq!(rejected(document), "no_commit");
    }
}

#[test]
fn an_operation_that_is_none_of_three_is_rejected() {
    assert_eq!(rejected(without(real_post(), "/message/commit/operation")), "unknown_operation");
    for value in [json!(null), json!("Create"), json!(""), json!(1)] {
        assert_eq!(rejected(with(real_post(), "/message/commit/operation", value)), "unknown_operation");
    }
}

#[test]
fn a_create_without_a_record_is_rejected() {
    assert_eq!(rejected(without(real_post(), "/message/commit/record")), "no_record");
    for value in [json!(null), json!([]), json!("text")] {
        assert_eq!(rejected(with(real_post(), "/message/commit/record", value)), "no_record");
    }
}

#[test]
fn the_author_is_that_of_the_column_else_that_of_the_message() {
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
fn a_text_that_is_no_string_is_left_out_and_counted() {
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
fn a_creation_time_that_is_none_is_left_out_and_counted() {
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
fn each_link_that_is_not_hydrated_is_that_of_the_record() {
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
fn links_that_are_nowhere_are_left_out() {
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
fn the_quote_of_a_record_with_media_is_one_level_deeper() {
    let embed = json!({"$type": "app.bsky.embed.recordWithMedia", "media": {"uri": "no"},
        "record": {"$type": "app.bsky.embed.record", "record": {"uri": QUOTED}}});
    let document = with(without(real_post(), "/hydrated_metadata"), "/message/commit/record/embed", embed);
    assert_eq!(post(&document.to_string()).quote_post.as_deref(), Some(QUOTED));
}

#[test]
fn lists_feeds_and_starter_packs_are_no_quotes() {
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

#[test]
fn a_lone_surrogate_does_not_cost_the_row() {
    let text = real_post().to_string().replace("Hello", r"\ud83d\ude00 lone \ud83d surrogate \u0000 nul");
    assert_eq!(post(&text).content, "\u{1f600} lone \u{fffd} surrogate \0 nul \u{1f331} \"world\"");
}

#[test]
fn of_duplicate_keys_the_last_counts_as_a_whole() {
    let text = real_post().to_string();
    let twice = |message: &str| format!("{},\"message\":{message}}}", &text[..text.len() - 1]);
    assert_eq!(rejection(row(&twice("null"))), "no_commit");
    assert_eq!(rejection(row(&twice("{\"commit\":{}}"))), "unknown_operation");
    assert_eq!(rejection(row(&twice("{\"commit\":{\"operation\":\"create\"}}"))), "no_record");
    let second = real_delete()["message"].to_string();
    assert_eq!(deletion(&twice(&second)).at_uri, URI);
}

/// A document with some places overwritten by pieces that matter to it.
fn mutated_rows() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 11] = [b"{", b"}", b"\"", b",", b":", b"null", b"[", b"\\", b"\xff", b"1e9", b"{}"];
    let piece = prop::sample::select(&PIECES[..]);
    let cut = (any::<prop::sample::Index>(), 0..8_usize, piece);
    (any::<bool>(), prop::collection::vec(cut, 0..5)).prop_map(|(delete, cuts)| {
        let mut bytes = if delete { real_delete() } else { real_post() }.to_string().into_bytes();
        for (at, removed, inserted) in cuts {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted.iter().copied());
        }
        bytes
    })
}

fn fields() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        Just(Some(Vec::new())),
        any::<Vec<u8>>().prop_map(Some),
        mutated_rows().prop_map(Some)
    ]
}

proptest! {
    #[test]
    fn every_row_has_a_verdict_that_can_be_sent(
        id in any::<i64>(), at_uri in fields(), did in fields(), raw_post in prop_oneof![fields(), mutated_rows().prop_map(Some)]
    ) {
        fn field(bytes: &Option<Vec<u8>>) -> Field<'_> {
            bytes.as_deref().map_or(Field::Null, Field::Text)
        }
        for id in [id, 1] {
            for at_uri in [field(&at_uri), Field::Text(URI.as_bytes())] {
                let row = Row { id, at_uri, did: field(&did), raw_post: field(&raw_post), inferences: Field::Null };
                match classify(&row) {
                    Verdict::Post(Post { at_uri, .. }) | Verdict::Delete(Deletion { at_uri, .. }) => {
                        prop_assert!(!at_uri.is_empty() && at_uri.len() <= MAX_ID_BYTES);
                        prop_assert!((0..MAX_ROW_ID).contains(&id));
                        let text = str::from_utf8(raw_post.as_deref().unwrap_or_default()).unwrap();
                        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
                    }
                    Verdict::DeleteAccount(AccountDeletion { did, .. }) => {
                        prop_assert!(did.starts_with("did:") && did.len() <= MAX_ID_BYTES);
                    }
                    Verdict::Skip(_) => {}
                    Verdict::Reject(rejection) => prop_assert!(!rejection.name.is_empty() && !rejection.reason.is_empty()),
                }
            }
        }
    }

    #[test]
    fn arbitrary_inferences_never_panic(inferences in fields()) {
        let field = inferences.as_deref().map_or(Field::Other, Field::Text);
        let _ = EmbeddingDecoder::new().decode(field, "");
    }
}
