//! Stage 3: decodes rows. Pure.
//!
//! [`classify`] decides what a row is on its own: a post, a deletion, nothing, or a dead letter. Other rows of the archive
//! or settings may still make it irrelevant ([`super::worker`]). Embeddings are expensive to decode, and rows are often
//! superseded, so [`EmbeddingDecoder`] decodes them separately, for posts that are sent.
//!
//! Source: contract, sections 2 and 3.

use std::borrow::Cow;
use std::str;

use self::json::{JsonError, MAX_DEPTH, MaybeString, RawStr};
use self::raw_post::{Commit, Message, RawPost, Record};
use super::archive::{Field, MAX_FIELD_BYTES, Row};
use crate::common::timestamp;
use crate::model::{AccountDeletion, Added, Deletion, Dropped, MAX_ID_BYTES, MAX_ROW_ID, Post};

pub mod added;
pub mod base85;
mod embeddings;
pub mod json;
mod raw_post;
pub mod vector;
mod verdict;

pub use self::embeddings::EmbeddingDecoder;
pub use self::verdict::{Rejection, SkipReason, Verdict};

/// Classifies a row.
pub fn classify<'a>(row: &Row<'a>) -> Verdict<'a> {
    let raw_post = read_raw_post(row.raw_post);
    if let Ok(RawPost { message, .. }) = &raw_post
        && is(message.kind, "account")
    {
        let deletion = account_deletion(row.did, message);
        return deletion.map_or(Verdict::Skip(SkipReason::AccountEvent), Verdict::DeleteAccount);
    }
    // Even if `raw_post` is broken: without an `_id` nothing could ever be sent.
    if let Field::Null | Field::Text([]) = row.at_uri {
        return Verdict::Skip(SkipReason::EmptyAtUri);
    }
    if let Ok(RawPost { message: Message { commit: Some(commit), .. }, .. }) = &raw_post
        && is_of_another_collection(commit)
    {
        return Verdict::Skip(SkipReason::OtherCollection);
    }
    judge_event(row, raw_post).unwrap_or_else(Verdict::Reject)
}

/// Whether a commit names a collection other than posts: likes, lists, thread gates.
fn is_of_another_collection(commit: &Commit<'_>) -> bool {
    let collection = commit.collection.map(RawStr::unescape).unwrap_or_default();
    !collection.is_empty() && collection != raw_post::POSTS
}

/// Returns the deletion of an account event. None if the account has another status, or if there is no usable DID.
fn account_deletion<'a>(column: Field<'a>, message: &Message<'a>) -> Option<AccountDeletion<'a>> {
    let account = message.account.as_ref().filter(|account| is(account.status, "deleted"))?;
    let of_column = column.bytes().and_then(|did| str::from_utf8(did).ok()).map(Cow::Borrowed);
    let dids = [of_column, message.did.map(RawStr::unescape), account.did.map(RawStr::unescape)];
    let is_usable = |did: &Cow<'a, str>| did.starts_with("did:") && did.len() <= MAX_ID_BYTES;
    let did = dids.into_iter().flatten().find(is_usable)?;
    Some(AccountDeletion { did, deleted_at: message.time_us.and_then(timestamp::from_micros) })
}

/// Classifies an event of a post.
fn judge_event<'a>(
    row: &Row<'a>,
    raw_post: Result<RawPost<'a>, Rejection>,
) -> Result<Verdict<'a>, Rejection> {
    if !(0..MAX_ROW_ID).contains(&row.id) {
        return Err(Rejection::row_id_out_of_range(row.id));
    }
    let at_uri = read_at_uri(row.at_uri)?;
    let RawPost { message: Message { did, time_us, commit, .. }, hydrated, scores } = raw_post?;
    let Commit { operation, record, record_text, .. } =
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
        record: record_text,
        scores,
        added: Added::default(),
    }))
}

fn read_raw_post(raw_post: Field<'_>) -> Result<RawPost<'_>, Rejection> {
    let bytes = match raw_post {
        Field::Text(bytes) => bytes,
        Field::Null => return Err(Rejection::new("null_raw_post", "raw_post is NULL")),
        Field::TooLong(bytes) => {
            let reason = format!("raw_post has {bytes} bytes, more than the limit of {MAX_FIELD_BYTES}");
            return Err(Rejection::new("too_long", reason));
        }
        Field::Other => return Err(Rejection::new("wrong_type", "raw_post is not text")),
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        let reason = format!("raw_post is not UTF-8 at byte {}", error.valid_up_to());
        Rejection::new("invalid_json", reason)
    })?;
    raw_post::read(text).map_err(|error| match error {
        JsonError::Syntax { .. } => Rejection::new("invalid_json", format!("raw_post is not JSON: {error}")),
        JsonError::TooDeep { at } => {
            let reason = format!("raw_post has more than {MAX_DEPTH} levels at byte {at}");
            Rejection::new("too_deep", reason)
        }
    })
}

fn read_at_uri(at_uri: Field<'_>) -> Result<&str, Rejection> {
    let too_long = |bytes: u64| {
        let reason = format!("at_uri has {bytes} bytes, but an _id has at most {MAX_ID_BYTES}");
        Rejection::new("id_too_long", reason)
    };
    let bytes = match at_uri {
        Field::Text(bytes) => bytes,
        Field::TooLong(bytes) => return Err(too_long(bytes)),
        Field::Null | Field::Other => return Err(Rejection::new("invalid_at_uri", "at_uri is not text")),
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        let reason = format!("at_uri is not UTF-8 at byte {}", error.valid_up_to());
        Rejection::new("invalid_at_uri", reason)
    })?;
    if text.len() > MAX_ID_BYTES {
        return Err(too_long(text.len() as u64));
    }
    Ok(text)
}

/// Returns the DID of the column, else of the message, else `""`.
fn author_did<'a>(column: Field<'a>, message: Option<RawStr<'a>>) -> Cow<'a, str> {
    let of_column = match column {
        Field::Text(bytes) => str::from_utf8(bytes).ok().filter(|did| !did.is_empty()),
        Field::Null | Field::TooLong(_) | Field::Other => None,
    };
    of_column.map(Cow::Borrowed).or_else(|| message.map(RawStr::unescape)).unwrap_or_default()
}

fn is(string: Option<RawStr<'_>>, expected: &str) -> bool {
    string.is_some_and(|string| string.unescape() == expected)
}

#[cfg(test)]
mod tests;
