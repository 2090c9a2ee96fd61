//! Tests of the ledger: when archives are marked, in which order, and what is reported.

use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use crossbeam_channel::unbounded;

use super::state_file::{Mark, StateFile};
use super::*;
use crate::model::{Action, Archive, ArchiveEnd, Batch, DeadLetter, Document, Generation, Tally};

/// The present generation of the sink.
const PRESENT: Generation = 3;

/// A sink that calls a function when archives are about to be marked.
struct Fake<'r, F: Fn() -> Result<(), Failure> + Sync>(&'r F);

impl<F: Fn() -> Result<(), Failure> + Sync> Sink for Fake<'_, F> {
    fn encode(&self, _: &mut Vec<u8>, _: &Action, _: &Document<'_>) {}

    fn deliver(&self, _: &Batch) -> Outcomes {
        Outcomes::default()
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        self.0().map(|()| PRESENT)
    }
}

fn archive(name: &str) -> std::sync::Arc<Archive> {
    Archive { name: name.into(), path: name.into(), seconds: None, bytes: 0, modified_ns: 0, etag: None }
        .into()
}

/// Creates the end event of an archive of `rows` rows, all of them skipped.
fn read(name: &str, rows: u64, end: ArchiveEnd) -> Event {
    let tally = Tally { read: rows, skipped: rows, ..Tally::default() };
    let outcomes = Outcomes { tally, ..Outcomes::default() };
    Event::Archive { archive: archive(name), outcomes, batches: 0, end }
}

fn complete(name: &str) -> Event {
    read(name, 1, ArchiveEnd::Complete)
}

/// Runs a ledger with the marking interval `within` over `events`. Returns the number of rows counted at each marking,
/// and the state file.
fn marked(within: Duration, events: Vec<Event>) -> (Vec<u64>, StateFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (books, _) = Books::new(StateFile::load(&path).unwrap(), None);
    let (progress, stop) = (Progress::new(), Stop::new());
    let markings = Mutex::new(Vec::new());
    let make_durable = || {
        markings.lock().unwrap().push(progress.figures().totals.rows.skipped);
        Ok(())
    };
    let sink = Fake(&make_durable);
    let mut ledger = Ledger::new(Some(&books), None, &sink, &progress, &stop);
    ledger.mark_within = within;
    let (sender, receiver) = unbounded();
    events.into_iter().for_each(|event| sender.send(event).unwrap());
    drop(sender);
    ledger.run(receiver);
    (markings.into_inner().unwrap(), StateFile::load(&path).unwrap())
}

#[test]
fn archives_that_finish_shortly_after_each_other_are_marked_together() {
    let (markings, state) = marked(Duration::from_secs(3_600), ["a", "b", "c"].map(complete).into());
    assert_eq!(markings, [3]);
    assert!(["a", "b", "c"].iter().all(|name| state.get(name) == Some(&Mark::Processed)));
}

#[test]
fn a_busy_ledger_marks_in_time() {
    let (markings, _) = marked(Duration::ZERO, ["a", "b", "c"].map(complete).into());
    assert_eq!(markings, [1, 2, 3]);
}

#[test]
fn an_idle_ledger_marks_in_time() {
    let (progress, stop) = (Progress::new(), Stop::new());
    let (marks, marking) = mpsc::sync_channel(1);
    let make_durable = || {
        marks.send(()).unwrap();
        Ok(())
    };
    let sink = Fake(&make_durable);
    let (sender, receiver) = unbounded();
    thread::scope(|scope| {
        scope.spawn(|| Ledger::new(None, None, &sink, &progress, &stop).run(receiver));
        sender.send(complete("a")).unwrap();
        marking.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(sender);
    });
}

#[test]
fn archives_delivered_to_an_earlier_generation_are_repeated_unless_pending() {
    let (complete, broken) = (ArchiveEnd::Complete, ArchiveEnd::Broken("no table".into()));
    let events = [
        ("earlier", complete.clone(), Some(PRESENT - 1)),
        ("present", complete.clone(), Some(PRESENT)),
        ("nothing", complete, None),
        ("broken earlier", broken.clone(), Some(PRESENT - 1)),
        ("broken", broken, Some(PRESENT)),
        ("pending", ArchiveEnd::Abandoned("stopping".into()), Some(PRESENT - 1)),
    ];
    let events = events.map(|(name, end, generation)| {
        let outcomes = Outcomes { generation, ..Outcomes::default() };
        Event::Archive { archive: archive(name), outcomes, batches: 0, end }
    });
    let (_, state) = marked(Duration::from_secs(3_600), events.into());
    let processed = Some(&Mark::Processed);
    assert_eq!(["earlier", "broken earlier", "pending"].map(|name| state.get(name)), [None, None, None]);
    assert_eq!(["present", "nothing"].map(|name| state.get(name)), [processed, processed]);
    assert!(matches!(state.get("broken"), Some(Mark::Failed { .. })));
}

