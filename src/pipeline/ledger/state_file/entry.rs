//! The entries of the state file, and what they say together.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::stamp::{Stamp, recorded_ns};
use super::text::Place;
use crate::common::timestamp::{now_millis, rfc3339_millis};
use crate::model::{Archive, Done};

/// An archive's mark in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Done.
    Processed,
    /// The archive was damaged when it was last read.
    Failed {
        /// What was wrong.
        error: String,
    },
}

/// An entry in the file.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct StateEntry {
    pub(super) filename: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) timestamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modified_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_time_us: Option<i64>,
}

/// The `filename` of the cursor's entry. No archive has this name.
pub(super) const CURSOR: &str = ".cursor";

/// The timestamp of the cursor's entry. The established tool refuses a file with an entry without one.
pub(super) const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// The object that later versions of the established tool write.
#[derive(Deserialize)]
pub(super) struct WithCursor<'t> {
    #[serde(borrow, default)]
    pub(super) files: Option<Vec<&'t RawValue>>,
    pub(super) cursor: Option<Cursor>,
    pub(super) last_time_us: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct Cursor {
    pub(super) last_time_us: i64,
}

/// The cursor, and totals over the entries.
#[derive(Debug)]
pub(super) struct Sums {
    /// The cursor in microseconds since 1970. Every archive up to this time is done.
    pub(super) cursor_us: Option<i64>,
    pub(super) all: Done,
    /// Totals over the entries with a timestamp before `since`.
    pub(super) earlier: Done,
    /// Some minutes before the file was read, formatted as a timestamp.
    pub(super) since: String,
}

impl Sums {
    /// Time after which an index shows the documents of a marked archive: most indices refresh within minutes.
    const SHOWN_AFTER_MILLIS: i64 = 10 * 60 * 1000;

    pub(super) fn new() -> Self {
        let since = rfc3339_millis(now_millis() - Self::SHOWN_AFTER_MILLIS);
        Self { cursor_us: None, all: Done::default(), earlier: Done::default(), since }
    }

    pub(super) fn add(&mut self, entry: &StateEntry) {
        self.cursor_us = self.cursor_us.max(entry.last_time_us);
        if entry.status != "processed" || entry.filename == CURSOR {
            return;
        }
        let rows = entry.rows.unwrap_or_default();
        self.all = Done { archives: self.all.archives + 1, rows: self.all.rows.saturating_add(rows) };
        // Both are UTC, in the same format down to the second.
        if entry.timestamp.as_bytes().get(..19) < self.since.as_bytes().get(..19) {
            self.earlier =
                Done { archives: self.earlier.archives + 1, rows: self.earlier.rows.saturating_add(rows) };
        }
    }
}

/// The mark of an archive. Kept small, since there may be a hundred thousand processed archives.
#[derive(Debug)]
pub(super) struct ArchiveState {
    /// The stamp, if recorded.
    pub(super) stamp: Option<Stamp>,
    /// The mark, and the place of the entry, which is replaced when the archive is marked again. None if it is processed.
    failed: Option<Box<(Mark, Place)>>,
}

impl ArchiveState {
    pub(super) fn new(mark: Mark, stamp: Option<Stamp>, place: Place) -> Self {
        let failed = (mark != Mark::Processed).then(|| Box::new((mark, place)));
        Self { stamp, failed }
    }

    pub(super) fn mark(&self) -> &Mark {
        self.failed.as_ref().map_or(&Mark::Processed, |failed| &failed.0)
    }

    pub(super) fn place(&mut self) -> Option<&mut Place> {
        self.failed.as_mut().map(|failed| &mut failed.1)
    }
}

impl StateEntry {
    /// Parses an entry into the archive's name, mark and stamp.
    pub(super) fn read(text: &[u8], sums: &mut Sums) -> Result<(String, Mark, Option<Stamp>), String> {
        let entry: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        sums.add(&entry);
        let stamp = Stamp::recorded(entry.size, entry.modified_ns, entry.etag.as_deref());
        let mark = match entry.status.as_str() {
            "processed" => Mark::Processed,
            "failed" => Mark::Failed { error: entry.error.unwrap_or_default() },
            other => return Err(format!("it has the unknown status {other:?}")),
        };
        Ok((base_name(&entry.filename).to_owned(), mark, stamp))
    }
}

/// Returns the file name that identifies an archive: other tools may have written a path or a key.
pub(super) fn base_name(filename: &str) -> &str {
    filename.rsplit('/').next().unwrap_or(filename)
}

pub(super) fn entry_of(archive: &Archive, status: &str) -> StateEntry {
    let etag = archive.etag.as_deref().map(str::to_owned);
    StateEntry {
        filename: archive.name.clone(),
        status: status.to_owned(),
        timestamp: rfc3339_millis(now_millis()),
        size: Some(archive.bytes),
        // An object's time is its upload time, which says nothing about its content.
        modified_ns: recorded_ns(archive).filter(|_| etag.is_none()),
        etag,
        ..StateEntry::default()
    }
}
