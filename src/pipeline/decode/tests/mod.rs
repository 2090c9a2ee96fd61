//! Tests of `classify`, rule by rule.

mod arbitrary;
mod posts;
mod verdicts;

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
