//! Tests of the ledger: when archives are marked, in which order, and what is reported.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use crossbeam_channel::unbounded;
use rustix::io::Errno;

use super::state_file::{Mark, StateFile};
use super::*;
use crate::model::{Action, Archive, ArchiveEnd, Batch, DeadLetter, Document, Generation, Tally};
use crate::process::shutdown::StopReason;
use crate::sink::upcoming::Upcoming;
use crate::tests::captured::lines_of;

/// The current generation of the sink.
const PRESENT: Generation = 3;

/// A sink that calls a function when archives are about to be marked.
struct Fake<'r, F: Fn() -> Result<(), Failure> + Sync>(&'r F);

impl<F: Fn() -> Result<(), Failure> + Sync> Sink for Fake<'_, F> {
    fn encode(&self, _: &mut Vec<u8>, _: &Action, _: &Document<'_>) {}

    fn deliver(&self, _: &Batch, _: &mut Upcoming) -> Outcomes {
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
    Event { archive: archive(name), outcomes, end: Some((end, 0)) }
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
        Event { archive: archive(name), outcomes, end: Some((end, 0)) }
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
        Event { archive: archive(name), outcomes, end: Some((ArchiveEnd::Complete, 0)) }
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
        (ErrorKind::NotFound, "create its folder"),
        (ErrorKind::StorageFull, "free the disk,"),
        (ErrorKind::ReadOnlyFilesystem, "make it and its folder writable"),
        (ErrorKind::IsADirectory, "free the disk or make"),
    ] {
        let message = state_not_written(Path::new("a/b"), &kind.into()).message;
        assert!(message.starts_with("the state file a/b cannot be written: "), "{message}");
        assert!(message.contains(what_to_do), "{message}");
    }
    for (errno, what_to_do) in [
        (Errno::MFILE, "raise the limit of open files (ulimit -n)"),
        (Errno::IO, "check its disk or file server"),
    ] {
        let message = state_not_written(Path::new("a/b"), &errno.into()).message;
        assert!(message.contains(what_to_do), "{message}");
    }
}

/// An archive whose one row is refused by the server.
fn refused(name: &str) -> Event {
    let letter = DeadLetter {
        archive: name.into(),
        row_id: 7,
        at_uri: String::new(),
        stage: "elasticsearch".into(),
        error_type: "mapper_exception".into(),
        reason: String::new(),
        action: None,
        document: None,
    };
    let tally = Tally { read: 1, rejected: 1, ..Tally::default() };
    let outcomes = Outcomes { tally, dead_letters: vec![letter], ..Outcomes::default() };
    Event { archive: archive(name), outcomes, end: Some((ArchiveEnd::Complete, 0)) }
}

/// A sink in which everything is durable at once.
fn durable() -> Result<(), Failure> {
    Ok(())
}

/// Books over an empty state in `folder`, in which these archives are under way.
fn books_of(folder: &Path, most_rounds: Option<u32>, names: &[&str]) -> (Books, Receiver<Arc<Archive>>) {
    let state = StateFile::load(&folder.join("state.json")).unwrap();
    let (books, archives) = Books::new(state, most_rounds);
    books.open().enter(&names.iter().map(|name| archive(name)).collect::<Vec<_>>());
    (books, archives)
}

#[test]
fn once_nothing_is_under_way_archives_are_marked_at_once_and_refusals_held_back_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (books, _archives) = books_of(folder.path(), None, &["a", "b"]);
    let (progress, stop, refusals) = (Progress::new(), Stop::new(), Refusals::new(None));
    let sink = Fake(&durable);
    let mut ledger = Ledger::new(Some(&books), None, &sink, &progress, &stop).watched_by(&refusals);
    ledger.mark_within = Duration::from_secs(3_600);
    let (sender, receiver) = unbounded();
    thread::scope(|scope| {
        scope.spawn(|| ledger.run(receiver));
        [complete("a"), refused("b")].into_iter().for_each(|event| sender.send(event).unwrap());
        let settled = books.settled().recv_timeout(Duration::from_secs(30));
        drop(sender);
        settled.unwrap();
    });
    assert_eq!(progress.figures().totals.rows.rejected, 1);
    assert!(["a", "b"].iter().all(|name| books.open().state.get(name) == Some(&Mark::Processed)));
}

#[test]
fn a_pass_is_not_over_while_an_archive_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let (books, _archives) = books_of(folder.path(), None, &["a", "b"]);
    let (progress, stop) = (Progress::new(), Stop::new());
    let (sender, receiver) = unbounded();
    sender.send(complete("a")).unwrap();
    drop(sender);
    Ledger::new(Some(&books), None, &Fake(&durable), &progress, &stop).run(receiver);
    assert!(books.settled().try_recv().is_err());
    assert!(books.open().has("b") && !books.open().has("a"));
}

