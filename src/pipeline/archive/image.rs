//! An unpacked database in memory, which SQLite reads in place.

use std::fmt;
use std::ops::Deref;

use libdeflater::Decompressor;

use super::memory::Memory;
use super::room::Rooms;
use super::{ArchiveError, Packed};

/// Bytes after the database: SQLite may read up to 256 bytes beyond the end of a corrupt page before it notices. Source:
/// its `unixFetch()`, which has the same rule for mapped files.
const SLACK_BYTES: usize = 256;

/// An unpacked database in memory.
pub struct Image(Memory);

impl Image {
    /// Unpacks a database and prepares it for SQLite.
    pub(super) fn unpack(
        packed: &Packed<'_>,
        inflater: &mut Decompressor,
        rooms: &Rooms,
    ) -> Result<Self, ArchiveError> {
        let len = packed.len();
        let mut memory = Memory::take(rooms, len.saturating_add(SLACK_BYTES))?;
        memory.fill(|memory| match memory.get_mut(..len) {
            Some(database) => packed.unpack_into(inflater, database),
            None => Err(ArchiveError::out_of_memory()),
        })?;
        let (database, slack) = memory.split_at_mut_checked(len).ok_or_else(ArchiveError::out_of_memory)?;
        check_last_page(database)?;
        forget_wal_mode(database);
        // Clears bytes of an earlier archive after the end of this one.
        slack.fill(0);
        memory.truncate(len);
        Ok(Self(memory))
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.len())
    }
}

/// Refuses a database that ends within a page, since SQLite would read zeros for the missing bytes without an error.
///
/// Source: SQLite, "Database File Format", section 1.3.2: bytes 16 and 17 are the page size, 1 means 65,536.
fn check_last_page(database: &[u8]) -> Result<(), ArchiveError> {
    let page_size = match database.get(16..18) {
        Some([0, 1]) => 65_536,
        Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    match database.len().checked_rem(page_size) {
        Some(0) => Ok(()),
        _ => Err(ArchiveError::broken("the database is cut off, or its page size is wrong")),
    }
}

/// Marks a database in WAL mode as one with a rollback journal.
///
/// SQLite cannot open a database in WAL mode from memory. A cleanly closed database has no WAL, and one with a WAL beside
/// it has already been refused. Source: SQLite, "Database File Format", section 1.3.3, and `sqlite3_deserialize()`, whose
/// documentation recommends this.
fn forget_wal_mode(database: &mut [u8]) {
    if let Some([2, 2]) = database.get(18..20)
        && let Some(versions) = database.get_mut(18..20)
    {
        versions.fill(1);
    }
}
