//! The names that are written to.

use super::{ActionKind, FieldChoice};

/// What is written to, each the name of an index or alias, and which fields posts have there.
///
/// They hold as long as the process does, so that they can be part of whatever needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Takes the posts.
    pub posts: &'static str,
    /// Takes the tombstones of deleted posts.
    pub tombstones: &'static str,
    /// Which fields posts have.
    pub fields: FieldChoice,
}

impl Default for Names {
    fn default() -> Self {
        Self { posts: "posts", tombstones: "post_tombstones", fields: FieldChoice::default() }
    }
}

impl Names {
    /// Both of them.
    pub fn both(self) -> [&'static str; 2] {
        [self.posts, self.tombstones]
    }

    /// What an action writes to.
    pub fn of(self, kind: ActionKind) -> &'static str {
        match kind {
            ActionKind::Post => self.posts,
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => self.tombstones,
        }
    }
}
