//! Stage 2: reads the rows of an archive's file.
//!
//! ```text
//! file ──read──▶ ArchiveBuffers ──zip.rs──▶ Image (image.rs), which SQLite reads in place ──sqlite.rs──▶ rows
//! ```
//!
//! Archives count as hostile (contract, section 7): everything read has a limit, nothing is written to disk, and no name
//! in an archive is ever used as a path.

use std::fmt;

mod buffers;
mod image;
mod mapping;
mod memory;
mod room;
mod row;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod zip;

pub use self::buffers::{ArchiveBuffers, bytes_declared, bytes_declared_in};
pub use self::image::Image;
pub use self::room::{NoRoom, Room, Rooms, beside_database, bytes_to_read};
pub use self::row::{Field, Row};
pub use self::schema::MAX_FIELD_BYTES;
pub use self::sqlite::{ALL_ROWS, Database};
pub use self::zip::{ArchiveLimits, LOG_SUFFIXES, Packed, check_downloaded};

/// Why an archive cannot be read. The text names the defect, not the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// The archive is damaged for good: not a zip, not an SQLite database, without the table, or with a corrupt page.
    Broken(String),
    /// The archive may be fine: it could not be opened or read, or there was no memory for it.
    Unavailable(String),
    /// Reading it takes this many bytes of memory, which is more than there is.
    NoRoom(u64),
}

impl ArchiveError {
    pub(super) fn broken(defect: impl Into<String>) -> Self {
        Self::Broken(defect.into())
    }

    pub(super) fn unreadable(why: impl fmt::Display) -> Self {
        Self::Unavailable(format!("cannot be read: {why}"))
    }

    pub(super) fn out_of_memory() -> Self {
        Self::Unavailable("there is no memory for it".to_owned())
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(text) | Self::Unavailable(text) => f.write_str(text),
            Self::NoRoom(bytes) => write!(f, "reading it takes {bytes} bytes of memory"),
        }
    }
}

impl std::error::Error for ArchiveError {}
