//! Tests of workers on archives, with a sink that observes them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};
use rayon::ThreadPoolBuilder;
use serde_json::json;

use super::*;
use crate::common::exit::Failure;
use crate::config::BatchLimits;
use crate::model::{Action, Batch, Document, Generation, Outcomes, Selection, Tally};
use crate::pipeline::archive::bytes_declared;
use crate::pipeline::buffers::BufferPool;
use crate::pipeline::source::{Content, Download};
use crate::process::shutdown::StopReason;
use crate::sink::Sink;
use crate::sink::upcoming::Upcoming;

/// A sink that calls a function for each document.
struct Fake<F: Fn(&Document<'_>) + Sync>(F);

impl<F: Fn(&Document<'_>) + Sync> Sink for Fake<F> {
    fn encode(&self, body: &mut Vec<u8>, _: &Action, document: &Document<'_>) {
        self.0(document);
        body.push(b'\n');
    }

    fn deliver(&self, _: &Batch, _: &mut Upcoming) -> Outcomes {
        Outcomes::default()
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        Ok(0)
    }
}

/// Writes an archive of `posts` posts, followed by the deletions of `accounts` accounts.
fn write(path: &Path, posts: i64, accounts: i64) -> Arc<Archive> {
    let post = |n: i64| {
        let commit = json!({"operation": "create", "record": {"text": "x"}});
        (format!("at://{n}"), json!({"message": {"commit": commit}}))
    };
    let account = |n: i64| {
        let account = json!({"status": "deleted", "did": format!("did:{n}")});
        (String::new(), json!({"message": {"kind": "account", "account": account}}))
    };
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE posts (at_uri, did, raw_post, inferences)").unwrap();
    let transaction = connection.transaction().unwrap();
    for (at_uri, raw_post) in (0..posts).map(post).chain((0..accounts).map(account)) {
        let row = (at_uri, raw_post.to_string());
        transaction.execute("INSERT INTO posts (at_uri, raw_post) VALUES (?, ?)", row).unwrap();
    }
    transaction.commit().unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    Arc::new(Archive { name, path: path.into(), seconds: Some(1), bytes: 1, modified_ns: 0, etag: None })
}

/// The result of a run of the workers.
struct Observed {
    batches: Receiver<Batch>,
    events: Receiver<Event>,
    stop: Stop,
    progress: Progress,
}

impl Observed {
    /// Returns the end and the rows of the only archive.
    fn end(&self) -> (ArchiveEnd, Tally) {
        let events: Vec<Event> = self.events.try_iter().collect();
        let [Event { outcomes, end: Some((end, _)), .. }] = &events[..] else { panic!("{events:?}") };
        (end.clone(), outcomes.tally.clone())
    }

    /// Returns the number of rows in batches.
    fn sent(&self) -> u64 {
        self.batches.try_iter().map(|batch| batch.actions.len() as u64).sum()
    }
}

/// Runs two workers on an archive.
fn work(archive: &Arc<Archive>, encode: impl Fn(&Document<'_>) + Sync) -> Observed {
    let (found, archives) = unbounded();
    found.send(archive.clone()).unwrap();
    drop(found);
    work_through(archive, &archives, encode)
}

/// Runs two workers on a queue whose first archive is `first`.
fn work_through(first: &Arc<Archive>, queue: &dyn Queue, encode: impl Fn(&Document<'_>) + Sync) -> Observed {
    let (batch_sender, batches) = unbounded();
    let (event_sender, events) = unbounded();
    let (stop, progress) = (Stop::new(), Progress::new());
    progress.looked(&Selection { take: vec![first.clone()], ..Selection::default() });
    let admission = Admission::new(1 << 30, 2, false);
    let limits = BatchLimits { docs: 10, bytes: 1 << 20 };
    let (sink, buffers) = (&Fake(encode), &BufferPool::new(1));
    with_workers(&admission, &progress, &stop, |workers| {
        workers.run(queue, Outlets { sink, limits, batches: batch_sender, events: event_sender, buffers });
    });
    Observed { batches, events, stop, progress }
}

/// Calls a function with two workers.
fn with_workers(admission: &Admission, progress: &Progress, stop: &Stop, work: impl FnOnce(&Workers<'_>)) {
    work(&Workers {
        pool: &ThreadPoolBuilder::new().num_threads(2).build().unwrap(),
        admission,
        progress,
        account_deletions: true,
        fields: FieldChoice::default(),
        unchanged: None,
        stop,
    });
}

/// Memory for an archive of [`many_rows`], but not for twice as much, in bytes.
const FITS_ONCE: u64 = 12 << 20;

/// Writes an archive whose rows take 9 MB while they are counted, though its size of 1 MB does not show that.
fn many_rows(path: &Path) -> Arc<Archive> {
    let archive = write(path, 0, 0);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
        INSERT INTO posts (at_uri) SELECT '' FROM n";
    rusqlite::Connection::open(path).unwrap().execute_batch(fill).unwrap();
    archive
}

/// A queue that panics.
struct Panics;

impl Queue for Panics {
    fn next(&self) -> Result<Work, TryRecvError> {
        panic!("provoked")
    }

    fn wait(&self, _: &Receiver<()>) {}
}

#[test]
fn a_worker_without_an_archive_helps_another() {
    let folder = tempfile::tempdir().unwrap();
    let archive = write(&folder.path().join("a.db.zip"), 1000, 0);
    let (seen, changed) = (Mutex::new(HashSet::<ThreadId>::new()), Condvar::new());
    let until = Instant::now() + Duration::from_secs(30);
    // Also while more archives may come.
    for more_may_come in [false, true] {
        seen.lock().unwrap().clear();
        let (found, archives) = unbounded();
        found.send(archive.clone()).unwrap();
        let found = Mutex::new(more_may_come.then_some(found));
        // Neither continues before both have arrived.
        let observed = work_through(&archive, &archives, |_| {
            let mut seen = seen.lock().unwrap();
            seen.insert(thread::current().id());
            changed.notify_all();
            let patience = until.saturating_duration_since(Instant::now());
            let _ = changed.wait_timeout_while(seen, patience, |seen| seen.len() < 2).unwrap();
            *found.lock().unwrap() = None;
        });
        assert_eq!(seen.lock().unwrap().len(), 2);
        assert_eq!((observed.end().0, observed.sent()), (ArchiveEnd::Complete, 1000));
    }
}

#[test]
fn the_progress_knows_the_rows_of_an_open_archive() {
    let folder = tempfile::tempdir().unwrap();
    for rows in [0, 1, 7, 600] {
        let archive = write(&folder.path().join(format!("{rows}.db.zip")), rows, 0);
        let observed = work(&archive, |_| {});
        let backlog = observed.progress.figures().backlog.unwrap();
        // The size of the file that was read, not the one of the look, which may be older.
        let bytes = std::fs::metadata(&archive.path).unwrap().len();
        assert_eq!((backlog.opened_rows, backlog.opened_bytes), (rows as u64, bytes));
    }
}

#[test]
fn an_archive_that_fits_waits_for_all_memory_if_there_is_not_twice_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let archive = many_rows(&folder.path().join("a.db.zip"));
    let declared = bytes_declared(&archive.path).unwrap();
    let download = Download::of(std::fs::read(&archive.path).unwrap(), None);
    for content in [Content::AtPath, Content::Downloaded(Ok(download))] {
        let (stop, progress) = (Stop::new(), Progress::new());
        let admission = Admission::new(FITS_ONCE, 2, false);
        // Leaves room for what the archive declares, but not for its rows.
        let other = admission.admit(FITS_ONCE - declared, &stop).unwrap();
        with_workers(&admission, &progress, &stop, |workers| {
            thread::scope(|scope| {
                let open = || workers.open(&archive, content, &mut ArchiveBuffers::new());
                let opening = scope.spawn(|| open().map(|(shared, _)| shared.rows()));
                let waits_for_more = || admission.rooms().awaited().is_some_and(|bytes| bytes > declared);
                while !opening.is_finished() && !waits_for_more() {
                    thread::yield_now();
                }
                drop(other);
                assert_eq!(opening.join().unwrap(), Ok(70_000));
            });
        });
    }
}

#[test]
fn an_archive_that_is_read_alone_keeps_all_memory_until_its_rows_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let archive = many_rows(&folder.path().join("a.db.zip"));
    let (stop, progress) = (Stop::new(), Progress::new());
    let admission = Admission::new(FITS_ONCE, 2, false);
    let alone = admission.admit_alone(&stop);
    let download = Download::of(std::fs::read(&archive.path).unwrap(), alone);
    with_workers(&admission, &progress, &stop, |workers| {
        thread::scope(|scope| {
            // Less than the archive leaves once its rows are counted, but more than it leaves before.
            let waiting = scope.spawn(|| admission.admit(FITS_ONCE / 2, &stop));
            while admission.rooms().awaited().is_none() {
                thread::yield_now();
            }
            let content = Content::Downloaded(Ok(download));
            let opened = workers.open(&archive, content, &mut ArchiveBuffers::new());
            let rows = opened.as_ref().map(|(shared, _)| shared.rows());
            assert_eq!(rows, Ok(70_000));
            assert_eq!(admission.rooms().awaited(), None, "the rest is free again");
            assert!(waiting.join().unwrap().is_ok());
        });
    });
}

#[test]
fn a_row_whose_encoding_panics_fails_its_archive_but_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let archive = write(&folder.path().join("a.db.zip"), 5, 0);
    let observed = work(&archive, |document| {
        assert!(!matches!(document, Document::Post { post, .. } if post.at_uri == "at://2"), "provoked");
    });
    let (end, tally) = observed.end();
    assert!(matches!(end, ArchiveEnd::Abandoned(reason) if reason.contains("internal error")));
    assert_eq!((tally.read, tally.settled(), observed.sent()), (2, 0, 2));
    assert_eq!(observed.stop.reason(), None);
}

#[test]
fn an_account_whose_encoding_panics_leaves_no_row_without_an_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let archive = write(&folder.path().join("a.db.zip"), 5, 3);
    let observed = work(&archive, |document| {
        let is_second = matches!(document, Document::Tombstone(tombstone) if tombstone.author_did == "did:1");
        assert!(!is_second, "provoked");
    });
    let (end, tally) = observed.end();
    assert!(matches!(end, ArchiveEnd::Abandoned(reason) if reason.contains("internal error")));
    assert_eq!((tally.read, tally.unconfirmed, observed.sent()), (8, 2, 6));
}

#[test]
fn a_worker_that_panics_stops_the_run_and_blocks_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let archive = write(&folder.path().join("a.db.zip"), 5, 0);
    let observed = work_through(&archive, &Panics, |_| {});
    let Some(StopReason::Fatal(failure)) = observed.stop.reason() else { panic!("the run goes on") };
    assert!(failure.message.contains("an internal error in a worker: provoked"), "{failure}");
    assert_eq!(observed.events.len(), 0);
}
