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
use super::archive::{
    self, ArchiveError, Database, Image, Room, bytes_declared, bytes_declared_in, bytes_to_read,
};
use super::decode::EmbeddingDecoder;
use super::outlet::Outlets;
use super::source::{Content, Download, Queue, Work, as_it_is_now, has_changed};
use crate::common::timestamp::now_millis;
use crate::model::{Archive, ArchiveEnd, Event, FieldChoice, MAX_ARCHIVE_SECONDS};
use crate::observe::progress::Progress;
use crate::process::shutdown::Stop;

mod board;
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
            archive: archive::ArchiveBuffers::within(self.admission.rooms()),
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
            Content::AtPath if self.unchanged.is_none() => {
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

    /// Unzips an archive and scans it.
    fn open(
        &self,
        archive: &Arc<Archive>,
        content: Content,
        buffers: &mut archive::ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveEnd> {
        if self.stop.is_requested() {
            return Err(reading::stopping());
        }
        let opened = match content {
            Content::AtPath => self.read_file(archive, buffers),
            Content::Downloaded(download) => {
                download.and_then(|download| self.unpack(archive, download, buffers))
            }
        };
        let (shared, database) = opened.map_err(|error| match error {
            ArchiveError::NoRoom(needed) => {
                ArchiveEnd::Abandoned(self.admission.mark_too_large(archive, needed))
            }
            error => end_by(error),
        })?;
        self.progress.opened(archive, shared.rows());
        Ok((shared, database))
    }

    /// Reads and unzips a file once it is admitted. If it turns out to need more memory, waits for that, or for all there
    /// is, and starts again.
    fn read_file(
        &self,
        archive: &Arc<Archive>,
        buffers: &mut archive::ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        let mut needed =
            self.reading(archive, || self.unless_changed(archive, bytes_declared(&archive.path)))?;
        // The memory needed after unzipping, in bytes, if it turns out to be more than usual.
        let mut beside = 0;
        let total = self.admission.rooms().total();
        loop {
            let mut room = self.admission.admit(needed, self.stop)?;
            let image = self.reading(archive, || {
                self.unless_changed(archive, buffers.read_within(&archive.path, room.bytes()))
            })?;
            // The file is no longer in memory, and the size of the database is known now.
            room.shrink_to(beside.max(bytes_to_read(0, image.len() as u64)));
            match self.scan(archive, image, room) {
                Err(ArchiveError::NoRoom(more)) if beside < total => {
                    beside = more.min(total);
                    needed = needed.max(beside);
                }
                scanned => return scanned,
            }
        }
    }

    /// Unzips a download once it is admitted. If it turns out to need more memory, waits for that, or for all there is,
    /// and starts again.
    fn unpack(
        &self,
        archive: &Arc<Archive>,
        mut download: Download,
        buffers: &mut archive::ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        let mut needed = bytes_declared_in(download.bytes())?;
        if let Some(room) = download.alone() {
            return self.unpack_alone(archive, download, needed, room, buffers);
        }
        let total = self.admission.rooms().total();
        loop {
            let room = self.admission.admit(needed, self.stop)?;
            let image = buffers.unpack(download.bytes())?;
            match self.scan(archive, image, room) {
                Err(ArchiveError::NoRoom(more)) if needed < total => needed = more.min(total),
                scanned => return scanned,
            }
        }
    }

    /// Unzips a download for which all memory was reserved. Drops the file then, so that others can be downloaded. They can
    /// be read once the rows are counted and the memory that this takes is known.
    fn unpack_alone(
        &self,
        archive: &Arc<Archive>,
        download: Download,
        needed: u64,
        room: Room,
        buffers: &mut archive::ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        self.admission.check_alone(archive.bytes, needed)?;
        let image = buffers.unpack(download.bytes())?;
        drop(download);
        self.scan(archive, image, room)
    }

    /// Scans an archive and divides it into ranges.
    fn scan(
        &self,
        archive: &Arc<Archive>,
        image: Image,
        room: Room,
    ) -> Result<(Shared, Database), ArchiveError> {
        let image = Arc::new(image);
        let database = Database::open(&image)?;
        let seconds = archive_seconds(archive, &database)?;
        let shared = Shared::new(archive.clone(), image, &database, seconds, room)?;
        Ok((shared, database))
    }

    /// Calls a function that waits for the disk or file server of an archive.
    fn reading<T>(&self, archive: &Archive, read: impl FnOnce() -> T) -> T {
        self.stop.pulse().while_reading(&archive.path, read)
    }

    /// Returns the result of reading, unless the file has changed since it was found. A changed file may have been
    /// incomplete, even if it was read without an error.
    fn unless_changed<T>(&self, archive: &Archive, read: Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        if self.unchanged.is_some() && has_changed(archive) {
            let why = "it is still being written; the next look checks it again";
            return Err(ArchiveError::Unavailable(why.to_owned()));
        }
        read
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
    archive: archive::ArchiveBuffers,
    embeddings: EmbeddingDecoder,
}

/// Returns the archive's time, in seconds since 1970: from its name, else the newest `created_at` of its rows, else the
/// modification time of the file.
fn archive_seconds(archive: &Archive, database: &Database) -> Result<i64, ArchiveError> {
    if let Some(seconds) = archive.seconds {
        return Ok(seconds);
    }
    let in_range = |seconds: &i64| (0..MAX_ARCHIVE_SECONDS).contains(seconds);
    let name = &archive.name;
    if let Some(seconds) = database.newest_created_at()?.filter(in_range) {
        log::warn!("{name:?} has no time in its name: the time of its newest row orders its events");
        return Ok(seconds);
    }
    log::warn!("{name:?} has no time in its name or rows: the time of the file orders its events");
    i64::try_from(archive.modified_ns / 1_000_000_000).ok().filter(in_range).ok_or_else(|| {
        ArchiveError::Broken("neither its name nor its rows nor the file has a usable time".into())
    })
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
