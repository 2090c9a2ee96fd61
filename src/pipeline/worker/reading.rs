//! One reader of an archive: its rows become outcomes, and actions in batches.

use std::mem;
use std::ops::ControlFlow;

use super::shared::{Accounts, Found, Shared, keep_last};
use super::{Out, Workers};
use crate::pipeline::archive::{ArchiveError, Database};
use crate::pipeline::decode::{
    AccountDeletion, Deletion, EmbeddingDecoder, MAX_ID_BYTES, Post, Rejection, Row, SkipReason, Verdict,
    check_row_id, classify,
};
use crate::pipeline::encode::batch::Batcher;
use crate::pipeline::encode::document::{write_account_tombstone, write_post, write_tombstone};
use crate::pipeline::vectors::Sample;
use crate::pipeline::{Action, ActionKind, ArchiveEnd, Batch, DeadLetter, Event, Reasons, Version};
use crate::timestamp::now_millis;

/// Dead letters that a reader holds at most. An archive of some MB may hold millions of rows to reject.
const DEAD_LETTERS_AT_ONCE: usize = 256;

/// An archive that is being read, by one of its readers.
pub(super) struct Reading<'w> {
    workers: &'w Workers<'w>,
    shared: &'w Shared,
    out: &'w Out<'w>,
    /// There until the end.
    batcher: Option<Batcher>,
    found: Found,
}

impl<'w> Reading<'w> {
    /// Nothing is read yet.
    pub(super) fn new(workers: &'w Workers<'w>, shared: &'w Shared, out: &'w Out<'w>) -> Self {
        let batcher = Batcher::new(shared.archive.clone(), workers.limits, workers.buffers.take());
        Self { workers, shared, out, batcher: Some(batcher), found: Found::default() }
    }

    /// Reads one range after the other, until nothing is left or the run is to stop.
    pub(super) fn rows(
        &mut self,
        database: &Database,
        embeddings: &mut EmbeddingDecoder,
    ) -> Result<Result<(), ArchiveEnd>, ArchiveError> {
        let mut end = Ok(());
        while end.is_ok()
            && let Some(range) = self.shared.next_range()
        {
            database.for_each_row(&range, |row| {
                if self.workers.stop.is_requested() {
                    end = Err(stopping());
                    return ControlFlow::Break(());
                }
                self.take_in(row, embeddings);
                ControlFlow::Continue(())
            })?;
        }
        Ok(end)
    }

    /// Hands on the last batch. `end` is why the reader does not go on, if not for want of rows.
    pub(super) fn finish(mut self, end: Option<ArchiveEnd>) -> Found {
        let last = self.batcher.take().and_then(Batcher::finish);
        if let Some(batch) = last {
            self.send(batch);
        }
        self.found.end = end;
        self.found
    }

    /// Brings one row to its outcome, or into a batch.
    fn take_in(&mut self, row: &Row<'_>, embeddings: &mut EmbeddingDecoder) {
        self.found.outcomes.tally.read += 1;
        match classify(row) {
            Verdict::Skip(reason) => self.skip(reason),
            Verdict::Reject(rejection) => self.reject(row, rejection),
            Verdict::DeleteAccount(_) if !self.workers.account_deletions => {
                self.skip(SkipReason::AccountEvent)
            }
            Verdict::DeleteAccount(deletion) => self.delete_account(row, deletion),
            Verdict::Post(_) | Verdict::Delete(_) if self.shared.superseded.contains(row.id) => {
                self.found.outcomes.tally.superseded += 1;
            }
            Verdict::Post(post) => self.post(row, &post, embeddings),
            Verdict::Delete(deletion) => self.delete(row, &deletion),
        }
    }

    fn skip(&mut self, reason: SkipReason) {
        self.found.outcomes.tally.skipped += 1;
        Reasons::count(&mut self.found.outcomes.reasons.skipped, reason.name());
    }