#[test]
fn nothing_is_made_durable_if_all_archives_are_pending() {
    let abandoned = |name| read(name, 1, ArchiveEnd::Abandoned("stopping".into()));
    let (markings, state) = marked(Duration::ZERO, ["a", "b"].map(abandoned).into());
    assert_eq!((markings, state.get("a")), (vec![], None));
    let events = vec![abandoned("a"), complete("b"), read("c", 1, ArchiveEnd::Broken("no table".into()))];
    let (markings, state) = marked(Duration::from_secs(3_600), events);
    assert_eq!((markings, state.get("a"), state.get("b")), (vec![3], None, Some(&Mark::Processed)));
    assert!(matches!(state.get("c"), Some(Mark::Failed { error, .. }) if error == "no table"));
}

/// Runs a ledger that marks two archives, one after the other. The first marking fails with `fails`. Returns why the run
/// stops.
fn first_marking(fails: impl Fn() -> Result<(), Failure> + Sync) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (books, _) = Books::new(StateFile::load(&path).unwrap(), None);
    let (progress, stop) = (Progress::new(), Stop::new());
    let is_first = Mutex::new(true);
    let make_durable = || {
        let is_first = std::mem::take(&mut *is_first.lock().unwrap());
        if is_first { fails() } else { Ok(()) }
    };
    let sink = Fake(&make_durable);
    let mut ledger = Ledger::new(Some(&books), None, &sink, &progress, &stop);
    ledger.mark_within = Duration::ZERO;
    let (sender, receiver) = unbounded();
    ["a", "b", "c"].map(complete).into_iter().for_each(|event| sender.send(event).unwrap());
    drop(sender);
    ledger.run(receiver);
    assert!(!path.exists());
    assert_eq!((progress.figures().archives.processed, progress.figures().totals.rows.skipped), (0, 3));
    stop.as_failure().message
}

#[test]
fn after_a_failure_or_a_panic_nothing_is_marked_even_if_a_later_attempt_would_succeed() {
    assert_eq!(first_marking(|| Err(Failure::run("the disk is gone"))), "the disk is gone");
    let told = first_marking(|| panic!("provoked"));
    assert!(told.starts_with("an internal error in the ledger: provoked"), "{told}");
}

#[test]
fn dead_letters_are_on_disk_before_their_archive_is_marked_or_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let (progress, stop) = (Progress::new(), Stop::new());
    let letter = |archive: &str| DeadLetter {
        archive: archive.into(),
        row_id: 7,
        at_uri: String::new(),
        stage: "decode".into(),
        error_type: "bad".into(),
        reason: String::new(),
        action: None,
        document: None,
    };
    let rejected = |name: &str| {
        let tally = Tally { read: 1, rejected: 1, ..Tally::default() };
        let outcomes = Outcomes { tally, dead_letters: vec![letter(name)], ..Outcomes::default() };
        Event::Archive { archive: archive(name), outcomes, batches: 0, end: ArchiveEnd::Complete }
    };
    let run = |letters: &Path| {
        let path = folder.path().join("state.json");
        let (books, _) = Books::new(StateFile::load(&path).unwrap(), None);
        let make_durable = || {
            assert!(std::fs::read_to_string(letters).unwrap().contains("\"row_id\":7"));
            Ok(())
        };
        let sink = Fake(&make_durable);
        let file = DeadLetterFile::new(letters.to_owned());
        let (sender, receiver) = unbounded();
        sender.send(rejected("a")).unwrap();
        drop(sender);
        Ledger::new(Some(&books), Some(file), &sink, &progress, &stop).run(receiver);
        StateFile::load(&path).unwrap().get("a").cloned()
    };
    assert_eq!(run(&folder.path().join("not/there")), None);
    assert!(stop.as_failure().message.starts_with("the dead-letter file "), "{}", stop.as_failure());
    assert_eq!(run(&folder.path().join("letters")), Some(Mark::Processed));
}

#[test]
fn a_file_that_cannot_be_written_is_named_with_what_to_do() {
    for (kind, what_to_do) in [
        (ErrorKind::InvalidInput, "name another one"),
        (ErrorKind::StorageFull, "free the disk,"),
        (ErrorKind::ReadOnlyFilesystem, "make it and its folder writable"),
        (ErrorKind::IsADirectory, "free the disk or make"),
    ] {
        let message = cannot_write("the state file", Path::new("a/b"), &kind.into()).message;
        assert!(message.starts_with("the state file a/b cannot be written: "), "{message}");
        assert!(message.contains(what_to_do), "{message}");
    }
}
