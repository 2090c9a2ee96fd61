//! Archives: what identifies them, the time in their names, and how a run selects them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use super::MAX_ARCHIVE_SECONDS;
use crate::common::timestamp;

/// The suffix of archive file names.
pub const ARCHIVE_SUFFIX: &str = ".db.zip";

/// Whether a file name has the suffix of an archive.
pub fn has_archive_suffix(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(ARCHIVE_SUFFIX.as_bytes())
}

/// Parses the time in an archive's file name, in seconds since 1970: the last `YYYYMMDD_HHMMSS` (UTC) that fits into a
/// [`Version`](super::Version).
pub fn archive_seconds(name: &str) -> Option<i64> {
    timestamp::last_in_name(name, 0..MAX_ARCHIVE_SECONDS)
}

/// Returns an ETag without quotes and weakness mark, for comparison: servers write the same one in different forms.
pub fn bare_etag(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// An archive: where it is and what identifies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// The file name without its folder. Identifies the archive in the state file.
    pub name: String,
    /// The path to read it from; empty for an object in a bucket.
    pub path: PathBuf,
    /// The time in its name, in seconds since 1970 (UTC); None if there is none that fits into a version.
    pub seconds: Option<i64>,
    /// The size when it was found, in bytes.
    pub bytes: u64,
    /// The modification time when it was found, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// The ETag of an object. None for a file, or if the listing has no ETag.
    pub etag: Option<Box<str>>,
}

/// What shows a change of a file: its size in bytes, and its modification time in nanoseconds since 1970.
pub type FileState = (u64, i128);

impl Archive {
    /// Returns the state of its file when it was found.
    pub fn state(&self) -> FileState {
        (self.bytes, self.modified_ns)
    }
}

/// The archives that a look found, by what to do with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Archives to read, in order.
    pub take: Vec<Arc<Archive>>,
    /// Archives that may still be changing. A later look takes them.
    pub settling: u64,
    /// Archives that need more memory than there is. They have already been reported.
    pub too_large: u64,
    /// Archives whose files cannot be looked at for now. They have already been reported.
    pub unreadable: u64,
    /// Archives marked `processed`.
    pub already_done: u64,
    /// The latest time of the processed archives, in seconds since 1970.
    pub newest_done: Option<i64>,
    /// Archives marked `failed`, which are not retried.
    pub failed: u64,
    /// Archives of other shards.
    pub other_shard: u64,
    /// Archives outside the requested time range, or without a time if a range is requested.
    pub other_times: u64,
    /// Archives beyond `--limit`.
    pub beyond_limit: u64,
    /// Archives that earlier looks took and that are not done yet. They are counted nowhere else.
    pub under_way: UnderWay,
}

/// Archives that have been taken but are not done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Number of archives.
    pub archives: u64,
    /// Their total size, in bytes.
    pub bytes: u64,
}

/// Totals over the archives marked `processed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Number of archives.
    pub archives: u64,
    /// Number of rows, over the archives for which it is recorded.
    pub rows: u64,
}
