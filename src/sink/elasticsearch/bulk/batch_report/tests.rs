//! Tests of the outcomes of a batch after each request.

use std::sync::Arc;

use super::*;
use crate::model::{Archive, Tally};

fn batch(kinds: &[ActionKind]) -> Batch {
    let archive =
        Archive { name: "a".into(), path: "a".into(), seconds: None, bytes: 0, modified_ns: 0, etag: None };
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
    let mut report = BatchReport::new(&batch);
    report.indexed(0, Final::Done);
    report.indexed(2, Final::Done);
    report.looked_up_again(&[None]);
    let tally = report.finish().tally;
    assert_eq!((tally.indexed, tally.unconfirmed, tally.settled()), (1, 2, 1));
}

#[test]
fn a_deletion_is_done_when_its_deletes_are() {
    let batch = batch(&[ActionKind::Tombstone, ActionKind::Tombstone]);
    let mut report = BatchReport::new(&batch);
    report.indexed(1, Final::Superseded);
    assert_eq!(report.to_delete().map(|(action, _)| action.row_id).collect::<Vec<_>>(), [1]);
    assert_eq!(report.outcomes.tally.settled(), 0);
    report.deleted(0, Final::Done);
    assert_eq!(report.outcomes.tally.deleted, 1);
}

#[test]
fn a_deletion_that_finds_newer_versions_only_is_superseded() {
    let batch = batch(&[ActionKind::Tombstone]);
    let mut report = BatchReport::new(&batch);
    report.indexed(0, Final::Done);
    report.deleted(0, Final::Superseded);
    assert_eq!(report.finish().tally.superseded, 1);
}

#[test]
fn a_post_is_suppressed_only_once_its_deletes_under_the_tombstones_version_are_done() {
    let batch = batch(&[ActionKind::Post, ActionKind::Post, ActionKind::Post]);
    let mut report = BatchReport::new(&batch);
    let tombstone = Version::new(7, 7).unwrap();
    report.indexed(0, Final::Suppressed(tombstone.of_index()));
    report.indexed(1, Final::Done);
    report.indexed(2, Final::Superseded);
    assert_eq!(report.sent().map(|action| action.row_id).collect::<Vec<_>>(), [1, 2]);
    report.looked_up_again(&[None, Some(u64::MAX)]);
    let to_delete: Vec<_> = report.to_delete().map(|(action, version)| (action.row_id, version)).collect();
    assert_eq!(to_delete, [(0, tombstone), (2, batch.actions[2].version)]);
    assert_eq!(report.outcomes.tally.settled(), 1);
    report.deleted(0, Final::Done);
    report.deleted(1, Final::Superseded);
    let tally = report.finish().tally;
    assert_eq!((tally.indexed, tally.suppressed, tally.unconfirmed), (1, 2, 0));
}

#[test]
fn every_post_that_a_newer_event_supersedes_is_counted() {
    let batch = batch(&[ActionKind::Post; 3]);
    let mut report = BatchReport::new(&batch);
    (0..3).for_each(|line| report.indexed(line, Final::Superseded));
    report.looked_up_again(&[None; 3]);
    assert_eq!(report.finish().tally, Tally { superseded: 3, ..Tally::default() });
}

#[test]
fn a_post_that_has_not_been_looked_up_again_is_unconfirmed() {
    let batch = batch(&[ActionKind::Post]);
    let mut report = BatchReport::new(&batch);
    report.indexed(0, Final::Done);
    assert_eq!(report.finish().tally.unconfirmed, 1);
}

#[test]
fn a_refused_post_with_a_tombstone_is_deleted_since_it_may_have_been_written() {
    let batch = batch(&[ActionKind::Post, ActionKind::Post]);
    let mut report = BatchReport::new(&batch);
    report.indexed(0, refused());
    report.indexed(1, refused());
    assert_eq!((report.sent().count(), report.outcomes.tally.settled()), (2, 0));
    report.looked_up_again(&[Some(1), None]);
    assert_eq!(report.to_delete().map(|(action, _)| action.row_id).collect::<Vec<_>>(), [0]);
    report.deleted(0, Final::Done);
    let outcomes = report.finish();
    assert_eq!((outcomes.tally.suppressed, outcomes.tally.rejected, outcomes.dead_letters.len()), (1, 1, 1));
}

#[test]
fn the_deletion_of_an_account_has_its_outcome_once_its_posts_are_deleted() {
    let batch = batch(&[ActionKind::AccountTombstone { deleted_at: 0 }; 4]);
    let mut report = BatchReport::new(&batch);
    report.indexed(0, Final::Done);
    report.indexed(1, Final::Superseded);
    report.indexed(2, Final::Done);
    report.indexed(3, Final::Done);
    assert_eq!((report.outcomes.tally.settled(), report.to_delete().count()), (0, 0));
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
    let mut report = BatchReport::new(&batch);
    report.indexed(0, refused());
    report.indexed(1, Final::Done);
    report.looked_up_again(&[None]);
    report.deleted(0, refused());
    let outcomes = report.finish();
    assert_eq!((outcomes.tally.rejected, outcomes.tally.unconfirmed), (2, 0));
    assert_eq!((outcomes.reasons.rejected["bad"], outcomes.reasons.can_be_replayed), (2, 2));
    let letter = serde_json::to_string(&outcomes.dead_letters[0]).unwrap();
    assert!(letter.contains(r#""action":{"index":0},"document":{"document":0}"#), "{letter}");
}
