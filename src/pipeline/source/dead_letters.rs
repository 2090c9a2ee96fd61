//! The dead-letter file as a source: its lines one by one, and what can be sent again of each.
//!
//! The file is NDJSON, one [`DeadLetter`] a line. Only what this program wrote itself is sent again: an action line
//! that differs in anything from what it writes makes the line one that cannot be replayed.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::elasticsearch::{POSTS, TOMBSTONES};
use crate::files;
use crate::pipeline::decode::MAX_ID_BYTES;
use crate::pipeline::{ActionKind, DeadLetter, Version};
use crate::timestamp::parse_rfc3339_millis;

/// The longest line that is read, in bytes without its end. Documents have some 100 KB at most; a longer line
/// is none of this program's.
pub const LONGEST_LINE: usize = 64 << 20;

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'l> {
    /// Its number in the file, counted from 1; blank lines count.
    pub number: u64,
    /// The whole line without its end; None where it is over the limit.
    pub content: Option<&'l [u8]>,
}

/// Reads a file line by line, holding one of them at a time.
pub struct Lines<R> {
    reader: R,
    longest: usize,
    line: Vec<u8>,
    number: u64,
}

impl Lines<BufReader<File>> {
    /// Opens a file, to read only.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufReader::with_capacity(1 << 20, files::open(path)?), LONGEST_LINE))
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, of at most `longest` bytes each.
    pub fn new(reader: R, longest: usize) -> Self {
        Self { reader, longest, line: Vec::new(), number: 0 }
    }

    /// The next line that is not blank; None at the end of the file. The last line needs no end.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let room = (self.longest as u64).saturating_add(1);
            if self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            self.number = self.number.saturating_add(1);
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            } else if self.line.len() > self.longest {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(Line { number: self.number, content: None }));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, content: Some(&self.line) }));
            }
        }
    }
}

/// A document to be sent again.
#[derive(Debug)]
pub struct Entry {
    /// Name of the archive that it came from.
    pub archive: String,
    /// Row id within it.
    pub row_id: i64,
    /// What its action does.
    pub kind: ActionKind,
    /// The version of its action.
    pub version: Version,
    /// The `_id`, unescaped: the `at_uri`, or the DID of an account.
    pub id: String,
    /// The DID of a post's author, where it is known.
    pub author: Option<String>,
    /// The document as it stands, on one line.
    pub document: Box<RawValue>,
}

/// The action line of a post or a tombstone, exactly as this program writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionLine {
    index: IndexAction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexAction {
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_id")]
    id: String,
    version: u64,
    version_type: String,
}

/// What is looked at in a document.
#[derive(Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    at_uri: Cow<'d, str>,
    #[serde(borrow, default)]
    author_did: Cow<'d, str>,
    #[serde(borrow, default)]
    deleted_at: Cow<'d, str>,
}

/// Reads what can be sent again from a line.
///
/// # Errors
///
/// Why the line cannot be replayed, in words.
pub fn parse(line: &[u8]) -> Result<Entry, String> {
    let letter: DeadLetter =
        serde_json::from_slice(line).map_err(|error| format!("it is no dead letter: {error}"))?;
    if letter.stage != "elasticsearch" {
        return Err(format!("the stage {:?} refused it: there is no document to send", letter.stage));
    }
    let (Some(action), Some(document)) = (letter.action, letter.document) else {
        return Err("it has no action or no document".into());
    };
    let ActionLine { index: action } = serde_json::from_str(action.get())
        .map_err(|error| format!("its action is not one of this program: {error}"))?;
    if action.version_type != "external_gte" {
        return Err(format!("its action has the version type {:?}", action.version_type));
    }
    let version = Version::from_index_version(action.version)
        .ok_or_else(|| format!("its action has the version {}, which no document has", action.version))?;
    let id = action.id;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(format!("its _id has {} bytes: from 1 to {MAX_ID_BYTES} are allowed", id.len()));
    }
    let content: Document<'_> = serde_json::from_str(document.get())
        .map_err(|error| format!("its document is not one of this program: {error}"))?;
    let kind = kind(&action.index, &id, &content)?;
    let at_uri: &str = &content.at_uri;
    let named = match kind {
        ActionKind::AccountTombstone { .. } => at_uri.strip_prefix("at://").unwrap_or_default(),
        ActionKind::Post | ActionKind::Tombstone => at_uri,
    };
    if id != letter.at_uri || id != named {
        return Err("its _id is not its at_uri".into());
    }
    let has_author = kind == ActionKind::Post && !content.author_did.is_empty();
    let author = has_author.then(|| content.author_did.into_owned());
    Ok(Entry { archive: letter.archive, row_id: letter.row_id, kind, version, id, author, document })
}

/// What an action does, by its index and `_id`: that of an account is a DID, that of a post is none.
fn kind(index: &str, id: &str, document: &Document<'_>) -> Result<ActionKind, String> {
    match index {
        POSTS => Ok(ActionKind::Post),
        TOMBSTONES if id.starts_with("did:") => parse_rfc3339_millis(&document.deleted_at)
            .map(|deleted_at| ActionKind::AccountTombstone { deleted_at })
            .ok_or_else(|| format!("its deleted_at is {:?}, which is no time", document.deleted_at)),
        TOMBSTONES => Ok(ActionKind::Tombstone),
        other => Err(format!("its action is for the index {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lines(text: &[u8], longest: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::new(BufReader::with_capacity(3, text), longest);
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
    fn blank_lines_are_no_lines_and_the_last_one_needs_no_end() {
        assert_eq!(lines(b"\n  \na\n\t\r\n\n b\xff\r", 9), [whole(3, b"a"), whole(6, b" b\xff\r")]);
        assert_eq!(lines(b"", 9), []);
    }

    #[test]
    fn a_line_over_the_limit_costs_no_other() {
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
        parse(letter.to_string().as_bytes())
    }

    #[test]
    fn a_refused_document_is_sent_as_it_stands() {
        let line = letter().to_string().replace("\"text\"", r#""\ud83d  \u0041""#);
        let entry = parse(line.as_bytes()).unwrap();
        assert_eq!((entry.archive.as_str(), entry.row_id), ("a_20251218_000000.db.zip", 7));
        assert_eq!((entry.kind, entry.version.of_index()), (ActionKind::Post, 474_061_310_263_296_007));
        assert_eq!(entry.id, "at://x/1");
        assert!(entry.document.get().contains(r#""\ud83d  \u0041""#), "{}", entry.document);
    }

    #[test]
    fn a_tombstone_is_known_by_its_index() {
        let mut tombstone = letter();
        tombstone["action"]["index"]["_index"] = json!("post_tombstones");
        assert_eq!(parsed(&tombstone).unwrap().kind, ActionKind::Tombstone);
    }

    #[test]
    fn the_tombstone_of_an_account_is_known_by_its_did() {
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
    fn the_author_of_a_post_is_known_by_its_document() {
        let mut post = letter();
        assert_eq!(parsed(&post).unwrap().author, None);
        post["document"]["author_did"] = json!("did:plc:x");
        assert_eq!(parsed(&post).unwrap().author.as_deref(), Some("did:plc:x"));
    }

    #[test]
    fn what_this_program_did_not_write_is_not_sent() {
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for (pointer, value, why) in [
            ("/stage", json!("decode"), "decode"),
            ("/archive", json!(null), "no dead letter"),
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
            assert!(parse(line).unwrap_err().contains("no dead letter"));
        }
    }
}
