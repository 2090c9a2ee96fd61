//! What a row can become.

use std::borrow::Cow;

use crate::pipeline::MAX_ROW_ID;

/// The longest `_id` in bytes. Elasticsearch refuses the whole bulk request over a longer one.
pub const MAX_ID_BYTES: usize = 512;

/// What a row becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A document of `posts`.
    Post(Post<'a>),
    /// A tombstone, and a delete from `posts`.
    Delete(Deletion<'a>),
    /// The end of an account and all of its posts, for those who want that ([`SkipReason::AccountEvent`] else).
    DeleteAccount(AccountDeletion<'a>),
    /// Nothing.
    Skip(SkipReason),
    /// A dead letter.
    Reject(Rejection),
}

/// A post that was created or updated. Its embeddings are decoded by [`EmbeddingDecoder`](super::EmbeddingDecoder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post<'a> {
    /// The URI of the post, not empty and at most [`MAX_ID_BYTES`] long.
    pub at_uri: &'a str,
    /// The DID of the author, `""` where it is not known.
    pub author_did: Cow<'a, str>,
    /// The text.
    pub content: Cow<'a, str>,
    /// When the author's client says it was written, milliseconds since 1970, in the years 0 to 9999.
    pub created_at: Option<i64>,
    /// The URI of the post that the thread began with.
    pub thread_root_post: Option<Cow<'a, str>>,
    /// The URI of the post that it replies to.
    pub thread_parent_post: Option<Cow<'a, str>>,
    /// The URI of the post that it quotes.
    pub quote_post: Option<Cow<'a, str>>,
    /// What was left out of it.
    pub dropped: Dropped,
}

/// A post that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// The URI of the post, not empty and at most [`MAX_ID_BYTES`] long.
    pub at_uri: &'a str,
    /// The DID of the author, `""` where it is not known.
    pub author_did: Cow<'a, str>,
    /// When it was deleted, milliseconds since 1970, in the years 0 to 9999; where the row does not say, the
    /// archive's time is to be taken.
    pub deleted_at: Option<i64>,
}

/// An account that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDeletion<'a> {
    /// The DID of the account: begins with `did:` and is at most [`MAX_ID_BYTES`] long, so it can stand as an `_id`
    /// among those of posts, which begin with `at:`.
    pub did: Cow<'a, str>,
    /// As for a [`Deletion`].
    pub deleted_at: Option<i64>,
}

/// Why a row means nothing for the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// An event of an account, not of a post: not its deletion, or nobody wants that carried out.
    AccountEvent,
    /// Nothing to index it under.
    EmptyAtUri,
    /// A commit of another collection than that of posts.
    OtherCollection,
}

impl SkipReason {
    /// The name that it is counted under.
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
    /// What is wrong, in words.
    pub reason: String,
}

impl Rejection {
    pub(super) fn new(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, reason: reason.into() }
    }

    /// Of a row whose event has no place in the order.
    pub fn row_id_out_of_range(row_id: i64) -> Self {
        let reason =
            format!("row id {row_id} is not in 0 to {}: a version has no room for it", MAX_ROW_ID - 1);
        Self::new("row_id_out_of_range", reason)
    }
}

/// How often each field was left out of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A text that is no string.
    pub content: u8,
    /// A creation time that is absent or no RFC 3339 time.
    pub created_at: u8,
    /// Inferences that are no JSON text.
    pub inferences: u8,
    /// An embedding that cannot be decoded.
    pub embedding: u8,
}

impl Dropped {
    /// The names that they are counted under, each as often as the field was left out.
    pub fn fields(self) -> impl Iterator<Item = &'static str> {
        [
            ("content", self.content),
            ("created_at", self.created_at),
            ("inferences", self.inferences),
            ("embedding", self.embedding),
        ]
        .into_iter()
        .flat_map(|(name, times)| (0..times).map(move |_| name))
    }
}
