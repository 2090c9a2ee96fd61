//! Rows: `at_uri`, `raw_post` and `inferences`, separated by NUL.

use std::cell::RefCell;

use megastream_ingest::model::Names;
use megastream_ingest::model::{Action, ActionKind, Document, MAX_ID_BYTES, Tombstone, Version};
use megastream_ingest::pipeline::archive::{Field, Row};
use megastream_ingest::pipeline::decode::{EmbeddingDecoder, Verdict, classify};
use megastream_ingest::sink::elasticsearch::encode::VectorEncoding;
use megastream_ingest::sink::elasticsearch::encode::action::write_delete;
use megastream_ingest::sink::elasticsearch::encode::document::write_action;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::harness::fuzz;
use super::mutation::{Format, no_fields, words};
use super::vectors::{encode, vector};

const POST: &str = r#"{"at_uri":"at://a","message":{"did":"did:plc:a","kind":"commit","time_us":1766016001234567,
    "commit":{"operation":"create","record":{"text":"\ud83d\ude00 \ud800 \u0000 \"x\"","langs":["en"],
    "createdAt":"2025-10-30T12:34:56.789+09:00","reply":{"root":{"uri":"at://r"},"parent":{"uri":"at://p"}},
    "embed":{"record":{"record":{"uri":"at://q"}}}}}},"hydrated_metadata":{"reply_post":{"uri":"at://h"},
    "parent_post":null,"quote_post":{"uri":""},"user":{"n":[1,-2.5e10,true,false,null,{}]}}}"#;
const DELETE: &str =
    r#"{"message":{"did":"did:plc:a","kind":"commit","time_us":-1,"commit":{"operation":"delete"}}}"#;
const ACCOUNT: &str =
    r#"{"message":{"kind":"account","account":{"status":"deleted","did":"did:plc:a"},"time_us":1}}"#;

