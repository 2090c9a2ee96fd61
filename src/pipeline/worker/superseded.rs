//! Which row of an archive decides about an `at_uri`: only the last event of each is sent, and a delete beats
//! every other (contract section 4). The rule is pure; the rows it is asked about are read in two steps.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::pipeline::archive::{ArchiveError, Database, Row};
use crate::pipeline::decode::{Verdict, classify};

/// The rows of an archive that another row of it makes irrelevant.
#[derive(Debug, Default)]
pub struct Superseded(HashSet<i64>);

impl Superseded {
    /// Finds them, in two steps that keep memory at 16 bytes a row: all ids are hashed, then only the rows whose
    /// hash occurs again are read and compared. `on_row` is called with each row id, in order.
    pub fn find(database: &Database, mut on_row: impl FnMut(i64)) -> Result<Self, ArchiveError> {
        // Keyed anew for each archive: nobody can make ids that collide.
        let hasher = RandomState::new();
        let mut hashes: Vec<(u64, i64)> = Vec::new();
        database.for_each_id(|row_id, at_uri| {
            on_row(row_id);
            if let Some(at_uri) = at_uri.bytes().filter(|at_uri| !at_uri.is_empty()) {
                hashes.push((hasher.hash_one(at_uri), row_id));
            }
        })?;
        hashes.sort_unstable();
        let mut superseded = Self::default();
        for group in hashes.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            let mut deciding = HashMap::new();
            for &(_, row_id) in group {
                let event = database.with_event(row_id, event_of)?.flatten();
                superseded.enter(&mut deciding, row_id, event);
            }
        }
        Ok(superseded)
    }

    /// Whether another row decides about the `at_uri` of this one.
    pub fn contains(&self, row_id: i64) -> bool {
        self.0.contains(&row_id)
    }

    /// Takes in the next row, in the order of row ids. A row that is no event decides nothing.
    fn enter(
        &mut self,
        deciding: &mut HashMap<String, Deciding>,
        row_id: i64,
        event: Option<(String, bool)>,
    ) {
        let Some((at_uri, is_delete)) = event else { return };
        let new = Deciding { row_id, is_delete };
        match deciding.get_mut(&at_uri) {
            None => {
                deciding.insert(at_uri, new);
            }
            Some(old) if old.is_delete && !is_delete => {
                self.0.insert(row_id);
            }
            Some(old) => {
                self.0.insert(old.row_id);
                *old = new;
            }
        }
    }
}

struct Deciding {
    row_id: i64,
    is_delete: bool,
}

/// The `at_uri` of a row that is an event, and whether it is a delete.
fn event_of(row: &Row<'_>) -> Option<(String, bool)> {
    match classify(row) {
        Verdict::Post(post) => Some((post.at_uri.to_owned(), false)),
        Verdict::Delete(deletion) => Some((deletion.at_uri.to_owned(), true)),
        // Those of an account are told apart by its DID, not by an `at_uri`.
        Verdict::DeleteAccount(_) | Verdict::Skip(_) | Verdict::Reject(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows that decide, by the rule in its plainest words.
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
            let mut superseded = Superseded::default();
            let mut deciding = HashMap::new();
            for (row, event) in events.iter().enumerate() {
                superseded.enter(&mut deciding, row as i64, event.map(|(id, delete)| (id.to_string(), delete)));
            }
            let left: HashSet<i64> = (0..events.len() as i64)
                .filter(|&row| events[row as usize].is_some() && !superseded.contains(row))
                .collect();
            prop_assert_eq!(left, model(&events));
        }
    }
}
