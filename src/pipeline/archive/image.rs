//! The memory that an inflated database lies in, and that SQLite reads it from, in place.
//!
//! A database has tens of megabytes, and memory is given out by the page: taken anew for each archive, page faults
//! cost a fifth of the CPU time of a whole run (measured: 22 % of 1.1 s for 8 archives of 40 MB). So a worker
//! keeps its memory from one archive to the next. (Large pages instead, or as well, save nothing measurable.)

use std::fmt;
use std::ops::Deref;

use crossbeam_channel::{Receiver, Sender, bounded};
use libdeflater::Decompressor;
use memmap2::MmapMut;

use super::{ArchiveError, Packed};

/// SQLite may read up to 256 bytes beyond the end of a page that is corrupt, before it notices. Source: its
/// `unixFetch()`, whose rule for files in memory this is.
const SLACK_BYTES: usize = 256;

/// Memory of more bytes is not kept.
const KEPT_BYTES: usize = 512 << 20;

/// Memory that was used before, one piece at most.
#[derive(Debug)]
pub(super) struct Spare {
    give: Sender<MmapMut>,
    take: Receiver<MmapMut>,
}

impl Spare {
    pub(super) fn new() -> Self {
        let (give, take) = bounded(1);
        Self { give, take }
    }

    /// Memory for so many bytes at least, of any content.
    fn take(&self, bytes: usize) -> Result<MmapMut, ArchiveError> {
        if let Some(spare) = self.take.try_recv().ok().filter(|spare| spare.len() >= bytes) {
            return Ok(spare);
        }
        // Room for a somewhat larger archive: those that follow each other are about of a size.
        MmapMut::map_anon(bytes.saturating_add(bytes / 8)).map_err(|_| ArchiveError::out_of_memory())
    }
}

/// An inflated database. Its memory goes back to who had it to spare.
pub struct Image {
    /// There until the end.
    memory: Option<MmapMut>,
    len: usize,
    home: Sender<MmapMut>,
}

impl Image {
    /// Unpacks a database, and makes it one that SQLite can open in memory.
    pub(super) fn unpack(
        packed: &Packed<'_>,
        inflater: &mut Decompressor,
        spare: &Spare,
    ) -> Result<Self, ArchiveError> {
        let len = packed.len();
        let memory = spare.take(len.saturating_add(SLACK_BYTES))?;
        let mut image = Self { memory: Some(memory), len, home: spare.give.clone() };
        let memory = image.memory.as_deref_mut().unwrap_or_default();
        let (database, slack) = memory.split_at_mut_checked(len).ok_or_else(ArchiveError::out_of_memory)?;
        packed.unpack_into(inflater, database)?;
        check_last_page(database)?;
        forget_wal_mode(database);
        // Nothing of an earlier archive is to be found behind the end of this one.
        slack.iter_mut().take(SLACK_BYTES).for_each(|byte| *byte = 0);
        Ok(image)
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().and_then(|memory| memory.get(..self.len)).unwrap_or_default()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take().filter(|memory| memory.len() <= KEPT_BYTES) {
            // Where a piece is kept already, this one is freed.
            let _ = self.home.try_send(memory);
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.len)
    }
}

/// Refuses a database that ends within a page: SQLite would read zeros for what is missing, and say nothing.
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
/// SQLite refuses to open a database in WAL mode from memory. One that was closed cleanly has nothing in its WAL,
/// and of any other one the last checkpoint is all that an archive holds. Source: SQLite, "Database File Format",
/// section 1.3.3, and `sqlite3_deserialize()`, which tells to do just this.
fn forget_wal_mode(database: &mut [u8]) {
    if let Some([2, 2]) = database.get(18..20)
        && let Some(versions) = database.get_mut(18..20)
    {
        versions.fill(1);
    }
}
