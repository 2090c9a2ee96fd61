//! Decides when an archive is done. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Archive, ArchiveEnd, Event, Generation, Tally};

/// Follows archives from their first batch to their end.
#[derive(Default)]
pub struct Tracker {
    open: HashMap<String, OpenArchive>,
}

#[derive(Default)]
struct OpenArchive {
    tally: Tally,
    generation: Option<Generation>,
    batches_judged: u64,
    /// How the reading ended, and the number of batches.
    end: Option<(ArchiveEnd, u64)>,
}

/// An archive whose events have all arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// The archive.
    pub archive: Arc<Archive>,
    /// Outcomes of all rows read.
    pub tally: Tally,
    /// The earliest generation of the sink that received any of its rows. None: none was delivered.
    pub generation: Option<Generation>,
    /// What to do with it.
    pub fate: Fate,
}

/// What to do with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Mark it `processed`: every row has a final outcome.
    Processed,
    /// Mark it `failed`, for this reason: it is damaged.
    Failed(String),
    /// Leave it pending, for this reason: the next run loads it again.
    Pending(String),
    /// Repeat it in this run: its documents went to an index that has been replaced since.
    Again,
}

impl Finished {
    /// Whether its deliveries count in the sink's current generation. If not, it has to be repeated.
    pub fn counts_for(&self, present: Generation) -> bool {
        self.generation.is_none_or(|generation| generation >= present)
    }
}

impl Tracker {
    /// Applies an event. Returns the archive if this is its last event. Events may arrive in any order: the end of an
    /// archive may overtake its last batches.
    pub fn apply(&mut self, event: &Event) -> Option<Finished> {
        let Event { archive, outcomes, end } = event;
        let open = self.open.entry(archive.name.clone()).or_default();
        open.tally += &outcomes.tally;
        open.generation = open.generation.into_iter().chain(outcomes.generation).min();
        match end {
            None => open.batches_judged += 1,
            Some(end) => open.end = Some(end.clone()),
        }
        let finished = open.end.as_ref().is_some_and(|(_, batches)| *batches == open.batches_judged);
        if !finished {
            return None;
        }
        let OpenArchive { tally, generation, end, .. } = self.open.remove(&archive.name)?;
        let fate = match end?.0 {
            ArchiveEnd::Abandoned(reason) => Fate::Pending(reason),
            _ if tally.unconfirmed > 0 => {
                Fate::Pending(format!("{} rows are not confirmed", tally.unconfirmed))
            }
            ArchiveEnd::Broken(reason) => Fate::Failed(reason),
            ArchiveEnd::Complete => Fate::Processed,
        };
        Some(Finished { archive: archive.clone(), tally, generation, fate })
    }
}

/// Counts archives whose events have all arrived, including events that are held back.
#[derive(Default)]
pub struct Arrivals {
    /// By archive name: number of batches so far, and in total once the archive has been read.
    open: HashMap<String, (u64, Option<u64>)>,
    complete: u64,
}

impl Arrivals {
    /// Counts an event. Returns whether it is the last one of its archive.
    pub fn note(&mut self, event: &Event) -> bool {
        let Event { archive, end, .. } = event;
        let (so_far, all) = self.open.entry(archive.name.clone()).or_default();
        match end {
            None => *so_far += 1,
            Some((_, batches)) => *all = Some(*batches),
        }
        let is_last = *all == Some(*so_far);
        if is_last {
            self.open.remove(&archive.name);
            self.complete += 1;
        }
        is_last
    }

