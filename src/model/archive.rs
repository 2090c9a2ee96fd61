//! Archives: what identifies them, the time in their names, and how a run selects them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use super::MAX_ARCHIVE_SECONDS;
use crate::timestamp;

/// The ending of an archive's file name.
pub const ARCHIVE_SUFFIX: &str = ".db.zip";

/// Whether a file is named like an archive.
pub fn has_archive_suffix(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(ARCHIVE_SUFFIX.as_bytes())
}

/// The time in an archive's file name, in seconds since 1970: the last `YYYYMMDD_HHMMSS` (UTC) in it that fits into a
/// [`Version`](super::Version).
pub fn archive_seconds(name: &str) -> Option<i64> {
    timestamp::last_in_name(name, 0..MAX_ARCHIVE_SECONDS)
}

/// An archive: where it is and what identifies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// The file name without a folder. Identifies the archive in the state file.
    pub name: String,
    /// Path to read it from; empty for an object, whose key is not a path.
    pub path: PathBuf,
    /// The time in its name, in seconds since 1970 (UTC), if there is one that fits into a version.
    pub seconds: Option<i64>,
    /// Size in bytes when it was found.
    pub bytes: u64,
    /// Time of the last modification when it was found, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Identifies the state of an object. None: a file, or the listing has no ETag.
    pub etag: Option<Box<str>>,
}

/// Found archives by what to do with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// To be read, in order.
    pub take: Vec<Arc<Archive>>,
    /// To be read once they have stopped changing.
    pub settling: u64,
    /// To be read once there is more memory. Reported before.
    pub too_large: u64,
    /// To be read once they can be looked at. Reported before.
    pub unreadable: u64,
    /// Marked `processed`.
    pub already_done: u64,
    /// The latest time of those, in seconds since 1970.
    pub newest_done: Option<i64>,
    /// Marked `failed`, and not retried.
    pub failed: u64,
    /// Belong to another shard.
    pub other_shard: u64,
    /// Outside of the requested times, or without a time if some are requested.
    pub other_times: u64,
    /// Beyond the requested number.
    pub beyond_limit: u64,
    /// Taken up by earlier looks, and not done yet. None of them is counted elsewhere.
    pub under_way: UnderWay,
}

/// Archives that have been taken up and are not done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Their number.
    pub archives: u64,
    /// Their size together (bytes).
    pub bytes: u64,
}

/// The sums of the archives marked as processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Number of archives.
    pub archives: u64,
    /// Rows of the archives for which they are recorded.
    pub rows: u64,
}
