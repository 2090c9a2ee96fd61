//! Outcomes of the rows of one batch.

use std::mem;

use super::reply::Refusal;
use crate::model::{Action, ActionKind, Batch, DeadLetter, Outcomes, Reasons, Version};

/// Final outcome of one line of a bulk request.
#[derive(Debug)]
pub enum Final {
    /// Confirmed.
    Done,
    /// A newer version exists.
    Superseded,
    /// Not sent, because a tombstone with this version exists.
    Suppressed(u64),
    /// The server refuses the action; retrying does not help.
    Refused(Refusal),
}

/// Collects the outcomes of a batch's rows. A post has its outcome after the look-up that follows its write. A
/// deletion, or a post with a tombstone, has its outcome once all of its deletes have theirs.
pub struct BatchReport<'b> {
    batch: &'b Batch,
    outcomes: Outcomes,
    /// Posts to be looked up again, each with the outcome of its line.
    sent: Vec<(usize, Final)>,
    /// Actions whose ids have a tombstone, each with its version, so that they must be deleted from `posts`.
    to_delete: Vec<(usize, Version)>,
    /// Accounts whose tombstone is confirmed, each with the tombstone's outcome.
    accounts: Vec<(usize, Final)>,
}

impl<'b> BatchReport<'b> {
    /// Creates a report without any outcome.
    pub fn new(batch: &'b Batch) -> Self {
        Self {
            batch,
            outcomes: Outcomes::default(),
            sent: Vec::new(),
            to_delete: Vec::new(),
            accounts: Vec::new(),
        }
    }

    /// Records the outcome of an action's own line. Tombstones and posts need more steps: see [`Self::to_delete`],
    /// [`Self::take_accounts`] and [`Self::sent`].
    pub fn indexed(&mut self, line: usize, outcome: Final) {
        let Some(action) = self.batch.actions.get(line) else { return };
        match (action.kind, outcome) {
            (ActionKind::Post, Final::Suppressed(tombstone)) => self.suppress(line, tombstone),
            // Refused posts as well: an earlier attempt may have written the post, and its answer was lost.
            (ActionKind::Post, outcome) => self.sent.push((line, outcome)),
            (_, Final::Refused(refusal)) => self.refuse(line, refusal),
            // A newer tombstone serves as well: the post must be deleted.
            (ActionKind::Tombstone, _) => self.to_delete.push((line, action.version)),
            (ActionKind::AccountTombstone { .. }, outcome) => self.accounts.push((line, outcome)),
        }
    }

    /// Returns the posts to look up again: all that were sent, whatever the answer.
    pub fn sent(&self) -> impl Iterator<Item = &'b Action> {
        self.sent.iter().filter_map(|&(action, _)| self.batch.actions.get(action))
    }

    /// Records the result of the second look-up: the version of the tombstone, if any, for each of [`Self::sent`].
    pub fn looked_up_again(&mut self, tombstones: &[Option<u64>]) {
        for ((action, outcome), tombstone) in mem::take(&mut self.sent).into_iter().zip(tombstones) {
            match (outcome, *tombstone) {
                (_, Some(tombstone)) | (Final::Suppressed(tombstone), _) => self.suppress(action, tombstone),
                (Final::Done, None) => self.outcomes.tally.indexed += 1,
                (Final::Superseded, None) => self.outcomes.tally.superseded += 1,
                (Final::Refused(refusal), None) => self.refuse(action, refusal),
            }
        }
    }

    /// Returns the actions whose ids must be deleted from `posts`, each with the version of the tombstone.
    pub fn to_delete(&self) -> impl Iterator<Item = (&'b Action, Version)> {
        self.to_delete.iter().filter_map(|&(line, version)| Some((self.batch.actions.get(line)?, version)))
    }

    /// Records the outcome of deleting the `nth` of [`Self::to_delete`] from all its indices.
    pub fn deleted(&mut self, nth: usize, outcome: Final) {
        let Some(&(action, _)) = self.to_delete.get(nth) else { return };
        let kind = self.batch.actions.get(action).map(|action| action.kind);
        match (kind, outcome) {
            (_, Final::Refused(refusal)) => self.refuse(action, refusal),
            (Some(ActionKind::Tombstone), Final::Superseded) => self.outcomes.tally.superseded += 1,
            (Some(ActionKind::Tombstone), _) => self.outcomes.tally.deleted += 1,
            _ => self.outcomes.tally.suppressed += 1,
        }
    }

    /// Takes out the accounts whose posts must be deleted, each with the outcome of its tombstone.
    pub fn take_accounts(&mut self) -> Vec<(usize, Final)> {
        mem::take(&mut self.accounts)
    }

    /// Records the outcome of deleting an account's posts: a refusal, or the outcome of the account's tombstone.
    pub fn account_deleted(&mut self, line: usize, outcome: Final) {
        match outcome {
            Final::Refused(refusal) => self.refuse(line, refusal),
            Final::Done => self.outcomes.tally.deleted += 1,
            Final::Superseded | Final::Suppressed(_) => self.outcomes.tally.superseded += 1,
        }
    }

    /// Returns the outcomes. Rows without one are `unconfirmed`.
    pub fn finish(mut self) -> Outcomes {
        let tally = &mut self.outcomes.tally;
        tally.unconfirmed = self.batch.actions.len() as u64 - tally.settled();
        self.outcomes.of_deletions =
            self.batch.actions.first().is_some_and(|action| action.kind != ActionKind::Post);
        self.outcomes
    }

    /// Marks a post that has a tombstone for deletion. A tombstone by another program may have any version; the delete
    /// then uses the version of the post.
    fn suppress(&mut self, line: usize, tombstone: u64) {
        let Some(action) = self.batch.actions.get(line) else { return };
        let version = Version::from_index_version(tombstone).unwrap_or(action.version);
        self.to_delete.push((line, version));
    }

    fn refuse(&mut self, action: usize, refusal: Refusal) {
        let Some(action) = self.batch.actions.get(action) else { return };
        self.outcomes.tally.rejected += 1;
        Reasons::count(&mut self.outcomes.reasons.rejected, &refusal.error_type);
        self.outcomes.reasons.can_be_replayed += 1;
        let (line, document) = self.batch.lines_of(action);
        self.outcomes.dead_letters.push(DeadLetter {
            archive: action.origin.as_deref().unwrap_or(&self.batch.archive.name).to_owned(),
            row_id: action.row_id,
            at_uri: action.id.to_string(),
            stage: "elasticsearch".into(),
            error_type: refusal.error_type,
            reason: refusal.reason,
            action: serde_json::from_slice(line).ok(),
            document: serde_json::from_slice(document).ok(),
        });
    }
}

#[cfg(test)]
mod tests;
