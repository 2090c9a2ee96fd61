//! Stage 3: what a row means. Pure.
//!
//! [`classify`] is the one place where it is decided what becomes of a row: a post, a deletion, nothing, or a
//! dead letter. Embeddings are the expensive part, and rows are often superseded, so they are decoded apart from
//! it ([`EmbeddingDecoder`]), and only for posts that are sent.
//!
//! Source of the rules: contract, sections 2 and 3.

use std::borrow::Cow;
use std::str;

use self::json::{JsonError, MAX_DEPTH, MaybeString, RawStr};
use self::raw_post::{Commit, Message, RawPost, Record};
use super::MAX_ROW_ID;
use crate::timestamp;

pub mod base85;
pub mod deciding;
mod embeddings;
pub mod json;
mod raw_post;
pub mod vector;

pub use self::embeddings::{EmbeddingDecoder, Embeddings};
pub use self::vector::{DIMENSIONS, Vector};

/// The longest `_id` in bytes. Elasticsearch refuses the whole bulk request over a longer one.
pub const MAX_ID_BYTES: usize = 512;

/// A column as SQLite returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// A text; SQLite does not promise that it is UTF-8.
    Text(&'a [u8]),
    /// A blob, an integer or a real.
    Other,
}

impl<'a> Field<'a> {
    /// The bytes of a text.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Field::Text(bytes) => Some(bytes),
            Field::Null | Field::Other => None,
        }
    }
}

/// A row of the table of posts.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The row id.
    pub id: i64,
    /// URI of the post that the row is an event of.
    pub at_uri: Field<'a>,
    /// DID of the author.
    pub did: Field<'a>,
    /// The event: a JSON text.
    pub raw_post: Field<'a>,
    /// What models say about the post: a JSON text. Not looked at by [`classify`].
    pub inferences: Field<'a>,
}

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

/// A post that was created or updated. Its embeddings are decoded by [`EmbeddingDecoder`].
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
}

impl SkipReason {
    /// The name that it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            SkipReason::AccountEvent => "account_event",
            SkipReason::EmptyAtUri => "empty_at_uri",
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
    fn new(name: &'static str, reason: impl Into<String>) -> Self {
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

/// Decides what a row becomes.
pub fn classify<'a>(row: &Row<'a>) -> Verdict<'a> {
    let raw_post = read_raw_post(row.raw_post);
    if let Ok(RawPost { message, .. }) = &raw_post
        && is(message.kind, "account")
    {
        let deletion = account_deletion(row.did, message);
        return deletion.map_or(Verdict::Skip(SkipReason::AccountEvent), Verdict::DeleteAccount);
    }
    // Even where `raw_post` is broken: nothing could ever be sent for the row.
    if let Field::Null | Field::Text([]) = row.at_uri {
        return Verdict::Skip(SkipReason::EmptyAtUri);
    }
    judge_event(row, raw_post).unwrap_or_else(Verdict::Reject)
}

/// The deletion that an account event stands for; None where it has another status, or no DID that can be used.
fn account_deletion<'a>(column: Field<'a>, message: &Message<'a>) -> Option<AccountDeletion<'a>> {
    let account = message.account.as_ref().filter(|account| is(account.status, "deleted"))?;
    let of_column = column.bytes().and_then(|did| str::from_utf8(did).ok()).map(Cow::Borrowed);
    let dids = [of_column, message.did.map(RawStr::unescape), account.did.map(RawStr::unescape)];
    let is_usable = |did: &Cow<'a, str>| did.starts_with("did:") && did.len() <= MAX_ID_BYTES;
    let did = dids.into_iter().flatten().find(is_usable)?;
    Some(AccountDeletion { did, deleted_at: message.time_us.and_then(timestamp::from_micros) })
}

