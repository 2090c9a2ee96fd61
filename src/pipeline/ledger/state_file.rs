//! The state file: which archives are done.
//!
//! A JSON array of `{"filename", "status": "processed"|"failed", "timestamp", "error"?}`, as the established tool
//! writes it, with fields of our own (`rows`, `size`, `modified_ns`) where they are useful. Entries that are not
//! ours to change are kept to the byte.
//!
//! Its later versions write an object: `{"files": […], "cursor": {"last_time_us": …}}`, then the cursor alone. A cursor
//! stands for every archive up to that time. A file that has one is saved in the first of these forms.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exit::Failure;
use crate::files::{self, real_path};
use crate::model::Archive;
use crate::timestamp::{now_millis, write_rfc3339_millis};

mod lock;

pub use lock::Lock;

/// What the file says of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Done.
    Processed,
    /// Broken when it was last read.
    Failed {
        /// Why.
        error: String,
        /// Its size then, where recorded.
        size: Option<u64>,
        /// Its modification time then (nanoseconds since 1970), where recorded.
        modified_ns: Option<i64>,
    },
}

impl Mark {
    /// Whether a failed archive is another one by now: its size or time has changed since.
    pub fn has_changed(&self, archive: &Archive) -> bool {
        match self {
            Mark::Processed => false,
            Mark::Failed { size, modified_ns, .. } => {
                size.is_some_and(|size| size != archive.bytes)
                    || modified_ns.is_some_and(|time| i128::from(time) != archive.modified_ns)
            }
        }
    }
}

/// An entry as it is read and written.
#[derive(Deserialize, Serialize)]
struct Entry {
    filename: String,
    status: String,
    #[serde(default)]
    timestamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified_ns: Option<i64>,
}

/// The state file in memory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The file without its last bracket, ready to be written: with a hundred thousand entries, putting it together
    /// anew for each save would cost more than writing it.
    text: Vec<u8>,
    /// What stands behind the last entry.
    end: &'static [u8],
    /// Every archive up to this time is done, microseconds since 1970.
    cursor_us: Option<i64>,
    /// By archive name: where its entry is in `text`, and what it says.
    known: HashMap<String, (Range<usize>, Mark)>,
}

/// The file as one of the later versions of the established tool writes it.
#[derive(Deserialize)]
struct WithCursor<'t> {
    #[serde(borrow, default)]
    files: Option<Vec<&'t RawValue>>,
    cursor: Option<Cursor>,
    last_time_us: Option<i64>,
}

#[derive(Deserialize)]
struct Cursor {
    last_time_us: i64,
}

/// The entries of a file of any form, and its cursor.
fn parse(text: &str) -> Result<(Vec<&RawValue>, Option<i64>), String> {
    if !text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map(|entries| (entries, None)).map_err(|error| error.to_string());
    }
    let WithCursor { files, cursor, last_time_us } =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let cursor = cursor.map(|cursor| cursor.last_time_us).or(last_time_us);
    if files.is_none() && cursor.is_none() {
        return Err("it is an object with neither files nor a cursor".to_owned());
    }
    Ok((files.unwrap_or_default(), cursor))
}

