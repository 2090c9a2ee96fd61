//! What has become of the rows of one batch.

use std::mem;

use serde_json::value::RawValue;

use super::reply::Refusal;
use crate::pipeline::{Action, ActionKind, Batch, DeadLetter, Outcomes, Reasons, Version};

/// What has become of one line of a bulk request.
#[derive(Debug)]
pub enum Final {
    /// Confirmed.
    Done,
    /// A newer version is there.
    Superseded,
    /// Not sent, since there is a tombstone, of this version.
    Suppressed(u64),
    /// Refused for good.
    Refused(Refusal),
}

/// Collects the outcomes of a batch's rows. A post has its outcome when it has been looked up again after it was
/// sent; a post with a tombstone, or a deletion, when all of its deletes have theirs.
pub struct BatchReport<'b> {
    batch: &'b Batch,
    /// How many deletes it takes to delete a post: one for each index that posts are deleted from.
    deletes: usize,
    outcomes: Outcomes,
    /// Posts not looked up again yet, each with the outcome of its line.
    sent: Vec<(usize, Final)>,
    dead: Vec<Dead>,
    /// Accounts whose tombstone is confirmed, each with the outcome of that.
    accounts: Vec<(usize, Final)>,
}

/// An action whose id has a tombstone, so that it has to go from `posts`.
struct Dead {
    action: usize,
    /// That of the tombstone.
    version: Version,
    deletes_left: usize,
    done: bool,
    refused: bool,
}

impl<'b> BatchReport<'b> {
    /// Nothing is known yet. It takes so many `deletes` to delete a post.
    pub fn new(batch: &'b Batch, deletes: usize) -> Self {
        Self {
            batch,
            deletes,
            outcomes: Outcomes::default(),
            sent: Vec::new(),
            dead: Vec::new(),
            accounts: Vec::new(),
        }
    }

    /// The outcome of an action's own line. The row is not done with a tombstone (see [`Self::dead`] and
    /// [`Self::take_accounts`]), nor with a post (see [`Self::sent`]).
    pub fn indexed(&mut self, line: usize, outcome: Final) {
        let Some(action) = self.batch.actions.get(line) else { return };
        match (action.kind, outcome) {
            (ActionKind::Post, Final::Suppressed(tombstone)) => self.suppress(line, tombstone),
            // One that is refused, too: an earlier attempt may have written it, and only its answer got lost.
            (ActionKind::Post, outcome) => self.sent.push((line, outcome)),
            (_, Final::Refused(refusal)) => self.refuse(line, refusal),
            // A newer tombstone is as good as ours: the post has to go.
            (ActionKind::Tombstone, _) => self.doom(line, action.version),
            (ActionKind::AccountTombstone { .. }, outcome) => self.accounts.push((line, outcome)),
        }
    }

