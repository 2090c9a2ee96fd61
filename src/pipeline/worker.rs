//! Stages 2 to 4 for one archive at a time: from its path to batches in the channel.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rayon::ThreadPool;

use super::archive::{self, ArchiveError, Database};
use super::decode::deciding::Superseded;
use super::decode::{
    AccountDeletion, Deletion, EmbeddingDecoder, Post, Rejection, Row, SkipReason, Verdict, check_row_id,
    classify,
};
use super::encode::batch::Batcher;
use super::encode::buffers::Buffers;
use super::encode::document::{write_account_tombstone, write_post, write_tombstone};
use super::source::{Content, Work};
use super::vectors::{Sample, Vectors};
use super::{
    Action, ActionKind, Archive, ArchiveEnd, Batch, DeadLetter, Event, MAX_ARCHIVE_SECONDS, Outcomes,
    Reasons, Version,
};
use crate::config::BatchLimits;
use crate::shutdown::Stop;
use crate::timestamp::now_millis;

/// What all workers share.
pub struct Workers<'r> {
    /// The pool, one archive a thread.
    pub pool: &'r ThreadPool,
    /// Limits of one batch.
    pub limits: BatchLimits,
    /// How vectors are written.
    pub vectors: &'r Vectors<'r>,
    /// The deletion of an account means that of all its posts; else it is skipped.
    pub account_deletions: bool,
    /// Spent batch bodies.
    pub buffers: &'r Buffers,
    /// A broken file is not judged before it has been unchanged for this long; None: at once.
    pub unchanged: Option<Duration>,
    /// Looked at between rows: a run that is to stop abandons the archives it is reading.
    pub stop: &'r Stop,
}

impl Workers<'_> {
    /// Decodes the archives that `next` hands out, as many at once as the pool has threads. Returns when the last one
    /// is read; the channel of batches closes with the senders given. A full channel holds the workers up: that is
    /// what bounds memory.
    pub fn run(
        &self,
        next: &(dyn Fn() -> Option<Work> + Sync),
        batches: Sender<Batch>,
        events: Sender<Event>,
    ) {
        self.pool.broadcast(|_| {
            let mut scratch = Scratch::default();
            while let Some(work) = next() {
                let event = self.take_up(work, &batches, &mut scratch);
                // The ledger listens until all senders of events are gone.
                let _ = events.send(event);
            }
        });
    }

    /// Reads one archive to its end, or as far as it goes.
    fn take_up(&self, work: Work, batches: &Sender<Batch>, scratch: &mut Scratch) -> Event {
        let Work { archive, content } = work;
        let mut reading = Reading {
            workers: self,
            archive: &archive,
            batches,
            batcher: Some(Batcher::new(archive.clone(), self.limits, self.buffers.take())),
            seconds: 0,
            accounts: BTreeMap::new(),
            outcomes: Outcomes::default(),
            sent: 0,
        };
        // A panic is a bug of ours; it must cost no more than the archive that shows it.
        let end = catch_unwind(AssertUnwindSafe(|| reading.read(content, scratch)))
            .unwrap_or_else(|_| ArchiveEnd::Abandoned("an internal error (please report it)".into()));
        reading.push_accounts();
        let last = reading.batcher.take().and_then(Batcher::finish);
        if let Some(batch) = last {
            reading.send(batch);
        }
        let Reading { outcomes, sent, .. } = reading;
        Event::Archive { archive, outcomes, batches: sent, end }
    }
}

/// What a worker keeps from one archive to the next.
#[derive(Default)]
struct Scratch {
    archive: archive::Buffers,
    embeddings: EmbeddingDecoder,
}

/// An archive that is being read.
struct Reading<'w> {
    workers: &'w Workers<'w>,
    archive: &'w Arc<Archive>,
    batches: &'w Sender<Batch>,
    /// There until the end.
    batcher: Option<Batcher>,
    /// The archive's time, seconds since 1970.
    seconds: i64,
    /// The last deletion of each account so far, by its DID: row id, and time in milliseconds since 1970.
    accounts: BTreeMap<String, (i64, i64)>,
    outcomes: Outcomes,
    /// Batches handed to the senders.
    sent: u64,
}