impl StateFile {
    /// Reads the file. A missing one is empty; anything that is not a state file is an error (exit code 2) and
    /// never taken for an empty one.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| unusable(path, &what);
        let path = followed(path)?;
        let mut state = Self {
            path: path.clone(),
            text: b"[".to_vec(),
            end: b"\n]\n",
            cursor_us: None,
            known: HashMap::new(),
        };
        let text = match files::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let (entries, cursor_us) = parse(&text).map_err(wrong)?;
        if let Some(cursor) = cursor_us {
            state.text = format!("{{\"cursor\": {{\"last_time_us\": {cursor}}}, \"files\": [").into_bytes();
            state.end = b"\n]}\n";
            state.cursor_us = cursor_us;
        }
        // Of several entries of an archive, the last one counts, in the place of the first.
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut kept: Vec<(String, &str, Mark)> = Vec::with_capacity(entries.len());
        for (i, raw) in entries.into_iter().enumerate() {
            let entry: Entry = serde_json::from_str(raw.get())
                .map_err(|error| wrong(format!("entry {} of its array: {error}", i + 1)))?;
            let known = match entry.status.as_str() {
                "processed" => Mark::Processed,
                "failed" => Mark::Failed {
                    error: entry.error.unwrap_or_default(),
                    size: entry.size,
                    modified_ns: entry.modified_ns,
                },
                other => return Err(wrong(format!("entry {} has the unknown status {other:?}", i + 1))),
            };
            let name = base_name(&entry.filename).to_owned();
            let place = *places.entry(name.clone()).or_insert(kept.len());
            match kept.get_mut(place) {
                Some(earlier) => *earlier = (name, raw.get(), known),
                None => kept.push((name, raw.get(), known)),
            }
        }
        kept.into_iter().for_each(|(name, text, known)| state.append(name, text, known));
        Ok(state)
    }

    /// What the file says of an archive of this name.
    pub fn get(&self, name: &str) -> Option<&Mark> {
        self.known.get(name).map(|(_, known)| known)
    }

    /// How many archives were done before a time (milliseconds since 1970), and how many rows they had where that is
    /// recorded.
    pub fn done_before(&self, millis: i64) -> (u64, u64) {
        let mut before = Vec::new();
        write_rfc3339_millis(&mut before, millis);
        let processed = self.known.values().filter(|(_, mark)| *mark == Mark::Processed);
        let entries = processed.filter_map(|(place, _)| {
            let entry: Entry = serde_json::from_slice(self.text.get(place.clone())?).ok()?;
            // Both are UTC, and down to the second written alike.
            (entry.timestamp.as_bytes().get(..19) < before.get(..19)).then_some(entry)
        });
        entries.fold((0, 0), |(archives, rows), entry| (archives + 1, rows + entry.rows.unwrap_or_default()))
    }

    /// Whether the file has a cursor that stands for this archive.
    pub fn is_before_cursor(&self, archive: &Archive) -> bool {
        let micros = archive.seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
        micros.zip(self.cursor_us).is_some_and(|(micros, cursor)| micros <= cursor)
    }

    /// Records that an archive is done, with the number of its rows.
    pub fn mark_processed(&mut self, archive: &Archive, rows: u64) {
        let mut entry = entry_of(archive, "processed");
        entry.rows = Some(rows);
        self.mark(entry, Mark::Processed);
    }

    /// Records that an archive is broken.
    pub fn mark_failed(&mut self, archive: &Archive, error: &str) {
        let mut entry = entry_of(archive, "failed");
        let modified_ns = i64::try_from(archive.modified_ns).ok();
        entry.error = Some(error.to_owned());
        entry.size = Some(archive.bytes);
        entry.modified_ns = modified_ns;
        self.mark(entry, Mark::Failed { error: error.to_owned(), size: Some(archive.bytes), modified_ns });
    }

    fn mark(&mut self, entry: Entry, known: Mark) {
        // Text and numbers: this cannot fail to be written as JSON.
        let text = serde_json::to_string(&entry).unwrap_or_default();
        match self.known.get(&entry.filename).map(|(place, _)| place.clone()) {
            None => self.append(entry.filename, &text, known),
            Some(place) => {
                self.known.insert(entry.filename, (place.clone(), known));
                self.replace(place, &text);
            }
        }
    }

    fn append(&mut self, name: String, text: &str, known: Mark) {
        self.text.extend_from_slice(if self.known.is_empty() { b"\n  " } else { b",\n  " });
        let start = self.text.len();
        self.text.extend_from_slice(text.as_bytes());
        self.known.insert(name, (start..self.text.len(), known));
    }

    /// Puts another text in the place of an entry, and moves those behind it.
    fn replace(&mut self, old: Range<usize>, text: &str) {
        self.text.splice(old.clone(), text.bytes());
        let moved = |position: usize| position - old.len() + text.len();
        for (place, _) in self.known.values_mut() {
            if place.start > old.start {
                *place = moved(place.start)..moved(place.end);
            } else if place.start == old.start {
                place.end = moved(place.end);
            }
        }
    }

    /// Where it is, without any link.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file as a whole, durably: after a crash the old or the new one is there.
    pub fn save(&mut self) -> io::Result<()> {
        let length = self.text.len();
        self.text.extend_from_slice(self.end);
        let saved = files::replace(&self.path, &self.text);
        self.text.truncate(length);
        saved
    }
}

/// A state file by its own name: a link is followed once and for all, so that a save replaces the file and not the
/// link, and that there is one lock whatever the file is called by. One that leads nowhere is not taken for an empty
/// file: the volume that it is on may not be mounted.
fn followed(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_symlink() && !path.exists() {
        let what =
            "it is a link to a file that is not there; where there has never been one, write [] into it";
        return Err(unusable(path, what));
    }
    Ok(real_path(path))
}

fn unusable(path: &Path, what: &str) -> Failure {
    Failure::usage(format!(
        "the state file {} cannot be used: {what}; repair it, restore a copy, or name another one in SPOOL_STATE_FILE",
        path.display()
    ))
}

/// Archives are known by their file name; other tools may have written a path or a key.
fn base_name(filename: &str) -> &str {
    filename.rsplit('/').next().unwrap_or(filename)
}

fn entry_of(archive: &Archive, status: &str) -> Entry {
    let mut timestamp = Vec::new();
    write_rfc3339_millis(&mut timestamp, now_millis());
    Entry {
        filename: archive.name.clone(),
        status: status.to_owned(),
        timestamp: String::from_utf8(timestamp).unwrap_or_default(),
        error: None,
        rows: None,
        size: None,
        modified_ns: None,
    }
}

#[cfg(test)]
mod tests;
