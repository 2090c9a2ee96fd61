//! Tests of reading and parsing lines of a dead-letter file.

use serde_json::{Value, json};

use super::*;

fn lines(text: &[u8], longest: usize) -> Vec<(u64, Option<Vec<u8>>)> {
    let mut lines = DeadLetterLines::new(BufReader::with_capacity(3, text), longest);
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        all.push((line.number, line.content.map(<[u8]>::to_vec)));
    }
    all
}

fn whole(number: u64, line: &[u8]) -> (u64, Option<Vec<u8>>) {
    (number, Some(line.to_vec()))
}

#[test]
fn blank_lines_are_skipped_and_the_last_line_needs_no_end() {
    assert_eq!(lines(b"\n  \na\n\t\r\n\n b\xff\r", 9), [whole(3, b"a"), whole(6, b" b\xff\r")]);
    assert_eq!(lines(b"", 9), []);
}

#[test]
fn a_line_over_the_limit_does_not_affect_others() {
    assert_eq!(lines(b"1234\n12345\n1234", 4), [whole(1, b"1234"), (2, None), whole(3, b"1234")]);
    assert_eq!(lines(b"1\n123456789", 4), [whole(1, b"1"), (2, None)]);
}

fn letter() -> Value {
    json!({
        "archive": "a_20251218_000000.db.zip", "row_id": 7, "at_uri": "at://x/1", "stage": "elasticsearch",
        "error_type": "document_parsing_exception", "reason": "since",
        "action": {"index": {"_index": "posts", "_id": "at://x/1", "version": 474061310263296007_u64,
            "version_type": "external_gte"}},
        "document": {"at_uri": "at://x/1", "content": "text"},
    })
}

fn parsed(letter: &Value) -> Result<Entry, String> {
    parse(letter.to_string().as_bytes(), Names::default())
}

#[test]
fn a_refused_document_is_sent_unchanged() {
    let line = letter().to_string().replace("\"text\"", r#""\ud83d  \u0041""#);
    let entry = parse(line.as_bytes(), Names::default()).unwrap();
    assert_eq!((entry.archive.as_str(), entry.row_id), ("a_20251218_000000.db.zip", 7));
    assert_eq!((entry.kind, entry.version.of_index()), (ActionKind::Post, 474_061_310_263_296_007));
    assert_eq!(entry.id, "at://x/1");
    assert!(entry.document.get().contains(r#""\ud83d  \u0041""#), "{}", entry.document);
}

#[test]
fn a_tombstone_is_recognized_by_its_index() {
    let mut tombstone = letter();
    tombstone["action"]["index"]["_index"] = json!("post_tombstones");
    assert_eq!(parsed(&tombstone).unwrap().kind, ActionKind::Tombstone);
}

#[test]
fn the_tombstone_of_an_account_is_recognized_by_its_did() {
    let mut tombstone = letter();
    tombstone["action"]["index"]["_index"] = json!("post_tombstones");
    tombstone["action"]["index"]["_id"] = json!("did:plc:x");
    tombstone["at_uri"] = json!("did:plc:x");
    assert!(parsed(&tombstone).unwrap_err().contains("deleted_at"));
    tombstone["document"]["deleted_at"] = json!("1970-01-01T00:00:01.234Z");
    assert!(parsed(&tombstone).unwrap_err().contains("at_uri"));
    tombstone["document"]["at_uri"] = json!("at://did:plc:x");
    tombstone["document"]["author_did"] = json!("did:plc:x");
    let entry = parsed(&tombstone).unwrap();
    assert_eq!((entry.kind, entry.author), (ActionKind::AccountTombstone { deleted_at: 1234 }, None));
}

#[test]
fn the_author_of_a_post_comes_from_its_document() {
    let mut post = letter();
    assert_eq!(parsed(&post).unwrap().author, None);
    post["document"]["author_did"] = json!("did:plc:x");
    assert_eq!(parsed(&post).unwrap().author.as_deref(), Some("did:plc:x"));
}

#[test]
fn lines_of_other_programs_are_not_sent() {
    let long = "x".repeat(MAX_ID_BYTES + 1);
    for (pointer, value, why) in [
        ("/stage", json!("decode"), "decode"),
        ("/archive", json!(null), "not a dead letter"),
        ("/action", json!(null), "no action"),
        ("/document", json!(null), "no document"),
        ("/document", json!("text"), "document"),
        ("/document/at_uri", json!("at://x/2"), "at_uri"),
        ("/at_uri", json!("at://x/2"), "at_uri"),
        ("/action", json!({"delete": {"_index": "posts", "_id": "at://x/1"}}), "delete"),
        ("/action/index/_index", json!("other"), "other"),
        ("/action/index/_id", json!(""), "0 bytes"),
        ("/action/index/_id", json!(long), "513 bytes"),
        ("/action/index/version", json!(1_u64 << 62), "version"),
        ("/action/index/version", json!(-1), "action"),
        ("/action/index/version_type", json!("internal"), "internal"),
    ] {
        let mut letter = letter();
        *letter.pointer_mut(pointer).unwrap() = value;
        let error = parsed(&letter).unwrap_err();
        assert!(error.contains(why), "{pointer}: {error}");
    }
    let mut routed = letter();
    routed["action"]["index"]["pipeline"] = json!("mine");
    assert!(parsed(&routed).unwrap_err().contains("pipeline"));
    let text = letter().to_string();
    for line in [&text.as_bytes()[..text.len() - 1], b"text", b"\xff", b"[]"] {
        assert!(parse(line, Names::default()).unwrap_err().contains("not a dead letter"));
    }
}

#[test]
fn a_file_is_recognized_by_a_dead_letter_among_its_first_lines() {
    let is_dead_letters = |text: &str| {
        let mut lines = DeadLetterLines::new(io::Cursor::new(text.as_bytes().to_vec()), 9999);
        let is = lines.are_dead_letters().unwrap();
        // The check rewinds the file.
        let first = lines.next_line().unwrap().map(|line| line.number);
        assert_eq!(first, (!text.is_empty()).then_some(1));
        is
    };
    let letter = format!("{}\n", letter());
    let damaged = "KEY=secret\n".repeat(FIRST_LINES - 1);
    assert!(is_dead_letters(""));
    assert!(is_dead_letters(&letter));
    assert!(is_dead_letters(&format!("{damaged}{letter}")));
    assert!(!is_dead_letters(&damaged));
    assert!(!is_dead_letters(&format!("{damaged}{{}}\n{letter}")));
}
