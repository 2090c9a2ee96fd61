//! The possible results of classifying a row.

use crate::model::{AccountDeletion, Deletion, MAX_ROW_ID, Post};

/// What a row becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A document of `posts`.
    Post(Post<'a>),
    /// A tombstone, and a delete from `posts`.
    Delete(Deletion<'a>),
    /// The deletion of an account and all its posts. Skipped as [`SkipReason::AccountEvent`] unless that is enabled.
    DeleteAccount(AccountDeletion<'a>),
    /// Nothing: the row has no effect.
    Skip(SkipReason),
    /// A dead letter.
    Reject(Rejection),
}

/// Why a row has no effect on the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// It is an account event: not a deletion, or account deletions are not enabled.
    AccountEvent,
    /// It has no `at_uri`, which would be the `_id`.
    EmptyAtUri,
    /// It is a commit of a collection other than posts.
    OtherCollection,
}

impl SkipReason {
    /// Returns the name that it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            SkipReason::AccountEvent => "account_event",
            SkipReason::EmptyAtUri => "empty_at_uri",
            SkipReason::OtherCollection => "other_collection",
        }
    }
}

/// Why a row cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The name that it is counted under.
    pub name: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl Rejection {
    pub(super) fn new(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, reason: reason.into() }
    }

    /// Creates the rejection of a row whose id does not fit into a version.
    pub fn row_id_out_of_range(row_id: i64) -> Self {
        let reason =
            format!("row id {row_id} is not in 0 to {}: it does not fit into a version", MAX_ROW_ID - 1);
        Self::new("row_id_out_of_range", reason)
    }
}
