//! What a row becomes: a post, a deletion, nothing, or a dead letter.

use super::*;

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
fn an_account_deletion_uses_the_first_usable_did() {
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
fn an_empty_at_uri_is_skipped_even_if_raw_post_is_broken() {
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
fn a_field_too_long_to_read_is_rejected_with_its_size() {
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
fn an_at_uri_that_is_not_a_valid_id_is_rejected() {
    let text = real_post().to_string();
    assert_eq!(rejection(Row { at_uri: Field::Other, ..row(&text) }), "invalid_at_uri");
    assert_eq!(rejection(Row { at_uri: Field::Text(b"at://\xff"), ..row(&text) }), "invalid_at_uri");
    let id = "é".repeat(MAX_ID_BYTES / 2 + 1);
    let (fits, over) = (&id.as_bytes()[..MAX_ID_BYTES], id.as_bytes());
    assert_eq!(rejection(Row { at_uri: Field::Text(over), ..row(&text) }), "id_too_long");
    assert!(matches!(classify(&Row { at_uri: Field::Text(fits), ..row(&text) }), Verdict::Post(_)));
}

#[test]
fn a_row_id_too_large_for_a_version_is_rejected() {
    let text = real_post().to_string();
    for id in [i64::MIN, -1, MAX_ROW_ID, i64::MAX] {
        assert_eq!(rejection(Row { id, ..row(&text) }), "row_id_out_of_range");
    }
    for id in [0, MAX_ROW_ID - 1] {
        assert!(matches!(classify(&Row { id, ..row(&text) }), Verdict::Post(_)));
    }
}

#[test]
fn a_raw_post_that_is_not_json_is_rejected() {
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
fn a_rejection_names_the_position() {
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
fn an_unknown_operation_is_rejected() {
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
fn a_lone_surrogate_does_not_reject_the_row() {
    let text = real_post().to_string().replace("Hello", r"\ud83d\ude00 lone \ud83d surrogate \u0000 nul");
    assert_eq!(post(&text).content, "\u{1f600} lone \u{fffd} surrogate \0 nul \u{1f331} \"world\"");
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let text = real_post().to_string();
    let twice = |message: &str| format!("{},\"message\":{message}}}", &text[..text.len() - 1]);
    assert_eq!(rejection(row(&twice("null"))), "no_commit");
    assert_eq!(rejection(row(&twice("{\"commit\":{}}"))), "unknown_operation");
    assert_eq!(rejection(row(&twice("{\"commit\":{\"operation\":\"create\"}}"))), "no_record");
    let second = real_delete()["message"].to_string();
    assert_eq!(deletion(&twice(&second)).at_uri, URI);
}