impl Reading<'_> {
    fn read(&mut self, content: Content, scratch: &mut Scratch) -> ArchiveEnd {
        if self.workers.stop.is_requested() {
            return stopping();
        }
        match self.read_rows(content, scratch) {
            Ok(ControlFlow::Continue(())) => ArchiveEnd::Complete,
            Ok(ControlFlow::Break(())) => stopping(),
            Err(ArchiveError::Broken(reason)) if self.may_be_unfinished() => ArchiveEnd::Abandoned(format!(
                "{reason}; it has changed a moment ago, so it is looked at again"
            )),
            Err(ArchiveError::Broken(reason)) => ArchiveEnd::Broken(reason),
            Err(ArchiveError::Unavailable(reason)) => ArchiveEnd::Abandoned(reason),
        }
    }

    fn read_rows(
        &mut self,
        content: Content,
        scratch: &mut Scratch,
    ) -> Result<ControlFlow<()>, ArchiveError> {
        let database = match content {
            Content::AtPath => Database::open(&self.archive.path, &mut scratch.archive)?,
            // The file is dropped as soon as it is unzipped, which lets the next download begin.
            Content::Downloaded(file) => Database::from_bytes(file?.bytes(), scratch.archive.inflater())?,
        };
        self.seconds = self.archive_seconds(&database)?;
        let superseded = Superseded::find(&database)?;
        let mut flow = ControlFlow::Continue(());
        database.for_each_row(|row| {
            if self.workers.stop.is_requested() {
                flow = ControlFlow::Break(());
            } else {
                self.take_in(row, &superseded, &mut scratch.embeddings);
            }
            flow
        })?;
        Ok(flow)
    }

    /// Whether the file was written to so lately that somebody may still be writing.
    fn may_be_unfinished(&self) -> bool {
        let age_ms = i128::from(now_millis()) - self.archive.modified_ns / 1_000_000;
        self.workers.unchanged.is_some_and(|unchanged| age_ms.unsigned_abs() < unchanged.as_millis())
    }

    /// The time in the archive's name, else the newest `created_at` of its rows, else the file's time.
    fn archive_seconds(&self, database: &Database) -> Result<i64, ArchiveError> {
        if let Some(seconds) = self.archive.seconds {
            return Ok(seconds);
        }
        let in_range = |seconds: &i64| (0..MAX_ARCHIVE_SECONDS).contains(seconds);
        let name = &self.archive.name;
        if let Some(seconds) = database.newest_created_at()?.filter(in_range) {
            log::warn!(
                "{name:?} has no time in its name: that of its newest row is taken to order its events"
            );
            return Ok(seconds);
        }
        log::warn!("{name:?} has no time in its name or rows: that of the file is taken to order its events");
        i64::try_from(self.archive.modified_ns / 1_000_000_000).ok().filter(in_range).ok_or_else(|| {
            ArchiveError::Broken("neither its name nor its rows nor the file has a usable time".into())
        })
    }

    /// Brings one row to its outcome, or into a batch.
    fn take_in(&mut self, row: &Row<'_>, superseded: &Superseded, embeddings: &mut EmbeddingDecoder) {
        self.outcomes.tally.read += 1;
        match classify(row) {
            Verdict::Skip(reason) => self.skip(reason),
            Verdict::Reject(rejection) => self.reject(row, rejection),
            Verdict::DeleteAccount(_) if !self.workers.account_deletions => {
                self.skip(SkipReason::AccountEvent)
            }
            Verdict::DeleteAccount(deletion) => self.delete_account(row, deletion),
            Verdict::Post(_) | Verdict::Delete(_) if superseded.contains(row.id) => {
                self.outcomes.tally.superseded += 1;
            }
            Verdict::Post(post) => self.post(row, &post, embeddings),
            Verdict::Delete(deletion) => self.delete(row, &deletion),
        }
    }

    fn skip(&mut self, reason: SkipReason) {
        self.outcomes.tally.skipped += 1;
        Reasons::count(&mut self.outcomes.reasons.skipped, reason.name());
    }

    fn reject(&mut self, row: &Row<'_>, rejection: Rejection) {
        self.outcomes.tally.rejected += 1;
        Reasons::count(&mut self.outcomes.reasons.rejected, rejection.name);
        let at_uri = String::from_utf8_lossy(row.at_uri.bytes().unwrap_or_default());
        log::debug!("{:?}, row {}: {}", self.archive.name, row.id, rejection.reason);
        self.outcomes.dead_letters.push(DeadLetter {
            archive: self.archive.name.clone(),
            row_id: row.id,
            at_uri: at_uri.into_owned(),
            stage: "decode".into(),
            error_type: rejection.name.to_owned(),
            reason: rejection.reason,
            action: None,
            document: None,
        });
    }

    fn post(&mut self, row: &Row<'_>, post: &Post<'_>, embeddings: &mut EmbeddingDecoder) {
        let embeddings = embeddings.decode(row.inferences);
        let dropped = &mut self.outcomes.reasons.dropped_fields;
        post.dropped
            .fields()
            .chain(embeddings.dropped.fields())
            .for_each(|field| Reasons::count(dropped, field));
        // A row without a version is not sent, see `push`.
        let Some(version) = Version::new(self.seconds, row.id) else { return };
        let sample = Sample { archive: self.archive, row_id: row.id, version, post, embeddings: &embeddings };
        let vectors = self.workers.vectors.encoding(&sample);
        let author = Some(&*post.author_did).filter(|did| self.workers.account_deletions && !did.is_empty());
        self.push(ActionKind::Post, row.id, post.at_uri, author, |body, version| {
            write_post(body, post, &embeddings, vectors, version, now_millis());
        });
    }

    fn delete(&mut self, row: &Row<'_>, deletion: &Deletion<'_>) {
        let deleted_at = deletion.deleted_at.unwrap_or(self.seconds * 1000);
        self.push(ActionKind::Tombstone, row.id, deletion.at_uri, None, |body, version| {
            write_tombstone(body, deletion, deleted_at, version, now_millis());
        });
    }

    /// Keeps the deletion of an account until the archive's end: it is the last one that counts.
    fn delete_account(&mut self, row: &Row<'_>, deletion: AccountDeletion<'_>) {
        if let Err(rejection) = check_row_id(row.id) {
            return self.reject(row, rejection);
        }
        let deleted_at = deletion.deleted_at.unwrap_or(self.seconds * 1000);
        let earlier = self.accounts.insert(deletion.did.into_owned(), (row.id, deleted_at));
        self.outcomes.tally.superseded += u64::from(earlier.is_some());
    }

    fn push_accounts(&mut self) {
        for (did, (row_id, deleted_at)) in std::mem::take(&mut self.accounts) {
            self.push(ActionKind::AccountTombstone { deleted_at }, row_id, &did, None, |body, version| {
                write_account_tombstone(body, &did, deleted_at, version, now_millis());
            });
        }
    }

    fn push(
        &mut self,
        kind: ActionKind,
        row_id: i64,
        id: &str,
        author: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>, Version),
    ) {
        // Row ids without a version were rejected, times without one never taken.
        let (Some(version), Some(batcher)) = (Version::new(self.seconds, row_id), &mut self.batcher) else {
            return;
        };
        let spare = || self.workers.buffers.take();
        let (id, author) = (id.into(), author.map(Into::into));
        let action = Action { kind, row_id, origin: None, version, id, author, lines: 0..0 };
        let full = batcher.push_action(action, |body| write(body, version), spare);
        if let Some(batch) = full {
            self.send(batch);
        }
    }

    fn send(&mut self, batch: Batch) {
        let rows = batch.actions.len() as u64;
        match self.batches.send(batch) {
            Ok(()) => self.sent += 1,
            // The channel outlives the workers; rows that could not be handed on are told all the same.
            Err(_) => self.outcomes.tally.unconfirmed += rows,
        }
    }
}

fn stopping() -> ArchiveEnd {
    ArchiveEnd::Abandoned("the run was stopped".into())
}
