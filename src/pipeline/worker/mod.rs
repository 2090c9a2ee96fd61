//! Stages 2 to 4: reads archives into batches.
//!
//! Each worker opens one archive at a time and reads it to its end. While there is none to open, a worker helps others
//! with theirs (`board.rs`). For that, an archive's rows are divided into ranges (`shared.rs`), and each of its readers
//! takes one range after the other (`reading.rs`). So a single large archive keeps all cores busy once it is unzipped,
//! and no run waits for its last archive on one core.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, never};
use rayon::ThreadPool;

use self::board::{Board, Opener};
use self::reading::Reading;
use self::shared::{ReadRows, Shared};
use super::admission::Admission;
use super::archive::{ArchiveBuffers, ArchiveError, Database};
use super::decode::EmbeddingDecoder;
use super::outlet::Outlets;
use super::source::{Content, Queue, Work, as_it_is_now};
use crate::common::timestamp::now_millis;
use crate::model::{Archive, ArchiveEnd, Event, FieldChoice};
use crate::observe::progress::Progress;
use crate::process::shutdown::Stop;

mod board;
mod opening;
mod reading;
mod shared;
pub mod superseded;

/// The state shared by all workers.
pub struct Workers<'r> {
    /// The thread pool, with one thread per worker.
    pub pool: &'r ThreadPool,
    /// Admits archives if there is memory.
    pub admission: &'r Admission,
    /// Counts opened archives.
    pub progress: &'r Progress,
    /// Whether the deletion of an account deletes all its posts. If not, such rows are skipped.
    pub account_deletions: bool,
    /// The fields of posts.
    pub fields: FieldChoice,
    /// Time without a change after which a damaged file is marked as failed. A file that has changed since it was found
    /// is left for a later look. None: all files count as complete.
    pub unchanged: Option<Duration>,
    /// Checked before each row: a run that is to stop abandons the archives being read.
    pub stop: &'r Stop,
}

impl Workers<'_> {
    /// Reads the archives of the queue, one at a time on each thread of the pool. Returns once the queue has ended and
    /// the last archive is read. Drops the outlets then, which closes their channels. A full channel blocks the
    /// workers, which bounds memory.
    pub fn run(&self, queue: &dyn Queue, outlets: Outlets<'_>) {
        let board = Board::new(self.pool.current_num_threads());
        self.pool.broadcast(|worker| {
            // Created before anything can panic: the other workers wait until it is dropped.
            let opener = board.opener();
            self.stop.guard("a worker", || self.work(worker.index(), queue, &board, &outlets, opener));
        });
    }

    /// Runs one worker: opens archives until the queue has ended, and helps others with theirs.
    fn work(
        &self,
        worker: usize,
        queue: &dyn Queue,
        board: &Board,
        outlets: &Outlets<'_>,
        opener: Opener<'_>,
    ) {
        let mut scratch = Scratch {
            archive: ArchiveBuffers::within(self.admission.rooms()),
            embeddings: EmbeddingDecoder::of(self.fields),
        };
        let nothing = never();
        let news = board.news(worker).unwrap_or(&nothing);
        loop {
            match queue.next() {
                Ok(work) => self.process(work, board, outlets, &mut scratch),
                Err(TryRecvError::Empty) => self.help(queue, board, news, outlets, &mut scratch.embeddings),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        drop(opener);
        while let Some(shared) = board.take() {
            self.read(&shared, None, outlets, &mut scratch.embeddings);
        }
    }

    /// Helps with an archive of another worker, or waits until there may be something to do.
    fn help(
        &self,
        queue: &dyn Queue,
        board: &Board,
        news: &Receiver<()>,
        outlets: &Outlets<'_>,
        embeddings: &mut EmbeddingDecoder,
    ) {
        // Cleared before looking at the board, so that later archives count as news again.
        let _ = news.try_recv();
        match board.try_take() {
            Some(shared) => self.read(&shared, None, outlets, embeddings),
            None => queue.wait(news),
        }
    }

    /// Opens and reads one archive.
    fn process(&self, work: Work, board: &Board, outlets: &Outlets<'_>, scratch: &mut Scratch) {
        let Work { archive, content } = work;
        // A file that has changed since it was found is read as it is, unless it is left for a later look.
        let archive = match content {
            Content::AtPath if self.unchanged.is_none() && !self.stop.is_requested() => {
                self.reading(&archive.clone(), || as_it_is_now(archive))
            }
            _ => archive,
        };
        let opened = contain_panic(|| self.open(&archive, content, &mut scratch.archive));
        let (shared, database) = match opened {
            Ok((shared, database)) => (Arc::new(shared), database),
            Err(end) => {
                return self.finish(archive, ReadRows { end: Some(end), ..ReadRows::default() }, outlets);
            }
        };
        if shared.wants_help() {
            board.put(&shared);
        }
        self.read(&shared, Some(database), outlets, &mut scratch.embeddings);
        board.remove(&shared);
    }

    /// Reads the remaining rows of an archive, as one of its readers.
    fn read(
        &self,
        shared: &Shared,
        database: Option<Database>,
        outlets: &Outlets<'_>,
        embeddings: &mut EmbeddingDecoder,
    ) {
        let mut reading = Reading::new(self, shared, outlets);
        let end = contain_panic(|| {
            let database = database.map_or_else(|| Database::open(&shared.image), Ok).map_err(end_by)?;
            reading.rows(&database, embeddings)
        });
        if let Some(mut all) = shared.leave(reading.finish(end.err())) {
            // Only now is the last deletion of each account known.
            let accounts = std::mem::take(&mut all.accounts);
            if !accounts.is_empty() {
                let mut reading = Reading::new(self, shared, outlets);
                let end = contain_panic(|| {
                    reading.push_accounts(accounts);
                    Ok(())
                });
                all.add(reading.finish(end.err()));
            }
            self.finish(shared.archive.clone(), all, outlets);
        }
    }

    /// Reports to the ledger that an archive has been read.
    fn finish(&self, archive: Arc<Archive>, found: ReadRows, outlets: &Outlets<'_>) {
        let end = match found.end {
            Some(ArchiveEnd::Broken(reason)) if self.may_be_unfinished(&archive) => ArchiveEnd::Abandoned(
                format!("{reason}; it has changed a moment ago, so the next look checks it again"),
            ),
            end => end.unwrap_or(ArchiveEnd::Complete),
        };
        let ReadRows { outcomes, batches, .. } = found;
        outlets.report(Event { archive, outcomes, end: Some((end, batches)) });
    }

    /// Whether the file has changed so recently that it may be incomplete.
    fn may_be_unfinished(&self, archive: &Archive) -> bool {
        let age_ms = i128::from(now_millis()) - archive.modified_ns / 1_000_000;
        self.unchanged.is_some_and(|unchanged| age_ms.unsigned_abs() < unchanged.as_millis())
    }
}

/// The buffers that a worker keeps between archives.
struct Scratch {
    archive: ArchiveBuffers,
    embeddings: EmbeddingDecoder,
}

/// Turns a panic into a failure of this archive only.
fn contain_panic<T>(f: impl FnOnce() -> Result<T, ArchiveEnd>) -> Result<T, ArchiveEnd> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(ArchiveEnd::Abandoned("an internal error (please report it)".into())))
}

/// Converts a read error to the end of an archive.
fn end_by(error: ArchiveError) -> ArchiveEnd {
    match error {
        ArchiveError::Broken(reason) => ArchiveEnd::Broken(reason),
        ArchiveError::Unavailable(reason) => ArchiveEnd::Abandoned(reason),
        ArchiveError::NoRoom(_) => ArchiveEnd::Abandoned(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
