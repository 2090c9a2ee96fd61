//! One reader of an archive: turns its rows into outcomes, and into actions in batches.

use std::ops::ControlFlow;

use super::shared::{Accounts, ReadRows, Shared, keep_last};
use super::superseded::RowEvent;
use super::{Workers, end_by};
use crate::model::{
    AccountDeletion, Action, ActionKind, ArchiveEnd, DeadLetter, Deletion, Document, MAX_ID_BYTES, Post,
    Reasons, Tombstone, Version,
};
use crate::pipeline::archive::{ArchiveError, Database, Row};
use crate::pipeline::decode::{EmbeddingDecoder, Rejection, SkipReason, Verdict, added, classify};
use crate::pipeline::outlet::{Outlet, Outlets};

/// Maximum number of dead letters that a reader holds: an archive of a few MB may have millions of rejected rows.
const DEAD_LETTERS_AT_ONCE: usize = 256;

/// One reader's work on an archive.
pub(super) struct Reading<'w> {
    workers: &'w Workers<'w>,
    shared: &'w Shared,
    outlet: Outlet<'w>,
    /// The last deletion of each account.
    accounts: Accounts,
}

impl<'w> Reading<'w> {
    /// Creates a reader of an archive.
    pub(super) fn new(workers: &'w Workers<'w>, shared: &'w Shared, outlets: &'w Outlets<'w>) -> Self {
        Self { workers, shared, outlet: outlets.open(&shared.archive), accounts: Accounts::new() }
    }

    /// Reads one range after the other until none is left, or until the run is to stop.
    pub(super) fn rows(
        &mut self,
        database: &Database,
        embeddings: &mut EmbeddingDecoder,
    ) -> Result<(), ArchiveEnd> {
        let mut end = Ok(());
        while end.is_ok()
            && let Some(range) = self.shared.next_range()
        {
            let read_row = |row: &Row<'_>| {
                end = if self.workers.stop.is_requested() {
                    Err(stopping())
                } else {
                    self.read_row(row, database, embeddings).map_err(end_by)
                };
                if end.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            database.for_each_row(&range, read_row).map_err(end_by)?;
        }
        end
    }

    /// Sends the last batches. `end` is the reason if the reader stopped before the last row.
    pub(super) fn finish(self, end: Option<ArchiveEnd>) -> ReadRows {
        let (outcomes, batches) = self.outlet.finish();
        ReadRows { outcomes, accounts: self.accounts, batches, end }
    }

    /// Turns one row into its outcome, or into an action in a batch.
    fn read_row(
        &mut self,
        row: &Row<'_>,
        database: &Database,
        embeddings: &mut EmbeddingDecoder,
    ) -> Result<(), ArchiveError> {
        let verdict = classify(row);
        let is_superseded = match RowEvent::of(&verdict) {
            Some(event) => self.shared.superseded.contains(database, row.id, event)?,
            None => false,
        };
        match (verdict, Version::new(self.shared.seconds, row.id)) {
            (Verdict::Skip(reason), _) => self.skip(reason),
            (Verdict::Reject(rejection), _) => self.reject(row, rejection),
            (Verdict::DeleteAccount(_), _) if !self.workers.account_deletions => {
                self.skip(SkipReason::AccountEvent)
            }
            _ if is_superseded => self.outlet.outcomes.tally.superseded += 1,
            (Verdict::Post(post), Some(version)) => self.post(row, post, version, embeddings),
            (Verdict::Delete(deletion), Some(version)) => self.delete(&deletion, version),
            (Verdict::DeleteAccount(deletion), Some(version)) => self.delete_account(deletion, version),
            (_, None) => self.reject(row, Rejection::row_id_out_of_range(row.id)),
        }
        // Counted last: if a row causes a panic, it is not counted without an outcome.
        self.outlet.outcomes.tally.read += 1;
        Ok(())
    }

    fn skip(&mut self, reason: SkipReason) {
        self.outlet.outcomes.tally.skipped += 1;
        Reasons::count(&mut self.outlet.outcomes.reasons.skipped, reason.name());
    }

