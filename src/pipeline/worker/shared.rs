//! An archive that several workers may read at once: the ranges of its rows, and the results of its readers.

use std::collections::BTreeMap;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::superseded::Superseded;
use crate::common::mutex::Mutex;
use crate::model::{Archive, ArchiveEnd, Outcomes, Version};
use crate::pipeline::archive::{ArchiveError, Database, Image, Room, bytes_to_read};

/// Number of rows in a range. It takes a few milliseconds, so readers end at about the same time, and finding its first
/// row takes far less. It fills several batches, so small archives do not cause smaller ones.
const RANGE_ROWS: u64 = 256;

/// Memory for each row while an archive is read, in bytes: its hash, twice while the list grows, and its status.
const ROW_BYTES: u64 = 65;

/// Number of rows between two checks for more memory.
const ROWS_PER_CHECK: u64 = 1 << 16;

/// The last deletion of each account by DID: version, and time in milliseconds since 1970.
pub(super) type Accounts = BTreeMap<String, (Version, i64)>;

/// An archive being read.
pub(super) struct Shared {
    pub(super) archive: Arc<Archive>,
    pub(super) image: Arc<Image>,
    /// Memory reserved for the archive. Declared after the image, so that it is released later.
    _room: Room,
    /// The archive's time, in seconds since 1970.
    pub(super) seconds: i64,
    pub(super) superseded: Superseded,
    /// Number of all rows.
    rows: u64,
    state: Mutex<State>,
}

struct State {
    /// Ranges of row ids that no reader has taken yet, in reverse order.
    ranges: Vec<RangeInclusive<i64>>,
    readers: usize,
    found: ReadRows,
}

/// The results of readers.
#[derive(Default)]
pub(super) struct ReadRows {
    pub(super) outcomes: Outcomes,
    pub(super) accounts: Accounts,
    /// Number of batches sent, and of outcomes reported before the end.
    pub(super) batches: u64,
    /// Why the reading is not complete. None if it is.
    pub(super) end: Option<ArchiveEnd>,
}

impl ReadRows {
    /// Adds the results of another reader.
    pub(super) fn add(&mut self, other: ReadRows) {
        self.outcomes += other.outcomes;
        self.batches += other.batches;
        for (did, deletion) in other.accounts {
            let superseded = keep_last(&mut self.accounts, did, deletion);
            self.outcomes.tally.superseded += u64::from(superseded);
        }
        // A damaged archive counts as damaged, whatever ended the other readers.
        let is_broken = |end: &Option<ArchiveEnd>| matches!(end, Some(ArchiveEnd::Broken(_)));
        if self.end.is_none() || is_broken(&other.end) && !is_broken(&self.end) {
            self.end = other.end;
        }
    }
}

/// Keeps the last deletion of an account, the one with the highest version. Returns whether that supersedes one.
pub(super) fn keep_last(accounts: &mut Accounts, did: String, deletion: (Version, i64)) -> bool {
    let earlier = accounts.get(&did).copied();
    accounts.insert(did, earlier.map_or(deletion, |earlier| earlier.max(deletion)));
    earlier.is_some()
}

impl Shared {
    /// Scans the rows of an archive and divides them into ranges. The calling worker is its first reader. Releases the part
    /// of the room that reading does not take.
    pub(super) fn new(
        archive: Arc<Archive>,
        image: Arc<Image>,
        database: &Database,
        seconds: i64,
        mut room: Room,
    ) -> Result<Self, ArchiveError> {
        let mut ranges: Vec<RangeInclusive<i64>> = Vec::new();
        let mut rows = 0;
        let size = image.len() as u64;
        let superseded = Superseded::find(database, |row_id| {
            match ranges.last_mut().filter(|_| rows % RANGE_ROWS != 0) {
                Some(range) => *range = *range.start()..=row_id,
                None => ranges.push(row_id..=row_id),
            }
            rows += 1;
            if rows % ROWS_PER_CHECK == 0 { make_room(&mut room, size, rows) } else { Ok(()) }
        })?;
        room.shrink_to(bytes_to_read(0, size).max(bytes_with(size, rows)));
        ranges.reverse();
        let state = Mutex::new(State { ranges, readers: 1, found: ReadRows::default() });
        Ok(Self { archive, image, _room: room, seconds, superseded, rows, state })
    }

    /// Returns the number of all rows.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there is work for another reader.
    pub(super) fn wants_help(&self) -> bool {
        self.state.lock().ranges.len() > 1
    }

    /// Makes the caller a reader, unless nothing is left to read. Each reader must call [`Self::leave`].
    pub(super) fn join(&self) -> bool {
        let mut state = self.state.lock();
        let joins = !state.ranges.is_empty();
        state.readers += usize::from(joins);
        joins
    }

    /// Takes the next range of row ids.
    pub(super) fn next_range(&self) -> Option<RangeInclusive<i64>> {
        self.state.lock().ranges.pop()
    }

    /// Adds the results of a reader that has finished. Returns the results of all readers if it is the last one.
    pub(super) fn leave(&self, found: ReadRows) -> Option<ReadRows> {
        let mut state = self.state.lock();
        if found.end.is_some() {
            state.ranges.clear();
        }
        state.found.add(found);
        state.readers -= 1;
        if state.readers > 0 {
            return None;
        }
        let mut all = mem::take(&mut state.found);
        all.outcomes.dead_letters.sort_by_key(|dead_letter| dead_letter.row_id);
        // SQLite finds a range by the tree's interior pages. If these are corrupt and do not lead to every row, rows
        // would be missing without an error.
        if all.end.is_none() && all.outcomes.tally.read != self.rows {
            let (read, rows) = (all.outcomes.tally.read, self.rows);
            let reason = format!("the table is corrupt: {read} of its {rows} rows can be found by their ids");
            all.end = Some(ArchiveEnd::Broken(reason));
        }
        Some(all)
    }
}

/// Returns the memory of a database and its rows while they are read, in bytes.
fn bytes_with(database: u64, rows: u64) -> u64 {
    database + rows * ROW_BYTES
}

/// Requests more memory if an archive has more rows than usual for its size.
fn make_room(room: &mut Room, database: u64, rows: u64) -> Result<(), ArchiveError> {
    // Includes the rows before the next check, since their list doubles.
    let needed = bytes_with(database, rows + ROWS_PER_CHECK);
    let lacking = needed.saturating_sub(room.bytes());
    if lacking == 0 || room.try_grow(lacking) {
        Ok(())
    } else {
        Err(ArchiveError::NoRoom(needed.saturating_mul(2)))
    }
}

#[cfg(test)]
mod tests;
