//! Judges what the indices hold for an id. Pure. Source: contract, section 8.

use std::time::Duration;

use super::held::{Held, Place};
use crate::model::{Action, ActionKind, Finding, Version};
use crate::sink::elasticsearch::bulk::reply::UNKNOWN_VERSION;

/// How often a post with a tombstone is looked up again. A running load may be about to delete the post.
pub(super) const MAX_SECOND_LOOKS: u32 = 2;

/// Pause before each second look.
pub(super) const SECOND_LOOK_PAUSE: Duration = Duration::from_millis(300);

/// The finding for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) finding: Finding,
    /// Version of the stored post, else of the tombstone; None: there is neither, or no version.
    pub(super) version: Option<u64>,
}

/// Result of a look-up by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Settled(Verdict),
    /// The post has the expected version, so its content decides.
    Compare(Place),
}

/// Judges by ids and versions alone.
pub(super) fn judge(action: &Action, held: &Held) -> Judged {
    let version = held.post.as_ref().map(|post| post.version).or(held.tombstone);
    let settled =
        |finding| Judged::Settled(Verdict { finding, version: version.filter(|&v| v != UNKNOWN_VERSION) });
    match (action.kind, &held.post, held.tombstone) {
        (ActionKind::Post, Some(_), Some(_)) | (ActionKind::Tombstone, Some(_), _) => {
            settled(Finding::Resurrected)
        }
        (ActionKind::Post, None, Some(_)) => settled(Finding::Suppressed),
        (ActionKind::Post, None, None) => settled(Finding::Missing),
        (ActionKind::Post, Some(post), None) => match Version::from_index_version(post.version) {
            Some(there) if there > action.version => settled(Finding::Newer),
            Some(there) if there == action.version => Judged::Compare(post.clone()),
            _ => settled(Finding::Stale),
        },
        (_, _, None) => settled(Finding::Undeleted),
        (_, _, Some(_)) => settled(Finding::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(version: u64) -> Place {
        Place { index: "posts".into(), requires_routing: false, version }
    }

    fn finding(kind: ActionKind, post_version: Option<u64>, tombstone: Option<u64>) -> Option<Finding> {
        let action = Action::new(kind, Version::new(1, 7).unwrap(), "id");
        match judge(&action, &Held { post: post_version.map(post), tombstone }) {
            Judged::Settled(verdict) => Some(verdict.finding),
            Judged::Compare(_) => None,
        }
    }

    #[test]
    fn a_post_is_judged_by_its_version_unless_there_is_a_tombstone() {
        let ours = Version::new(1, 7).unwrap().of_index();
        for (post, tombstone, expected) in [
            (None, None, Some(Finding::Missing)),
            (None, Some(1), Some(Finding::Suppressed)),
            (Some(ours), Some(1), Some(Finding::Resurrected)),
            (Some(ours - 1), None, Some(Finding::Stale)),
            (Some(1), None, Some(Finding::Stale)),
            (Some(UNKNOWN_VERSION), None, Some(Finding::Stale)),
            (Some(ours + 1), None, Some(Finding::Newer)),
            (Some(Version::new(2, 0).unwrap().of_delete()), None, Some(Finding::Stale)),
            (Some(ours), None, None),
        ] {
            assert_eq!(finding(ActionKind::Post, post, tombstone), expected, "{post:?} {tombstone:?}");
        }
    }

    #[test]
    fn a_deletion_needs_a_tombstone_and_no_post() {
        for (post, tombstone, expected) in [
            (None, Some(1), Finding::Equal),
            (None, None, Finding::Undeleted),
            (Some(1), Some(1), Finding::Resurrected),
            (Some(1), None, Finding::Resurrected),
        ] {
            assert_eq!(finding(ActionKind::Tombstone, post, tombstone), Some(expected));
        }
        let account = ActionKind::AccountTombstone { deleted_at: 0 };
        assert_eq!(finding(account, None, None), Some(Finding::Undeleted));
        assert_eq!(finding(account, None, Some(3)), Some(Finding::Equal));
    }
}
