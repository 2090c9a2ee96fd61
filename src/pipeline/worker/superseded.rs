//! Finds the rows of an archive that another row supersedes. For each `at_uri` only the last event is sent, and a delete
//! beats every other event (contract, section 4).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::pipeline::archive::{ArchiveError, Database};
use crate::pipeline::decode::{Verdict, classify};

/// The rows of an archive that another row supersedes.
///
/// They are found in two steps, which take 16 bytes per row and 17 more per candidate. First all ids are hashed. Rows
/// that share a hash are candidates: they are read and compared when a reader reaches the first of them. That takes as
/// long as reading them, so all readers of an archive share the work.
#[derive(Debug, Default)]
pub struct Superseded {
    /// Has a random key for each archive, so that nobody can craft ids that collide.
    hasher: RandomState,
    /// The candidates, sorted: hash and row id of each row that shares its hash with another one.
    rows: Vec<(u64, i64)>,
    /// The status of each candidate. Two readers may compare the same rows at once; their results are equal.
    known: Vec<AtomicU8>,
}

/// The row has not been compared yet.
const UNKNOWN: u8 = 0;
/// The row is sent.
const DECIDES: u8 = 1;
/// Another row supersedes it, or it is not an event of a post.
const SUPERSEDED: u8 = 2;

/// A row's event for a post: new content or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowEvent<'a> {
    at_uri: &'a str,
    is_delete: bool,
}

impl<'a> RowEvent<'a> {
    /// Returns the event of a row. None if it is not an event of a post.
    pub fn of(verdict: &Verdict<'a>) -> Option<Self> {
        match verdict {
            Verdict::Post(post) => Some(Self { at_uri: post.at_uri, is_delete: false }),
            Verdict::Delete(deletion) => Some(Self { at_uri: deletion.at_uri, is_delete: true }),
            // Account deletions have a DID and no `at_uri`.
            Verdict::DeleteAccount(_) | Verdict::Skip(_) | Verdict::Reject(_) => None,
        }
    }
}

impl Superseded {
    /// Hashes the ids of all rows. Calls `on_row` with each row id in order; its error ends the scan.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if the rows cannot be read, or from `on_row`.
    pub fn find(
        database: &Database,
        mut on_row: impl FnMut(i64) -> Result<(), ArchiveError>,
    ) -> Result<Self, ArchiveError> {
        let hasher = RandomState::new();
        let mut hashes: Vec<(u64, i64)> = Vec::new();
        let mut end = Ok(());
        database.for_each_id(|row_id, at_uri| {
            end = on_row(row_id);
            if end.is_err() {
                return ControlFlow::Break(());
            }
            if let Some(at_uri) = at_uri.bytes().filter(|at_uri| !at_uri.is_empty()) {
                hashes.push((hasher.hash_one(at_uri), row_id));
            }
            ControlFlow::Continue(())
        })?;
        end?;
        hashes.sort_unstable();
        let again = hashes.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
        let rows: Vec<_> = again.flatten().copied().collect();
        let known = rows.iter().map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok(Self { hasher, rows, known })
    }

    /// Whether another row supersedes this one. `event` is this row's event.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if a row of the same `at_uri` cannot be read.
    pub fn contains(
        &self,
        database: &Database,
        row_id: i64,
        event: RowEvent<'_>,
    ) -> Result<bool, ArchiveError> {
        let hash = self.hasher.hash_one(event.at_uri.as_bytes());
        let Ok(place) = self.rows.binary_search(&(hash, row_id)) else { return Ok(false) };
        if self.is(place, UNKNOWN) {
            self.compare(database, hash, row_id, event)?;
        }
        Ok(self.is(place, SUPERSEDED))
    }

    fn is(&self, place: usize, what: u8) -> bool {
        self.known.get(place).is_some_and(|known| known.load(Ordering::Relaxed) == what)
    }