    fn reject(&mut self, row: &Row<'_>, rejection: Rejection) {
        self.outlet.outcomes.tally.rejected += 1;
        Reasons::count(&mut self.outlet.outcomes.reasons.rejected, rejection.name);
        log::debug!("{:?}, row {}: {}", self.shared.archive.name, row.id, rejection.reason);
        self.outlet.outcomes.dead_letters.push(DeadLetter {
            archive: self.shared.archive.name.clone(),
            row_id: row.id,
            at_uri: shortened(row.at_uri.bytes().unwrap_or_default()),
            stage: "decode".into(),
            error_type: rejection.name.to_owned(),
            reason: rejection.reason,
            action: None,
            document: None,
        });
        if self.outlet.outcomes.dead_letters.len() >= DEAD_LETTERS_AT_ONCE {
            self.outlet.report_outcomes();
        }
    }

    fn post(
        &mut self,
        row: &Row<'_>,
        mut post: Post<'_>,
        version: Version,
        embeddings: &mut EmbeddingDecoder,
    ) {
        let embeddings = embeddings.decode(row.inferences, post.scores);
        let fields = self.workers.fields;
        post.added = added::read(fields, &post, &embeddings);
        let dropped = &mut self.outlet.outcomes.reasons.dropped_fields;
        post.dropped
            .fields()
            .chain(embeddings.dropped.fields())
            .chain(embeddings.dropped_others.iter().copied())
            .chain(post.added.dropped.iter().copied())
            .filter(|field| !fields.excludes(field))
            .for_each(|field| Reasons::count(dropped, field));
        let author = Some(&*post.author_did).filter(|did| self.workers.account_deletions && !did.is_empty());
        let action =
            Action { author: author.map(Into::into), ..Action::new(ActionKind::Post, version, post.at_uri) };
        self.outlet.push(action, &Document::Post { post: &post, embeddings: &embeddings });
    }

    fn delete(&mut self, deletion: &Deletion<'_>, version: Version) {
        let deleted_at = deletion.deleted_at.unwrap_or(self.shared.seconds * 1000);
        let action = Action::new(ActionKind::Tombstone, version, deletion.at_uri);
        let (at_uri, author_did) = (deletion.at_uri.into(), deletion.author_did.clone());
        self.outlet.push(action, &Document::Tombstone(&Tombstone { at_uri, author_did, deleted_at }));
    }

    /// Keeps the deletion of an account until the archive's end, since only the last one counts.
    fn delete_account(&mut self, deletion: AccountDeletion<'_>, version: Version) {
        let deleted_at = deletion.deleted_at.unwrap_or(self.shared.seconds * 1000);
        let superseded = keep_last(&mut self.accounts, deletion.did.into_owned(), (version, deleted_at));
        self.outlet.outcomes.tally.superseded += u64::from(superseded);
    }

    /// Adds the deletions of accounts to batches.
    pub(super) fn push_accounts(&mut self, accounts: Accounts) {
        // Unconfirmed until added, so that a panic leaves no row without an outcome.
        self.outlet.outcomes.tally.unconfirmed += accounts.len() as u64;
        for (did, (version, deleted_at)) in accounts {
            let action = Action::new(ActionKind::AccountTombstone { deleted_at }, version, &did);
            let at_uri = format!("at://{did}").into();
            self.outlet.push(
                action,
                &Document::Tombstone(&Tombstone { at_uri, author_did: did.into(), deleted_at }),
            );
            self.outlet.outcomes.tally.unconfirmed -= 1;
        }
    }
}

/// Formats an `at_uri` for a dead letter, cut to the longest `_id`, since the column may hold megabytes.
fn shortened(at_uri: &[u8]) -> String {
    match at_uri.get(..MAX_ID_BYTES) {
        Some(beginning) if at_uri.len() > MAX_ID_BYTES => {
            format!("{}… ({} bytes)", String::from_utf8_lossy(beginning), at_uri.len())
        }
        _ => String::from_utf8_lossy(at_uri).into_owned(),
    }
}

/// Returns the end of an archive in a run that is stopped.
pub(super) fn stopping() -> ArchiveEnd {
    ArchiveEnd::Abandoned("the run was stopped".into())
}