    /// Returns the number of archives whose events have all arrived and that have not been dealt with.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// Records that this many archives have been dealt with.
    pub fn dealt_with(&mut self, archives: u64) {
        self.complete = self.complete.saturating_sub(archives);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Outcomes;

    fn archive(name: &str) -> Arc<Archive> {
        Arc::new(Archive { name: name.into(), path: name.into(), ..Archive::default() })
    }

    fn batch(name: &str, indexed: u64, unconfirmed: u64) -> Event {
        let tally = Tally { indexed, unconfirmed, ..Tally::default() };
        Event { archive: archive(name), outcomes: Outcomes { tally, ..Outcomes::default() }, end: None }
    }

    fn end(name: &str, read: u64, batches: u64, end: ArchiveEnd) -> Event {
        let tally = Tally { read, ..Tally::default() };
        let outcomes = Outcomes { tally, ..Outcomes::default() };
        Event { archive: archive(name), outcomes, end: Some((end, batches)) }
    }

    fn fate(events: &[Event]) -> Option<Fate> {
        let mut tracker = Tracker::default();
        events.iter().filter_map(|event| tracker.apply(event)).next().map(|finished| finished.fate)
    }

    #[test]
    fn an_archive_is_complete_with_its_last_event_in_any_order() {
        let mut arrivals = Arrivals::default();
        let (batch, end) = (batch("a", 1, 0), end("a", 2, 2, ArchiveEnd::Complete));
        assert_eq!([&batch, &end, &batch].map(|event| arrivals.note(event)), [false, false, true]);
        assert_eq!([&end, &batch, &batch].map(|event| arrivals.note(event)), [false, false, true]);
        assert_eq!(arrivals.complete(), 2);
        arrivals.dealt_with(1);
        assert_eq!((arrivals.complete(), arrivals.open.len()), (1, 0));
    }

    #[test]
    fn an_archive_without_rows_to_send_is_processed_when_it_is_read() {
        assert_eq!(fate(&[end("a", 0, 0, ArchiveEnd::Complete)]), Some(Fate::Processed));
    }

    #[test]
    fn an_archive_is_not_processed_before_its_last_batch() {
        assert_eq!(fate(&[batch("a", 1, 0), end("a", 2, 2, ArchiveEnd::Complete)]), None);
        assert_eq!(
            fate(&[batch("a", 1, 0), end("a", 2, 2, ArchiveEnd::Complete), batch("a", 1, 0)]),
            Some(Fate::Processed)
        );
    }

    #[test]
    fn one_unconfirmed_row_leaves_even_a_broken_archive_pending() {
        for how in [ArchiveEnd::Complete, ArchiveEnd::Broken("x".into())] {
            let events = [batch("a", 1, 1), end("a", 2, 1, how)];
            assert!(matches!(fate(&events), Some(Fate::Pending(_))));
        }
    }

    #[test]
    fn a_broken_archive_fails_and_an_abandoned_one_stays_pending() {
        let broken = end("a", 0, 0, ArchiveEnd::Broken("no table".into()));
        assert_eq!(fate(&[broken]), Some(Fate::Failed("no table".into())));
        let abandoned = end("a", 0, 0, ArchiveEnd::Abandoned("stopping".into()));
        assert_eq!(fate(&[abandoned]), Some(Fate::Pending("stopping".into())));
    }

    proptest! {
        #[test]
        fn every_archive_finishes_once_with_all_its_rows_in_any_order_of_events(
            sizes in prop::collection::vec(prop::collection::vec(0_u64..5, 0..6), 1..6),
            seed in any::<u64>(),
        ) {
            let mut events = Vec::new();
            for (i, batches) in sizes.iter().enumerate() {
                let name = i.to_string();
                events.extend(batches.iter().map(|&rows| batch(&name, rows, 0)));
                events.push(end(&name, batches.iter().sum(), batches.len() as u64, ArchiveEnd::Complete));
            }
            fastrand::Rng::with_seed(seed).shuffle(&mut events);
            let mut tracker = Tracker::default();
            let mut finished: Vec<Finished> =
                events.iter().filter_map(|event| tracker.apply(event)).collect();
            finished.sort_by(|a, b| a.archive.name.cmp(&b.archive.name));
            prop_assert!(tracker.open.is_empty());
            prop_assert_eq!(finished.len(), sizes.len());
            for (finished, batches) in finished.iter().zip(&sizes) {
                prop_assert_eq!(&finished.fate, &Fate::Processed);
                prop_assert_eq!(finished.tally.settled() + finished.tally.unconfirmed, finished.tally.read);
                prop_assert_eq!(finished.tally.read, batches.iter().sum::<u64>());
            }
        }
    }
}