    /// Compares all rows of a hash. The event of the row `of` is known; the others are read.
    fn compare(
        &self,
        database: &Database,
        hash: u64,
        of: i64,
        event: RowEvent<'_>,
    ) -> Result<(), ArchiveError> {
        let first = self.rows.partition_point(|row| row.0 < hash);
        let group = || self.rows.iter().zip(&self.known).skip(first).take_while(|(row, _)| row.0 == hash);
        let mut deciding = Deciding::default();
        for (&(_, row_id), _) in group() {
            if row_id == of {
                deciding.enter(row_id, event);
            } else {
                database.with_event(row_id, |row| {
                    if let Some(event) = RowEvent::of(&classify(row)) {
                        deciding.enter(row_id, event);
                    }
                })?;
            }
        }
        let rows = deciding.rows();
        for ((_, row_id), known) in group() {
            known.store(if rows.contains(row_id) { DECIDES } else { SUPERSEDED }, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The rows to send: for each `at_uri` the row id, and whether it is a delete.
#[derive(Debug, Default)]
struct Deciding(HashMap<String, (i64, bool)>);

impl Deciding {
    /// Adds the next event. Events must be added in order of row ids.
    fn enter(&mut self, row_id: i64, event: RowEvent<'_>) {
        match self.0.get_mut(event.at_uri) {
            None => {
                self.0.insert(event.at_uri.to_owned(), (row_id, event.is_delete));
            }
            Some((_, true)) if !event.is_delete => {}
            Some(decides) => *decides = (row_id, event.is_delete),
        }
    }

    fn rows(&self) -> HashSet<i64> {
        self.0.values().map(|&(row_id, _)| row_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::archive::ArchiveBuffers;

    /// Returns the rows to send, by the simplest form of the rule.
    fn model(events: &[Option<(u8, bool)>]) -> HashSet<i64> {
        let rows = |id: u8, deletes_only: bool| {
            events.iter().enumerate().rev().find_map(move |(row, event)| {
                event.filter(|&(i, is_delete)| i == id && (is_delete || !deletes_only)).map(|_| row as i64)
            })
        };
        (0..=u8::MAX).filter_map(|id| rows(id, true).or_else(|| rows(id, false))).collect()
    }

    proptest! {
        #[test]
        fn the_last_event_decides_and_a_delete_beats_every_other(
            events in prop::collection::vec(prop::option::weighted(0.9, (0_u8..4, prop::bool::weighted(0.3))), 0..12),
        ) {
            let mut deciding = Deciding::default();
            for (row, event) in events.iter().enumerate() {
                if let Some((id, is_delete)) = event {
                    deciding.enter(row as i64, RowEvent { at_uri: &id.to_string(), is_delete: *is_delete });
                }
            }
            prop_assert_eq!(deciding.rows(), model(&events));
        }
    }

    /// Creates a database with a row for each of these; None stands for a row that is not an event.
    fn database(events: &[Option<(u8, bool)>]) -> Database {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE posts (at_uri, did, raw_post, inferences)").unwrap();
        for (row, event) in events.iter().enumerate() {
            let operation = if event.is_some_and(|(_, is_delete)| is_delete) { "delete" } else { "create" };
            let raw_post = match event {
                Some(_) => {
                    format!(
                        r#"{{"message":{{"kind":"commit","commit":{{"operation":"{operation}","record":{{}}}}}}}}"#
                    )
                }
                None => "no JSON".to_owned(),
            };
            let at_uri = format!("at://{}", event.map_or(0, |(id, _)| id));
            let sql = "INSERT INTO posts (rowid, at_uri, raw_post) VALUES (?, ?, ?)";
            connection.execute(sql, (row as i64, at_uri, raw_post)).unwrap();
        }
        let bytes = connection.serialize(rusqlite::MAIN_DB).unwrap().to_vec();
        Database::open(&Arc::new(ArchiveBuffers::new().unpack(&bytes).unwrap())).unwrap()
    }

    #[test]
    fn only_rows_that_share_their_id_take_memory() {
        let database = database(&[Some((0, false)), Some((1, false)), Some((2, true)), Some((1, true))]);
        let superseded = Superseded::find(&database, |_| Ok(())).unwrap();
        let rows: Vec<i64> = superseded.rows.iter().map(|&(_, row_id)| row_id).collect();
        assert_eq!(rows, [1, 3]);
    }

    proptest! {
        #[test]
        fn the_order_of_look_ups_does_not_matter(
            (events, order) in prop::collection::vec(prop::option::weighted(0.8, (0_u8..3, any::<bool>())), 1..9)
                .prop_flat_map(|events| {
                    let order = (0..events.len()).collect::<Vec<_>>();
                    (Just(events), Just(order).prop_shuffle())
                }),
        ) {
            let database = database(&events);
            let superseded = Superseded::find(&database, |_| Ok(())).unwrap();
            let deciding = model(&events);
            for row in order {
                let Some((id, is_delete)) = events[row] else { continue };
                let at_uri = format!("at://{id}");
                let event = RowEvent { at_uri: &at_uri, is_delete };
                let is_superseded = superseded.contains(&database, row as i64, event).unwrap();
                prop_assert_eq!(is_superseded, !deciding.contains(&(row as i64)));
            }
        }
    }
}