    fn reject(&mut self, row: &Row<'_>, rejection: Rejection) {
        self.found.outcomes.tally.rejected += 1;
        Reasons::count(&mut self.found.outcomes.reasons.rejected, rejection.name);
        log::debug!("{:?}, row {}: {}", self.shared.archive.name, row.id, rejection.reason);
        self.found.outcomes.dead_letters.push(DeadLetter {
            archive: self.shared.archive.name.clone(),
            row_id: row.id,
            at_uri: shortened(row.at_uri.bytes().unwrap_or_default()),
            stage: "decode".into(),
            error_type: rejection.name.to_owned(),
            reason: rejection.reason,
            action: None,
            document: None,
        });
        if self.found.outcomes.dead_letters.len() >= DEAD_LETTERS_AT_ONCE {
            self.tell_outcomes();
        }
    }

    /// Hands on what rows have come to so far. Their number is kept, since it is compared at the archive's end.
    fn tell_outcomes(&mut self) {
        let mut outcomes = mem::take(&mut self.found.outcomes);
        self.found.outcomes.tally.read = mem::take(&mut outcomes.tally.read);
        // The ledger listens until all senders of events are gone.
        let _ = self.out.events.send(Event::Batch { archive: self.shared.archive.clone(), outcomes });
        self.found.batches += 1;
    }

    fn post(&mut self, row: &Row<'_>, post: &Post<'_>, embeddings: &mut EmbeddingDecoder) {
        let embeddings = embeddings.decode(row.inferences);
        let dropped = &mut self.found.outcomes.reasons.dropped_fields;
        post.dropped
            .fields()
            .chain(embeddings.dropped.fields())
            .for_each(|field| Reasons::count(dropped, field));
        // A row without a version is not sent, see `push`.
        let Some(version) = Version::new(self.shared.seconds, row.id) else { return };
        let sample =
            Sample { archive: &self.shared.archive, row_id: row.id, version, post, embeddings: &embeddings };
        let vectors = self.workers.vectors.encoding(&sample);
        let author = Some(&*post.author_did).filter(|did| self.workers.account_deletions && !did.is_empty());
        self.push(ActionKind::Post, row.id, post.at_uri, author, |body, version| {
            write_post(body, post, &embeddings, vectors, version, now_millis());
        });
    }

    fn delete(&mut self, row: &Row<'_>, deletion: &Deletion<'_>) {
        let deleted_at = deletion.deleted_at.unwrap_or(self.shared.seconds * 1000);
        self.push(ActionKind::Tombstone, row.id, deletion.at_uri, None, |body, version| {
            write_tombstone(body, deletion, deleted_at, version, now_millis());
        });
    }

    /// Keeps the deletion of an account until the archive's end: it is the last one that counts.
    fn delete_account(&mut self, row: &Row<'_>, deletion: AccountDeletion<'_>) {
        if let Err(rejection) = check_row_id(row.id) {
            return self.reject(row, rejection);
        }
        let deleted_at = deletion.deleted_at.unwrap_or(self.shared.seconds * 1000);
        let did = deletion.did.into_owned();
        let superseded = keep_last(&mut self.found.accounts, did, (row.id, deleted_at));
        self.found.outcomes.tally.superseded += u64::from(superseded);
    }

    /// Hands on the deletions of accounts.
    pub(super) fn push_accounts(&mut self, accounts: Accounts) {
        for (did, (row_id, deleted_at)) in accounts {
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
        let (Some(version), Some(batcher)) = (Version::new(self.shared.seconds, row_id), &mut self.batcher)
        else {
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
        match self.out.batches.send(batch) {
            Ok(()) => self.found.batches += 1,
            // The channel outlives the workers; rows that could not be handed on are told all the same.
            Err(_) => self.found.outcomes.tally.unconfirmed += rows,
        }
    }
}

/// An `at_uri` for a dead letter: the column may hold megabytes, and no longer one can be an `_id`.
fn shortened(at_uri: &[u8]) -> String {
    match at_uri.get(..MAX_ID_BYTES) {
        Some(beginning) if at_uri.len() > MAX_ID_BYTES => {
            format!("{}… ({} bytes)", String::from_utf8_lossy(beginning), at_uri.len())
        }
        _ => String::from_utf8_lossy(at_uri).into_owned(),
    }
}

/// How an archive ends that the run has no time for any more.
pub(super) fn stopping() -> ArchiveEnd {
    ArchiveEnd::Abandoned("the run was stopped".into())
}