/// The verdict on an event of a post.
fn judge_event<'a>(
    row: &Row<'a>,
    raw_post: Result<RawPost<'a>, Rejection>,
) -> Result<Verdict<'a>, Rejection> {
    if !(0..MAX_ROW_ID).contains(&row.id) {
        return Err(Rejection::row_id_out_of_range(row.id));
    }
    let at_uri = read_at_uri(row.at_uri)?;
    let RawPost { message: Message { did, time_us, commit, .. }, hydrated } = raw_post?;
    let Commit { operation, record } =
        commit.ok_or_else(|| Rejection::new("no_commit", "raw_post has no object message.commit"))?;
    let author_did = author_did(row.did, did);
    if is(operation, "delete") {
        let deleted_at = time_us.and_then(timestamp::from_micros);
        return Ok(Verdict::Delete(Deletion { at_uri, author_did, deleted_at }));
    }
    if !is(operation, "create") && !is(operation, "update") {
        let reason = "message.commit.operation is neither create nor update nor delete";
        return Err(Rejection::new("unknown_operation", reason));
    }
    let Record { text, created_at, links } =
        record.ok_or_else(|| Rejection::new("no_record", "raw_post has no object message.commit.record"))?;
    let links = hydrated.or(links);
    let created_at = created_at.and_then(|text| timestamp::parse_rfc3339_millis(&text.unescape()));
    let dropped = Dropped {
        content: u8::from(text == MaybeString::Other),
        created_at: u8::from(created_at.is_none()),
        ..Dropped::default()
    };
    Ok(Verdict::Post(Post {
        at_uri,
        author_did,
        content: text.string().map(RawStr::unescape).unwrap_or_default(),
        created_at,
        thread_root_post: links.root.map(RawStr::unescape),
        thread_parent_post: links.parent.map(RawStr::unescape),
        quote_post: links.quote.map(RawStr::unescape),
        dropped,
    }))
}

fn read_raw_post(raw_post: Field<'_>) -> Result<RawPost<'_>, Rejection> {
    let bytes = match raw_post {
        Field::Text(bytes) => bytes,
        Field::Null => return Err(Rejection::new("null_raw_post", "raw_post is NULL")),
        Field::Other => return Err(Rejection::new("wrong_type", "raw_post is no text")),
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        let reason = format!("raw_post is no UTF-8 at byte {}", error.valid_up_to());
        Rejection::new("invalid_json", reason)
    })?;
    raw_post::read(text).map_err(|error| match error {
        JsonError::Syntax { .. } => Rejection::new("invalid_json", format!("raw_post is no JSON: {error}")),
        JsonError::TooDeep { at } => {
            let reason = format!("raw_post has more than {MAX_DEPTH} levels at byte {at}");
            Rejection::new("too_deep", reason)
        }
    })
}

fn read_at_uri(at_uri: Field<'_>) -> Result<&str, Rejection> {
    let Field::Text(bytes) = at_uri else {
        return Err(Rejection::new("invalid_at_uri", "at_uri is no text"));
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        let reason = format!("at_uri is no UTF-8 at byte {}", error.valid_up_to());
        Rejection::new("invalid_at_uri", reason)
    })?;
    if text.len() > MAX_ID_BYTES {
        let reason = format!("at_uri has {} bytes, an _id at most {MAX_ID_BYTES}", text.len());
        return Err(Rejection::new("id_too_long", reason));
    }
    Ok(text)
}

/// The DID of the column, else that of the message, else `""`.
fn author_did<'a>(column: Field<'a>, message: Option<RawStr<'a>>) -> Cow<'a, str> {
    let of_column = match column {
        Field::Text(bytes) => str::from_utf8(bytes).ok().filter(|did| !did.is_empty()),
        Field::Null | Field::Other => None,
    };
    of_column.map(Cow::Borrowed).or_else(|| message.map(RawStr::unescape)).unwrap_or_default()
}

fn is(string: Option<RawStr<'_>>, expected: &str) -> bool {
    string.is_some_and(|string| string.unescape() == expected)
}

#[cfg(test)]
mod tests;
