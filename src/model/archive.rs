//! Archives: what identifies one, what its name says, and which of those found a run takes up.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use super::MAX_ARCHIVE_SECONDS;
use crate::timestamp;

/// What the name of an archive ends in.
pub const ARCHIVE_SUFFIX: &str = ".db.zip";

/// Whether a file has the name of an archive.
pub fn has_archive_suffix(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(ARCHIVE_SUFFIX.as_bytes())
}

/// The time in an archive's file name, seconds since 1970: the last `YYYYMMDD_HHMMSS` (UTC) in it for which a
/// [`Version`](super::Version) has room.
pub fn archive_seconds(name: &str) -> Option<i64> {
    timestamp::last_in_name(name, 0..MAX_ARCHIVE_SECONDS)
}

/// An archive to take up: where it is and what identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The file name, without a folder: what identifies the archive in the state file.
    pub name: String,
    /// Where to read it; empty for an archive in a bucket, whose key is no path.
    pub path: PathBuf,
    /// The time in its name, seconds since 1970 (UTC), where the name has one that a version has room for.
    pub seconds: Option<i64>,
    /// Size in bytes when it was discovered.
    pub bytes: u64,
    /// Modification time when it was discovered, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Which state of an object it is; None for files, and where the listing does not tell.
    pub etag: Option<Box<str>>,
}

/// Archives by what is to be done with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// To be taken up, in order.
    pub take: Vec<Arc<Archive>>,
    /// To be taken up once they have stopped changing.
    pub settling: u64,
    /// To be taken up once they may take more memory; told of before.
    pub too_large: u64,
    /// Marked `processed`.
    pub already_done: u64,
    /// The latest time of those, seconds since 1970.
    pub newest_done: Option<i64>,
    /// Marked `failed` and left alone.
    pub failed: u64,
    /// Another shard's.
    pub other_shard: u64,
    /// Of times that are not asked for, or without a time where some are asked for.
    pub other_times: u64,
    /// More than are asked for.
    pub beyond_limit: u64,
}

/// What archives have brought that are marked as processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many archives.
    pub archives: u64,
    /// Rows of those whose rows are recorded.
    pub rows: u64,
}
