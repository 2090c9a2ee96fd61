//! An archive that several workers may read at once: the ranges of its rows, and the results of its readers.

use std::collections::BTreeMap;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::superseded::Superseded;
use crate::model::{Archive, ArchiveEnd, Outcomes, Version};
use crate::pipeline::archive::{ArchiveError, Database, Image, Room};

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
    /// Scans the rows of an archive and divides them into ranges. The calling worker is its first reader.
    pub(super) fn new(
        archive: Arc<Archive>,
        image: Arc<Image>,
        database: &Database,
        seconds: i64,
        mut room: Room,
    ) -> Result<Self, ArchiveError> {
        let mut ranges: Vec<RangeInclusive<i64>> = Vec::new();
        let mut rows = 0;
        let superseded = Superseded::find(database, |row_id| {
            match ranges.last_mut().filter(|_| rows % RANGE_ROWS != 0) {
                Some(range) => *range = *range.start()..=row_id,
                None => ranges.push(row_id..=row_id),
            }
            rows += 1;
            if rows % ROWS_PER_CHECK == 0 { make_room(&mut room, image.len() as u64, rows) } else { Ok(()) }
        })?;
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
        self.state().ranges.len() > 1
    }

    /// Makes the caller a reader, unless nothing is left to read. Each reader must call [`Self::leave`].
    pub(super) fn join(&self) -> bool {
        let mut state = self.state();
        let joins = !state.ranges.is_empty();
        state.readers += usize::from(joins);
        joins
    }

    /// Takes the next range of row ids.
    pub(super) fn next_range(&self) -> Option<RangeInclusive<i64>> {
        self.state().ranges.pop()
    }

    /// Adds the results of a reader that has finished. Returns the results of all readers if it is the last one.
    pub(super) fn leave(&self, found: ReadRows) -> Option<ReadRows> {
        let mut state = self.state();
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests more memory if an archive has more rows than usual for its size.
fn make_room(room: &mut Room, database: u64, rows: u64) -> Result<(), ArchiveError> {
    // Includes the rows before the next check, since their list doubles.
    let needed = database + (rows + ROWS_PER_CHECK) * ROW_BYTES;
    let lacking = needed.saturating_sub(room.bytes());
    if lacking == 0 || room.try_grow(lacking) {
        Ok(())
    } else {
        Err(ArchiveError::NoRoom(needed.saturating_mul(2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeadLetter, Tally};
    use crate::pipeline::archive::Rooms;
    use crate::shutdown::Stop;

    /// Creates an archive of `rows` rows that this many readers have joined.
    fn shared(rows: u64, readers: usize) -> Shared {
        let image = crate::pipeline::archive::ArchiveBuffers::new().unpack(&table(rows)).unwrap();
        let archive = Archive { name: "a".into(), path: "a".into(), seconds: Some(1), ..Archive::default() };
        let image = Arc::new(image);
        let database = Database::open(&image).unwrap();
        let room = Rooms::unlimited().acquire(0, &Stop::new()).unwrap();
        let shared = Shared::new(Arc::new(archive), image, &database, 1, room).unwrap();
        (1..readers).for_each(|_| assert!(shared.join()));
        shared
    }

    fn table(rows: u64) -> Vec<u8> {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        let sql = format!(
            "CREATE TABLE posts (at_uri, did, raw_post, inferences);
             WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 3 FROM n LIMIT {rows})
             INSERT INTO posts (rowid, at_uri) SELECT i, i FROM n WHERE {rows} > 0"
        );
        connection.execute_batch(&sql).unwrap();
        connection.serialize(rusqlite::MAIN_DB).unwrap().to_vec()
    }

    fn version(row_id: i64) -> Version {
        Version::new(1, row_id).unwrap()
    }

    fn found(read: u64, end: Option<ArchiveEnd>) -> ReadRows {
        let outcomes = Outcomes { tally: Tally { read, ..Tally::default() }, ..Outcomes::default() };
        ReadRows { outcomes, end, ..ReadRows::default() }
    }

    #[test]
    fn the_ranges_hold_every_row_once() {
        for rows in [0, 1, RANGE_ROWS, RANGE_ROWS + 1, 3 * RANGE_ROWS - 1] {
            let shared = shared(rows, 1);
            let database = Database::open(&shared.image).unwrap();
            let mut ids = Vec::new();
            while let Some(range) = shared.next_range() {
                database
                    .for_each_row(&range, |row| {
                        ids.push(row.id);
                        std::ops::ControlFlow::Continue(())
                    })
                    .unwrap();
            }
            assert_eq!(ids, (0..rows as i64).map(|n| 10 + 3 * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_archive_with_more_than_one_range_wants_help() {
        for (rows, wants_help) in [(0, false), (1, false), (RANGE_ROWS, false), (RANGE_ROWS + 1, true)] {
            let shared = shared(rows, 1);
            assert_eq!((shared.rows(), shared.wants_help()), (rows, wants_help));
        }
    }

    #[test]
    fn the_last_reader_to_leave_gets_the_results_of_all() {
        let shared = shared(2 * RANGE_ROWS, 2);
        while shared.next_range().is_some() {}
        assert!(!shared.join());
        let mut one = found(RANGE_ROWS, None);
        one.accounts.insert("did:a".into(), (version(9), 90));
        let mut other = found(RANGE_ROWS, None);
        other.accounts.insert("did:a".into(), (version(3), 30));
        assert!(shared.leave(one).is_none());
        let all = shared.leave(other).unwrap();
        assert_eq!(all.end, None);
        assert_eq!((all.outcomes.tally.read, all.outcomes.tally.superseded), (2 * RANGE_ROWS, 1));
        assert_eq!(all.accounts["did:a"], (version(9), 90));
    }

    #[test]
    fn rows_that_are_not_found_by_their_ids_break_the_archive() {
        let shared = shared(5, 1);
        while shared.next_range().is_some() {}
        let all = shared.leave(found(4, None)).unwrap();
        assert!(matches!(all.end, Some(ArchiveEnd::Broken(reason)) if reason.contains("4 of its 5 rows")));
    }

    #[test]
    fn an_archive_that_is_abandoned_does_not_count_as_corrupt() {
        let stopping = super::super::reading::stopping;
        let alone = shared(9 * RANGE_ROWS, 1);
        assert_eq!(alone.leave(found(0, Some(stopping()))).unwrap().end, Some(stopping()));
        // Whichever of its readers is the last.
        for ends in [[Some(stopping()), None], [None, Some(stopping())]] {
            let shared = shared(9 * RANGE_ROWS, 2);
            let all = ends.map(|end| shared.leave(found(RANGE_ROWS, end)));
            assert_eq!(all.into_iter().flatten().next().unwrap().end, Some(stopping()));
        }
    }

    #[test]
    fn dead_letters_of_all_readers_are_sorted_by_row() {
        let shared = shared(2 * RANGE_ROWS, 2);
        let with_letter = |row_id: i64| {
            let mut found = found(RANGE_ROWS, None);
            let letter = DeadLetter {
                archive: "a".into(),
                row_id,
                at_uri: String::new(),
                stage: "decode".into(),
                error_type: String::new(),
                reason: String::new(),
                action: None,
                document: None,
            };
            found.outcomes.dead_letters.push(letter);
            found
        };
        assert!(shared.leave(with_letter(9)).is_none());
        let all = shared.leave(with_letter(3)).unwrap();
        let rows: Vec<i64> = all.outcomes.dead_letters.iter().map(|letter| letter.row_id).collect();
        assert_eq!(rows, [3, 9]);
    }

    #[test]
    fn an_archive_that_has_been_read_is_removed_from_the_board() {
        let board = super::super::board::Board::new(1);
        let archive = Arc::new(shared(2 * RANGE_ROWS, 1));
        board.put(&archive);
        assert_eq!(Arc::strong_count(&archive), 2);
        board.remove(&archive);
        assert_eq!(Arc::strong_count(&archive), 1, "its database would stay in memory");
    }

    #[test]
    fn a_reader_that_fails_ends_the_others_and_damage_counts_first() {
        let shared = shared(9 * RANGE_ROWS, 3);
        assert!(shared.leave(found(0, Some(super::super::reading::stopping()))).is_none());
        assert!(shared.next_range().is_none());
        let broken = ArchiveEnd::Broken("a corrupt page".into());
        assert!(shared.leave(found(0, Some(broken.clone()))).is_none());
        assert_eq!(shared.leave(found(RANGE_ROWS, None)).unwrap().end, Some(broken));
    }
}