#[test]
fn more_rejected_rows_than_are_allowed_stop_the_run_and_leave_their_archive_pending() {
    let folder = tempfile::tempdir().unwrap();
    let (books, _archives) = books_of(folder.path(), None, &["a"]);
    let (progress, stop) = (Progress::new(), Stop::new());
    let refusals = Refusals::new(crate::config::RejectedLimit::parse("0"));
    let (sender, receiver) = unbounded();
    sender.send(refused("a")).unwrap();
    drop(sender);
    Ledger::new(Some(&books), None, &Fake(&durable), &progress, &stop).watched_by(&refusals).run(receiver);
    assert!(stop.is_requested());
    let rows = progress.figures().totals.rows;
    assert_eq!((rows.rejected, rows.unconfirmed, books.open().state.get("a")), (0, 1, None));
}

/// An archive that was delivered to an earlier generation of the sink.
fn of_earlier_generation(name: &str) -> Event {
    let mut event = complete(name);
    event.outcomes.generation = Some(PRESENT - 1);
    event
}

#[test]
fn an_archive_to_be_done_again_is_handed_out_again_until_that_is_no_longer_allowed() {
    let folder = tempfile::tempdir().unwrap();
    for (most_rounds, ends_run, is_stopped) in [(1, false, false), (0, true, false), (1, true, true)] {
        let (books, archives) = books_of(folder.path(), Some(most_rounds), &["a"]);
        let (progress, stop) = (Progress::new(), Stop::new());
        if is_stopped {
            stop.request(StopReason::Terminate);
        }
        let (sender, receiver) = unbounded();
        sender.send(of_earlier_generation("a")).unwrap();
        drop(sender);
        let again = Ledger::new(Some(&books), None, &Fake(&durable), &progress, &stop).run(receiver);
        assert!(again.is_empty(), "the books have it");
        assert_eq!(stop.is_requested(), ends_run);
        assert_eq!(books.open().has("a"), !is_stopped, "a stopped run does not begin it again");
        if !is_stopped {
            assert_eq!(archives.try_recv().unwrap().name, "a");
            assert_eq!(stop.is_requested() && stop.as_failure() == moves_for_ever(), ends_run);
        }
    }
}

#[test]
fn without_books_an_archive_to_be_done_again_is_returned() {
    let (progress, stop) = (Progress::new(), Stop::new());
    let (sender, receiver) = unbounded();
    [complete("a"), of_earlier_generation("b")].into_iter().for_each(|event| sender.send(event).unwrap());
    drop(sender);
    let again = Ledger::new(None, None, &Fake(&durable), &progress, &stop).run(receiver);
    assert_eq!(again.iter().map(|archive| &*archive.name).collect::<Vec<_>>(), ["b"]);
}

/// What a ledger logs about these events in a run that stops for `reason`, if any. The archive "never" is never handed
/// out.
fn logged(reason: Option<StopReason>, events: Vec<Event>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (books, _archives) = books_of(folder.path(), None, &["never"]);
    let (progress, stop) = (Progress::new(), Stop::new());
    if let Some(reason) = reason {
        stop.request(reason);
    }
    let (sender, receiver) = unbounded();
    events.into_iter().for_each(|event| sender.send(event).unwrap());
    drop(sender);
    lines_of(|| drop(Ledger::new(Some(&books), None, &Fake(&durable), &progress, &stop).run(receiver)))
}

#[test]
fn archives_that_a_stopped_run_has_not_begun_are_counted_and_all_others_have_a_line() {
    let abandoned = |name, rows| read(name, rows, ArchiveEnd::Abandoned("stopping".into()));
    let events = || {
        let (done, empty) = (complete("done"), read("e.db.zip", 0, ArchiveEnd::Complete));
        vec![abandoned("a", 0), abandoned("b", 0), abandoned("begun", 2), done, empty]
    };
    let begun = "\"begun\" stays pending: stopping; 2 skipped";
    let (done, empty) =
        ("\"done\": 1 skipped", "\"e.db.zip\": no rows; was its database copied without its -wal file?");
    assert_eq!(
        logged(Some(StopReason::Terminate), events()),
        [begun, done, empty, "3 archives were not started: the next run loads them"]
    );
    assert_eq!(
        logged(Some(StopReason::Terminate), vec![]),
        ["1 archive was not started: the next run loads it"]
    );
    let pending = ["\"a\" stays pending: stopping", "\"b\" stays pending: stopping"];
    assert_eq!(logged(None, events()), [pending[0], pending[1], begun, done, empty]);
    assert_eq!(logged(Some(StopReason::Unread), events()), [done, empty], "nobody reads what is left");
}

#[test]
fn what_keeps_an_archive_pending_is_logged_once_in_several_looks() {
    let (progress, stop, lines) = (Progress::new(), Stop::new(), Lines::default());
    let look = || {
        let (sender, receiver) = unbounded();
        sender.send(read("a", 1, ArchiveEnd::Abandoned("being written".into()))).unwrap();
        drop(sender);
        let sink = Fake(&durable);
        lines_of(|| drop(Ledger::new(None, None, &sink, &progress, &stop).logs_once(&lines).run(receiver)))
    };
    assert_eq!(look(), ["\"a\" stays pending: being written; 1 skipped"]);
    assert!(look().is_empty());
}
