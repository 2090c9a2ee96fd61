//! What rows become: posts, deletions, and the vectors of posts. Source: contract, section 3.

use std::borrow::Cow;

use super::Added;

/// The longest `_id` in bytes. Elasticsearch refuses the whole bulk request over a longer one.
pub const MAX_ID_BYTES: usize = 512;

/// Values of an embedding.
pub const DIMENSIONS: usize = 384;

/// An embedding. Every value is finite, and so is its length, which is not 0.
pub type Vector = [f32; DIMENSIONS];

/// A post that was created or updated. Its embeddings are decoded by [`EmbeddingDecoder`](crate::pipeline::decode::EmbeddingDecoder).
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
    /// The JSON text of its record.
    pub record: &'a str,
    /// Its further fields, as far as they have been read.
    pub added: Added,
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

/// The embeddings of one row. Source: contract, sections 2 and 3.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'s> {
    /// The embedding `all-MiniLM-L12-v2`.
    pub all_minilm_l12_v2: Option<&'s Vector>,
    /// The embedding `all-MiniLM-L6-v2`.
    pub all_minilm_l6_v2: Option<&'s Vector>,
    /// Those of further models, in the order in which they were asked for; empty where none was.
    pub others: &'s [Option<Vec<f32>>],
    /// What was there, but could not be read.
    pub dropped: Dropped,
    /// Further vectors likewise: what they were asked for as.
    pub dropped_others: &'s [&'static str],
    /// The JSON text of `inferences.video`, where it was asked for; else `""`.
    pub video: &'s str,
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

/// The tombstone of a post or of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone<'a> {
    /// The URI of the post; of an account that of its repository, `at://DID` (AT Protocol, "AT URI scheme").
    pub at_uri: Cow<'a, str>,
    /// The DID of the author, `""` where it is not known.
    pub author_did: Cow<'a, str>,
    /// When it was deleted, milliseconds since 1970.
    pub deleted_at: i64,
}

/// The document of an action, for a sink to write.
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
    /// A document that was refused before, as it stands in the dead-letter file: JSON on one line.
    Replayed(&'a str),
}