    /// The posts that are to be looked up again: all that were sent, whatever the answer.
    pub fn sent(&self) -> impl Iterator<Item = &'b Action> {
        self.sent.iter().filter_map(|&(action, _)| self.batch.actions.get(action))
    }

    /// What the second look-up has found: for each of [`Self::sent`] the version of its tombstone, if it has one.
    pub fn looked_again(&mut self, tombstones: &[Option<u64>]) {
        for ((action, outcome), tombstone) in mem::take(&mut self.sent).into_iter().zip(tombstones) {
            match (outcome, *tombstone) {
                (_, Some(tombstone)) | (Final::Suppressed(tombstone), _) => self.suppress(action, tombstone),
                (Final::Done, None) => self.outcomes.tally.indexed += 1,
                (Final::Superseded, None) => self.outcomes.tally.superseded += 1,
                (Final::Refused(refusal), None) => self.refuse(action, refusal),
            }
        }
    }

    /// The actions whose ids are to be deleted from `posts`, each with the version of the tombstone.
    pub fn dead(&self) -> impl Iterator<Item = (&'b Action, Version)> {
        self.dead.iter().filter_map(|dead| Some((self.batch.actions.get(dead.action)?, dead.version)))
    }

    /// The outcome of one delete of the `nth` of [`Self::dead`].
    pub fn deleted(&mut self, nth: usize, outcome: Final) {
        let Some(dead) = self.dead.get_mut(nth) else { return };
        dead.deletes_left = dead.deletes_left.saturating_sub(1);
        dead.done |= matches!(outcome, Final::Done);
        let (action, left, done, refused) = (dead.action, dead.deletes_left, dead.done, dead.refused);
        match outcome {
            Final::Refused(refusal) if !refused => {
                dead.refused = true;
                self.refuse(action, refusal);
            }
            _ if refused || left > 0 => {}
            _ => match self.batch.actions.get(action).map(|action| action.kind) {
                Some(ActionKind::Tombstone) if done => self.outcomes.tally.deleted += 1,
                Some(ActionKind::Tombstone) => self.outcomes.tally.superseded += 1,
                _ => self.outcomes.tally.suppressed += 1,
            },
        }
    }

    /// The accounts whose posts are to be deleted, each with the outcome of its tombstone.
    pub fn take_accounts(&mut self) -> Vec<(usize, Final)> {
        mem::take(&mut self.accounts)
    }

    /// The posts of an account are deleted, or that was refused; else `outcome` is that of its tombstone.
    pub fn account_deleted(&mut self, line: usize, outcome: Final) {
        match outcome {
            Final::Refused(refusal) => self.refuse(line, refusal),
            Final::Done => self.outcomes.tally.deleted += 1,
            Final::Superseded | Final::Suppressed(_) => self.outcomes.tally.superseded += 1,
        }
    }

    /// The outcomes; rows without one are `unconfirmed`.
    pub fn finish(mut self) -> Outcomes {
        let tally = &mut self.outcomes.tally;
        tally.unconfirmed = self.batch.actions.len() as u64 - tally.settled();
        self.outcomes
    }

    /// A post has a tombstone. One that was not written here under a version of ours (another program's may be any)
    /// is as good: the delete then takes the version of the post.
    fn suppress(&mut self, line: usize, tombstone: u64) {
        let Some(action) = self.batch.actions.get(line) else { return };
        let version = Version::from_index_version(tombstone).unwrap_or(action.version);
        self.doom(line, version);
    }

    fn doom(&mut self, action: usize, version: Version) {
        self.dead.push(Dead { action, version, deletes_left: self.deletes, done: false, refused: false });
    }

    fn refuse(&mut self, action: usize, refusal: Refusal) {
        let Some(action) = self.batch.actions.get(action) else { return };
        self.outcomes.tally.rejected += 1;
        Reasons::count(&mut self.outcomes.reasons.rejected, &refusal.error_type);
        let lines = self.batch.body.get(action.lines.clone()).unwrap_or_default();
        let mut lines = lines.split(|&byte| byte == b'\n').map(raw_json);
        self.outcomes.dead_letters.push(DeadLetter {
            archive: action.origin.as_deref().unwrap_or(&self.batch.archive.name).to_owned(),
            row_id: action.row_id,
            at_uri: action.id.to_string(),
            stage: "elasticsearch".into(),
            error_type: refusal.error_type,
            reason: refusal.reason,
            action: lines.next().flatten(),
            document: lines.next().flatten(),
        });
    }
}

