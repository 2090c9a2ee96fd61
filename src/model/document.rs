//! Posts, tombstones and embeddings as decoded from rows. Source: contract, section 3.

use std::borrow::Cow;

use super::Added;

/// The maximum length of an `_id`, in bytes. Elasticsearch refuses the whole bulk request if one is longer.
pub const MAX_ID_BYTES: usize = 512;

/// Number of dimensions of an embedding.
pub const DIMENSIONS: usize = 384;

/// An embedding. All values are finite, and its magnitude is finite and not 0.
pub type Vector = [f32; DIMENSIONS];

/// A created or updated post. [`EmbeddingDecoder`](crate::pipeline::decode::EmbeddingDecoder) decodes its embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post<'a> {
    /// The URI of the post: not empty, at most [`MAX_ID_BYTES`] long.
    pub at_uri: &'a str,
    /// The DID of the author; `""` if unknown.
    pub author_did: Cow<'a, str>,
    /// The text.
    pub content: Cow<'a, str>,
    /// The creation time that the author's client reports, in milliseconds since 1970 (years 0 to 9999).
    pub created_at: Option<i64>,
    /// The URI of the thread's first post.
    pub thread_root_post: Option<Cow<'a, str>>,
    /// The URI of the post that this one replies to.
    pub thread_parent_post: Option<Cow<'a, str>>,
    /// The URI of the quoted post.
    pub quote_post: Option<Cow<'a, str>>,
    /// The fields that were left out of it.
    pub dropped: Dropped,
    /// The JSON text of its record.
    pub record: &'a str,
    /// The JSON text of `inferences.text` in its `raw_post`; `""` if there is none. The column `inferences` usually
    /// repeats it.
    pub scores: &'a str,
    /// The values of `--add-field`, as far as they have been read.
    pub added: Added,
}

/// A deleted post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// The URI of the post: not empty, at most [`MAX_ID_BYTES`] long.
    pub at_uri: &'a str,
    /// The DID of the author; `""` if unknown.
    pub author_did: Cow<'a, str>,
    /// The time of deletion, in milliseconds since 1970 (years 0 to 9999). If the row has none, the archive's time is
    /// used.
    pub deleted_at: Option<i64>,
}

/// A deleted account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDeletion<'a> {
    /// The DID of the account: begins with `did:`, at most [`MAX_ID_BYTES`] long. It is used as an `_id` and cannot
    /// collide with those of posts, which begin with `at:`.
    pub did: Cow<'a, str>,
    /// The time of deletion, as in [`Deletion::deleted_at`].
    pub deleted_at: Option<i64>,
}

/// The embeddings of one row. Source: contract, sections 2 and 3.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'s> {
    /// The embedding `all-MiniLM-L12-v2`.
    pub all_minilm_l12_v2: Option<&'s Vector>,
    /// The embedding `all-MiniLM-L6-v2`.
    pub all_minilm_l6_v2: Option<&'s Vector>,
    /// Embeddings of the models in `--add-field`, in that order; empty if there are none.
    pub others: &'s [Option<Vec<f32>>],
    /// Embeddings that could not be decoded.
    pub dropped: Dropped,
    /// The requested names of further models whose embeddings could not be decoded.
    pub dropped_others: &'s [&'static str],
    /// The JSON text of `inferences.video`; `""` if it was not requested.
    pub video: &'s str,
}

/// How often each field was left out of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The text is not a string.
    pub content: u8,
    /// The creation time is absent or not in RFC 3339.
    pub created_at: u8,
    /// The inferences are not JSON.
    pub inferences: u8,
    /// An embedding cannot be decoded.
    pub embedding: u8,
}

impl Dropped {
    /// Returns the name of each left-out field, once for each time it was left out.
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

/// The tombstone of a post or of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone<'a> {
    /// The URI of the post. For an account the URI of its repository, `at://DID` (AT Protocol, "AT URI scheme").
    pub at_uri: Cow<'a, str>,
    /// The DID of the author; `""` if unknown.
    pub author_did: Cow<'a, str>,
    /// The time of deletion, in milliseconds since 1970.
    pub deleted_at: i64,
}

/// The document of a bulk action.
#[derive(Clone, Copy, Debug)]
pub enum Document<'a> {
    /// A post.
    Post {
        /// Its fields.
        post: &'a Post<'a>,
        /// Its vectors.
        embeddings: &'a Embeddings<'a>,
    },
    /// A tombstone.
    Tombstone(&'a Tombstone<'a>),
    /// The refused document of a dead letter: JSON on one line.
    Replayed(&'a str),
}
