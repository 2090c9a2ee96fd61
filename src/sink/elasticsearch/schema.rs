//! The two indices, and the fields of their documents. Source: contract, section 3.

use crate::model::ActionKind;

/// Index or alias that posts are written to.
pub const POSTS: &str = "posts";

/// Index or alias that the tombstones of deleted posts are written to.
pub const TOMBSTONES: &str = "post_tombstones";

/// The vector fields of a post, below `embeddings`.
pub const VECTOR_FIELDS: [&str; 2] = ["all_MiniLM_L12_v2", "all_MiniLM_L6_v2"];

/// Values of a vector.
pub const VECTOR_DIMS: u64 = 384;

/// The fields of a post.
pub const POST_FIELDS: [&str; 9] = [
    "at_uri",
    "author_did",
    "content",
    "created_at",
    "thread_root_post",
    "thread_parent_post",
    "quote_post",
    "embeddings",
    "indexed_at",
];

/// The fields of a tombstone.
pub const TOMBSTONE_FIELDS: [&str; 4] = ["at_uri", "author_did", "deleted_at", "indexed_at"];

/// The index or alias that an action writes to.
pub fn index_of(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Post => POSTS,
        ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => TOMBSTONES,
    }
}