fn raw_json(line: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pipeline::{Archive, Tally};

    fn batch(kinds: &[ActionKind]) -> Batch {
        let archive = Archive { name: "a".into(), path: "a".into(), seconds: None, bytes: 0, modified_ns: 0 };
        let mut body = Vec::new();
        let actions = kinds.iter().enumerate().map(|(i, &kind)| {
            let start = body.len();
            body.extend_from_slice(format!("{{\"index\":{i}}}\n{{\"document\":{i}}}\n").as_bytes());
            let version = Version::new(1, i as i64).unwrap();
            let (row_id, id, lines) = (i as i64, format!("id{i}").into(), start..body.len());
            Action { kind, row_id, origin: None, version, id, author: None, lines }
        });
        let actions = actions.collect();
        Batch { archive: Arc::new(archive), body, actions }
    }

    fn refused() -> Final {
        Final::Refused(Refusal { error_type: "bad".into(), reason: "since".into() })
    }

    #[test]
    fn rows_without_an_outcome_are_unconfirmed() {
        let batch = batch(&[ActionKind::Post, ActionKind::Post, ActionKind::Tombstone]);
        let mut report = BatchReport::new(&batch, 1);
        report.indexed(0, Final::Done);
        report.indexed(2, Final::Done);
        report.looked_again(&[None]);
        let tally = report.finish().tally;
        assert_eq!((tally.indexed, tally.unconfirmed, tally.settled()), (1, 2, 1));
    }

    #[test]
    fn a_deletion_is_done_when_all_its_deletes_are() {
        let batch = batch(&[ActionKind::Tombstone, ActionKind::Tombstone]);
        let mut report = BatchReport::new(&batch, 2);
        report.indexed(1, Final::Superseded);
        assert_eq!(report.dead().map(|(action, _)| action.row_id).collect::<Vec<_>>(), [1]);
        report.deleted(0, Final::Done);
        assert_eq!(report.outcomes.tally.settled(), 0);
        report.deleted(0, Final::Superseded);
        assert_eq!(report.outcomes.tally.deleted, 1);
    }

    #[test]
    fn a_deletion_that_finds_newer_versions_only_is_superseded() {
        let batch = batch(&[ActionKind::Tombstone]);
        let mut report = BatchReport::new(&batch, 1);
        report.indexed(0, Final::Done);
        report.deleted(0, Final::Superseded);
        assert_eq!(report.finish().tally.superseded, 1);
    }

    #[test]
    fn a_post_is_suppressed_only_once_its_deletes_under_the_tombstones_version_are_done() {
        let batch = batch(&[ActionKind::Post, ActionKind::Post, ActionKind::Post]);
        let mut report = BatchReport::new(&batch, 1);
        let tombstone = Version::new(7, 7).unwrap();
        report.indexed(0, Final::Suppressed(tombstone.of_index()));
        report.indexed(1, Final::Done);
        report.indexed(2, Final::Superseded);
        assert_eq!(report.sent().map(|action| action.row_id).collect::<Vec<_>>(), [1, 2]);
        report.looked_again(&[None, Some(u64::MAX)]);
        let dead: Vec<_> = report.dead().map(|(action, version)| (action.row_id, version)).collect();
        assert_eq!(dead, [(0, tombstone), (2, batch.actions[2].version)]);
        assert_eq!(report.outcomes.tally.settled(), 1);
        report.deleted(0, Final::Done);
        report.deleted(1, Final::Superseded);
        let tally = report.finish().tally;
        assert_eq!((tally.indexed, tally.suppressed, tally.unconfirmed), (1, 2, 0));
    }

    #[test]
    fn a_post_that_has_not_been_looked_up_again_is_unconfirmed() {
        let batch = batch(&[ActionKind::Post]);
        let mut report = BatchReport::new(&batch, 1);
        report.indexed(0, Final::Done);
        assert_eq!(report.finish().tally.unconfirmed, 1);
    }

    #[test]
    fn a_refused_post_may_have_been_written_and_is_deleted_where_it_has_a_tombstone() {
        let batch = batch(&[ActionKind::Post, ActionKind::Post]);
        let mut report = BatchReport::new(&batch, 1);
        report.indexed(0, refused());
        report.indexed(1, refused());
        assert_eq!((report.sent().count(), report.outcomes.tally.settled()), (2, 0));
        report.looked_again(&[Some(1), None]);
        assert_eq!(report.dead().map(|(action, _)| action.row_id).collect::<Vec<_>>(), [0]);
        report.deleted(0, Final::Done);
        let outcomes = report.finish();
        assert_eq!(
            (outcomes.tally.suppressed, outcomes.tally.rejected, outcomes.dead_letters.len()),
            (1, 1, 1)
        );
    }

    #[test]
    fn the_deletion_of_an_account_has_its_outcome_once_its_posts_are_deleted() {
        let batch = batch(&[ActionKind::AccountTombstone { deleted_at: 0 }; 4]);
        let mut report = BatchReport::new(&batch, 1);
        report.indexed(0, Final::Done);
        report.indexed(1, Final::Superseded);
        report.indexed(2, Final::Done);
        report.indexed(3, Final::Done);
        assert_eq!((report.outcomes.tally.settled(), report.dead().count()), (0, 0));
        let accounts = report.take_accounts();
        assert_eq!(accounts.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [0, 1, 2, 3]);
        for (line, outcome) in accounts.into_iter().take(2) {
            report.account_deleted(line, outcome);
        }
        report.account_deleted(2, refused());
        let Tally { deleted, superseded, rejected, unconfirmed, .. } = report.finish().tally;
        assert_eq!((deleted, superseded, rejected, unconfirmed), (1, 1, 1, 1));
    }

    #[test]
    fn a_refused_row_is_counted_once_and_kept_with_action_and_document() {
        let batch = batch(&[ActionKind::Post, ActionKind::Tombstone]);
        let mut report = BatchReport::new(&batch, 2);
        report.indexed(0, refused());
        report.indexed(1, Final::Done);
        report.looked_again(&[None]);
        report.deleted(0, refused());
        report.deleted(0, refused());
        let outcomes = report.finish();
        assert_eq!((outcomes.tally.rejected, outcomes.tally.unconfirmed), (2, 0));
        assert_eq!(outcomes.reasons.rejected["bad"], 2);
        let letter = serde_json::to_string(&outcomes.dead_letters[0]).unwrap();
        assert!(letter.contains(r#""action":{"index":0},"document":{"document":0}"#), "{letter}");
    }
}
