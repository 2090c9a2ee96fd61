//! The names of the target indices or aliases.

use super::{ActionKind, FieldChoice};

/// The names of the target indices or aliases, and the fields that posts have there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Name for posts.
    pub posts: &'static str,
    /// Name for the tombstones of deleted posts.
    pub tombstones: &'static str,
    /// The fields of posts.
    pub fields: FieldChoice,
}

impl Default for Names {
    fn default() -> Self {
        Self { posts: "posts", tombstones: "post_tombstones", fields: FieldChoice::default() }
    }
}

impl Names {
    /// Returns both names, posts first.
    pub fn both(self) -> [&'static str; 2] {
        [self.posts, self.tombstones]
    }

    /// Returns the name that an action writes to.
    pub fn of(self, kind: ActionKind) -> &'static str {
        match kind {
            ActionKind::Post => self.posts,
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => self.tombstones,
        }
    }
}
