//! Tests that after a panic in any thread no thread hangs, every row is counted, and no unconfirmed archive is marked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::common::exit::{ExitCode, Failure};
use crate::model::{
    Action, ActionKind, Archive, ArchiveEnd, Batch, Document, Event, Generation, Outcomes, Tally, Version,
};
use crate::observe::progress::{Figures, Progress};
use crate::pipeline::ledger::books::Books;
use crate::pipeline::ledger::state_file::{Mark, StateFile};
use crate::process::shutdown::StopReason;
use crate::sink::upcoming::Upcoming;

/// Number of batches: far more than fit into the channels.
const BATCHES: u64 = 200;

/// Number of rows per batch.
const ROWS: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Panics {
    Nowhere,
    /// The sender panics on the first batch.
    OnDelivery,
    /// The ledger panics when it marks archives.
    OnMarking,
    /// The reader panics between the archives `a` and `b`.
    OnReading,
}

/// A sink that confirms everything, unless it panics.
struct Fake {
    panics: Panics,
    delivered: AtomicU64,
}

impl Sink for Fake {
    fn encode(&self, _: &mut Vec<u8>, _: &Action, _: &Document<'_>) {}

    fn deliver(&self, batch: &Batch, _: &mut Upcoming) -> Outcomes {
        let is_first = self.delivered.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(self.panics != Panics::OnDelivery || !is_first, "in the delivery");
        let indexed = batch.actions.len() as u64;
        Outcomes { tally: Tally { indexed, ..Tally::default() }, ..Outcomes::default() }
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        assert!(self.panics != Panics::OnMarking, "when it marks");
        Ok(0)
    }
}

fn archive(name: &str) -> Arc<Archive> {
    Arc::new(Archive { name: name.into(), path: name.into(), ..Archive::default() })
}

fn read(name: &str, outlets: &Outlets<'_>) {
    let archive = archive(name);
    let action = |row| Action::new(ActionKind::Post, Version::new(1, row).unwrap(), "id");
    for _ in 0..BATCHES {
        let actions = (0..ROWS as i64).map(action).collect();
        outlets.batches.send(Batch { archive: archive.clone(), body: Vec::new(), actions }).unwrap();
    }
    let outcomes =
        Outcomes { tally: Tally { read: BATCHES * ROWS, ..Tally::default() }, ..Outcomes::default() };
    let end = ArchiveEnd::Complete;
    outlets.report(Event { archive, outcomes, end: Some((end, BATCHES)) });
}

/// The result of a run.
struct Observed {
    figures: Figures,
    stopped: Option<StopReason>,
    /// The archives marked as processed.
    marked: Vec<&'static str>,
}

/// Runs all stages over two archives. Panics if they do not end.
fn run(panics: Panics) -> Observed {
    let (sender, ended) = bounded(1);
    thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (books, _) = Books::new(StateFile::load(&path).unwrap(), None);
        let (progress, stop) = (Progress::new(), Stop::new());
        let sink = Fake { panics, delivered: AtomicU64::new(0) };
        let ledger = Ledger::new(Some(&books), None, &sink, &progress, &stop);
        let limits = BatchLimits { docs: 1, bytes: 1 };
        stages(4, 2, &sink, limits, ledger, &stop, |outlets| {
            read("a", &outlets);
            assert!(panics != Panics::OnReading, "in the reading");
            read("b", &outlets);
        });
        let state = StateFile::load(&path).unwrap();
        let marked = ["a", "b"].into_iter().filter(|name| state.get(name) == Some(&Mark::Processed));
        sender
            .send(Observed { figures: progress.figures(), stopped: stop.reason(), marked: marked.collect() })
            .unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("the stages end")
}

/// Asserts that the run failed for this reason, with these outcomes of rows.
fn assert_failed(observed: &Observed, who: &str, indexed: u64, unconfirmed: u64) {
    let Some(StopReason::Fatal(failure)) = &observed.stopped else { panic!("{:?}", observed.stopped) };
    assert_eq!(failure.code, ExitCode::Failed);
    assert!(failure.message.starts_with(&format!("an internal error in {who}; ")), "{failure}");
    let read = indexed + unconfirmed;
    let expected = Tally { read, indexed, unconfirmed, ..Tally::default() };
    assert_eq!(observed.figures.totals.rows, expected);
}

#[test]
fn without_a_panic_everything_is_marked() {
    let observed = run(Panics::Nowhere);
    assert_eq!((observed.stopped, observed.marked), (None, vec!["a", "b"]));
}

#[test]
fn a_sender_that_panics_leaves_its_batch_unconfirmed_and_its_archive_unmarked() {
    let observed = run(Panics::OnDelivery);
    assert_failed(&observed, "a sender: in the delivery", (2 * BATCHES - 1) * ROWS, ROWS);
    assert_eq!(observed.marked, ["b"]);
}

#[test]
fn a_ledger_that_panics_marks_nothing_but_still_counts() {
    let observed = run(Panics::OnMarking);
    assert_failed(&observed, "the ledger: when it marks", 2 * BATCHES * ROWS, 0);
    assert_eq!(observed.marked, [""; 0]);
}

#[test]
fn a_reader_that_panics_does_not_affect_archives_read_before() {
    let observed = run(Panics::OnReading);
    assert_failed(&observed, "the reading: in the reading", BATCHES * ROWS, 0);
    assert_eq!(observed.marked, ["a"]);
}
