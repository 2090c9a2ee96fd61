//! The names of the indices or aliases that are written to.

use super::{ActionKind, FieldChoice};

/// The names of the indices or aliases that are written to, and the fields that posts have there.
///
/// They live as long as the process, so that anything can hold them.
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
    /// Both names.
    pub fn both(self) -> [&'static str; 2] {
        [self.posts, self.tombstones]
    }

    /// The name that an action writes to.
    pub fn of(self, kind: ActionKind) -> &'static str {
        match kind {
            ActionKind::Post => self.posts,
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => self.tombstones,
        }
    }
}
