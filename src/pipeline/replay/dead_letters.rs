//! Reads a dead-letter file: line by line, each with the document to send again.
//!
//! The file is NDJSON, one [`DeadLetter`] per line. Only lines of this program are sent again: a line cannot be replayed
//! if its bulk action differs in anything from what this program writes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::common::timestamp::parse_rfc3339_millis;
use crate::files;
use crate::model::{ActionKind, DeadLetter, MAX_ID_BYTES, Names, Version};

/// The longest line that is read, in bytes without its end. Documents have at most about 100 KB, so this program never
/// writes a longer one.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Number of lines at the beginning of a file that are checked. If none of them is a dead letter, the file is rejected. A
/// crash damages only a line or two.
const FIRST_LINES: usize = 10;

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'l> {
    /// Its number in the file, from 1, including blank lines.
    pub number: u64,
    /// The line without its end. None if it is over the limit.
    pub content: Option<&'l [u8]>,
}

/// Reads a file line by line. Only one line is in memory.
pub struct DeadLetterLines<R> {
    reader: R,
    longest: usize,
    line: Vec<u8>,
    number: u64,
}

impl DeadLetterLines<BufReader<File>> {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufReader::with_capacity(1 << 20, files::open(path)?), MAX_LINE_BYTES))
    }
}

impl<R: BufRead> DeadLetterLines<R> {
    /// Reads lines of at most `longest` bytes from `reader`.
    pub fn new(reader: R, longest: usize) -> Self {
        Self { reader, longest, line: Vec::new(), number: 0 }
    }

    /// Returns the next line that is not blank, or None at the end of the file. The last line needs no line end.
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

impl<R: BufRead + Seek> DeadLetterLines<R> {
    /// Whether the file's first lines hold a dead letter, or the file has no lines. Rewinds the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn are_dead_letters(&mut self) -> io::Result<bool> {
        let mut is_empty = true;
        let mut any = false;
        for _ in 0..FIRST_LINES {
            let Some(line) = self.next_line()? else { break };
            is_empty = false;
            any |= line.content.is_some_and(|line| serde_json::from_slice::<DeadLetter>(line).is_ok());
        }
        self.reader.rewind()?;
        self.number = 0;
        Ok(is_empty || any)
    }
}

/// A document to send again.
#[derive(Debug)]
pub struct Entry {
    /// Name of the row's archive.
    pub archive: String,
    /// Row id within the archive.
    pub row_id: i64,
    /// The kind of its action.
    pub kind: ActionKind,
    /// The version of its action.
    pub version: Version,
    /// The `_id`, unescaped: the `at_uri`, or the DID of an account.
    pub id: String,
    /// The DID of a post's author, if known.
    pub author: Option<String>,
    /// The document, unchanged and on one line.
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

/// The members of a document that are used.
#[derive(Deserialize)]
struct SentDocument<'d> {
    #[serde(borrow)]
    at_uri: Cow<'d, str>,
    #[serde(borrow, default)]
    author_did: Cow<'d, str>,
    #[serde(borrow, default)]
    deleted_at: Cow<'d, str>,
}

/// Parses a line into the document to send again.
///
/// # Errors
///
/// Says why the line cannot be replayed.
pub fn parse(line: &[u8], names: Names) -> Result<Entry, String> {
    let letter: DeadLetter =
        serde_json::from_slice(line).map_err(|error| format!("it is not a dead letter: {error}"))?;
    if letter.stage != "elasticsearch" {
        return Err(format!("the stage {:?} rejected it: there is no document to send", letter.stage));
    }
    let (Some(action), Some(document)) = (letter.action, letter.document) else {
        return Err("it has no action or no document".into());
    };
    let ActionLine { index: action } = serde_json::from_str(action.get())
        .map_err(|error| format!("its action is not from this program: {error}"))?;
    if action.version_type != "external_gte" {
        return Err(format!("its action has the version type {:?}", action.version_type));
    }
    let version = Version::from_index_version(action.version).ok_or_else(|| {
        format!("its action has the version {}, which a document cannot have", action.version)
    })?;
    let id = action.id;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(format!("its _id has {} bytes: from 1 to {MAX_ID_BYTES} are allowed", id.len()));
    }
    let content: SentDocument<'_> = serde_json::from_str(document.get())
        .map_err(|error| format!("its document is not from this program: {error}"))?;
    let kind = kind(names, &action.index, &id, &content)?;
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

/// Returns the kind of an action by its index and `_id`. The `_id` of an account is a DID, the `_id` of a post is not.
fn kind(names: Names, index: &str, id: &str, document: &SentDocument<'_>) -> Result<ActionKind, String> {
    match index {
        posts if posts == names.posts => Ok(ActionKind::Post),
        other if other != names.tombstones => Err(format!(
            "its action is for the index {other:?}, but this run writes to others: name it with \
             --posts-index or --tombstones-index"
        )),
        _ if id.starts_with("did:") => parse_rfc3339_millis(&document.deleted_at)
            .map(|deleted_at| ActionKind::AccountTombstone { deleted_at })
            .ok_or_else(|| format!("its deleted_at is {:?}, which is not a time", document.deleted_at)),
        _ => Ok(ActionKind::Tombstone),
    }
}

#[cfg(test)]
mod tests;