#[test]
fn rows() {
    let vectors = format!(
        r#"{{"text_embeddings":{{"all-MiniLM-L6-v2":"{}","all-MiniLM-L12-v2":"{}","other":[1]}}}}"#,
        encode(&vector(1)),
        encode(&vector(2))
    );
    let base =
        |at_uri: &str, raw: &str, inferences: &str| format!("{at_uri}\0{raw}\0{inferences}").into_bytes();
    let format = Format {
        bases: vec![
            base("at://did:plc:a/app.bsky.feed.post/1", POST, &vectors),
            base("at://b\n\"\\\u{2028}", POST, "{}"),
            base("at://c", DELETE, "[]"),
            base("", ACCOUNT, "null"),
            base(&"x".repeat(MAX_ID_BYTES + 1), POST, "{"),
            base("at://d", &"[".repeat(200_000), "{}"),
            base("at://e", &r#"{"message":"#.repeat(127), &"{\"a\":".repeat(20_000)),
            base("at://f", &format!(r#"{{"message":{{"time_us":{}}}}}"#, "9".repeat(100_000)), "{}"),
        ],
        words: words(&[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            ":",
            "\\",
            "\\u",
            "\\ud800",
            "\\udc00",
            "\\u0000",
            "null",
            "true",
            "-",
            "1e",
            "0.",
            "01",
            "NaN",
            "1e999",
            "-0",
            "9223372036854775808",
            "\n",
            "\u{1}",
            "\u{feff}",
            "\0",
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
            "\"message\":",
            "\"commit\":",
            "\"record\":",
            "\"text\":",
            "\"operation\":\"delete\"",
            "\"kind\":\"account\"",
            "\"createdAt\":",
            "9999-12-31T23:59:60+23:59",
            "\"text_embeddings\":",
            "did:plc:",
            "\u{fffd}",
            "\u{10ffff}",
        ]),
        fields: no_fields,
    };
    let decoder = RefCell::new(EmbeddingDecoder::new());
    fuzz("rows", &format, |bytes| check(bytes, &mut decoder.borrow_mut()));
}

fn check(bytes: &[u8], decoder: &mut EmbeddingDecoder) -> bool {
    let mut fields = bytes.splitn(3, |byte| *byte == 0);
    let mut field = || fields.next().map_or(Field::Null, Field::Text);
    let (at_uri, raw_post, inferences) = (field(), field(), field());
    let row = Row { id: 7, at_uri, did: Field::Null, raw_post, inferences };
    let is_json = |field: Field<'_>| {
        field.bytes().is_some_and(|bytes| serde_json::from_slice::<IgnoredAny>(bytes).is_ok())
            && field.bytes().is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
    };
    let version = Version::new(1_766_016_001, row.id).expect("a version");
    let mut lines = Vec::new();
    let verdict = classify(&row);
    match &verdict {
        Verdict::Post(post) => {
            assert!(is_json(raw_post), "invalid JSON became a post");
            let embeddings = decoder.decode(inferences, post.scores);
            assert_eq!(embeddings.dropped.inferences == 0, is_json_of_some_depth(inferences, is_json));
            for encoding in [VectorEncoding::Array, VectorEncoding::Base64] {
                let action = Action::new(ActionKind::Post, version, post.at_uri);
                let document = Document::Post { post, embeddings: &embeddings };
                write_action(&mut lines, Names::default(), &action, &document, encoding, 0);
            }
            check_lines(&lines, 4, at_uri);
        }
        Verdict::Delete(deletion) => {
            assert!(is_json(raw_post), "invalid JSON became a deletion");
            let (at_uri_of, author_did) = (deletion.at_uri.into(), deletion.author_did.clone());
            let tombstone = Tombstone { at_uri: at_uri_of, author_did, deleted_at: 0 };
            let action = Action::new(ActionKind::Tombstone, version, deletion.at_uri);
            write_action(
                &mut lines,
                Names::default(),
                &action,
                &Document::Tombstone(&tombstone),
                VectorEncoding::Array,
                0,
            );
            check_lines(&lines, 2, at_uri);
            lines.clear();
            write_delete(&mut lines, "posts", deletion.at_uri, version);
            check_lines(&lines, 1, at_uri);
        }
        Verdict::Reject(rejection) if rejection.name == "invalid_json" => {
            assert!(!is_json(raw_post), "valid JSON was rejected as invalid: {}", rejection.reason);
        }
        Verdict::DeleteAccount(_) | Verdict::Skip(_) | Verdict::Reject(_) => {}
    }
    matches!(verdict, Verdict::Post(_) | Verdict::Delete(_))
}

/// Asserts that inferences are readable if absent or JSON; only JSON with too many levels is not.
fn is_json_of_some_depth(inferences: Field<'_>, is_json: impl Fn(Field<'_>) -> bool) -> bool {
    let Some(bytes) = inferences.bytes() else { return inferences == Field::Null };
    let deepest = bytes.iter().scan(0_i64, |depth, byte| {
        *depth += i64::from(matches!(byte, b'[' | b'{')) - i64::from(matches!(byte, b']' | b'}'));
        Some(*depth)
    });
    // Brackets within strings count here, too, so such an input proves nothing.
    if deepest.max().unwrap_or(0) > 128 {
        let mut decoder = EmbeddingDecoder::new();
        return decoder.decode(inferences, "").dropped.inferences == 0;
    }
    is_json(inferences)
}

/// Asserts that there are `count` lines of JSON objects, and that the first and the document name the row.
fn check_lines(lines: &[u8], count: usize, at_uri: Field<'_>) {
    let text = std::str::from_utf8(lines).expect("a body in UTF-8");
    assert!(text.ends_with('\n'));
    let values: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(values.len(), count);
    let at_uri = std::str::from_utf8(at_uri.bytes().unwrap_or_default()).expect("an id in UTF-8");
    for value in values {
        let object = value.as_object().expect("an object");
        let id = match object.get("index").or(object.get("delete")) {
            Some(action) => action.get("_id"),
            None => object.get("at_uri"),
        };
        assert_eq!(id.and_then(Value::as_str), Some(at_uri));
    }
}
