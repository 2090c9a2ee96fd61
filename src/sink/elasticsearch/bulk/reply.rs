//! Classifies the answers of Elasticsearch. No other module decides what an answer means. Pure.
//!
//! Source: contract section 5; Elasticsearch, "Bulk API": the items of an answer are in the order of the request's
//! actions, and the HTTP status says nothing about them.

mod item_error;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Number, Value};

use self::item_error::{ItemError, LONGEST_REASON};
use self::wire::{BulkItem, BulkReply, ItemResult, MultiGetDoc, MultiGetReply, SearchReply, ShardsReply};
use crate::common::exit::{ExitCode, Failure};
use crate::sink::elasticsearch::client::{Reply, text_of_error};
use crate::sink::elasticsearch::encode::action::GUARD;
use crate::sink::elasticsearch::outcome::{URL_ADVICE, foreign_answer};

/// Operation of all actions of a bulk request. A request never mixes operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Index a document.
    Index,
    /// Delete a document with a version above all others.
    Delete,
    /// Delete a document that was found, if it has not changed.
    DeleteFound,
}

/// Meaning of an answer that is not a result.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The same request may succeed later. The text is the reason.
    Retry(String),
    /// Like [`Answer::Retry`], but the server cannot be reached, or is not ready for any request.
    Away(String),
    /// Like [`Answer::Away`], but the connection broke. A server may also refuse a large request this way.
    Interrupted(String),
    /// Like [`Answer::Retry`], but no answer came in time. The request may have been too large.
    TooSlow(String),
    /// The server refuses something in the request; smaller requests show what. If the request has one action, the
    /// server refuses that action, for this reason.
    Divide(Refusal),
    /// Like [`Answer::Divide`], but the server refuses the size of the request.
    TooLarge(Refusal),
    /// The indices behind a name have changed since the last look-up. If they have not, the run stops with this
    /// failure.
    Moved(Failure),
    /// The server refuses the credentials. No request will succeed, unless the server was away until now.
    Unauthenticated(Failure),
    /// The server accepts the credentials, but does not allow the request. No such request will succeed, unless the
    /// server was away until now.
    Forbidden(Failure),
    /// No request will succeed.
    Stop(Failure),
}

/// Why the server refuses an action for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Elasticsearch's `error.type`, or a name of this program in that style.
    pub error_type: String,
    /// Elasticsearch's `error.reason`, with its cause.
    pub reason: String,
}

/// Outcome of one action.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Confirmed. A deleted document is gone or never existed.
    Done,
    /// Confirmed, but written to this index, which is not known to be behind the name.
    Elsewhere(String),
    /// Confirmed, but written to this index, which is not the one that the routing was sent for.
    ElsewhereWithRouting(String),
    /// Confirmed, but a pipeline changed or dropped the document. The text says what happened instead.
    Dropped(String),
    /// A newer version exists (status 409): a normal outcome.
    Superseded,
    /// The same action may succeed later. The text is the reason.
    Retry(String),
    /// The server refuses the action; retrying does not help.
    Refused(Refusal),
}

const LACKS_PRIVILEGE: &str = "this run lacks a privilege";

const GRANT_ALL: &str = "grant it read, index, delete and view_index_metadata on posts and post_tombstones";

/// Judges the status and error of any answer. None: the request was carried out, and its body is to be read.
pub fn judge_answer(reply: &Reply) -> Option<Answer> {
    if (200..300).contains(&reply.status) {
        return reply.is_page().then(|| Answer::Away(foreign_answer(&reply.reason())));
    }
    let error = ItemError { kind: reply.error_type(), reason: reply.reason() };
    let described = || error.reason.clone();
    Some(match reply.status {
        400 | 401 | 403 if error.is_block() => Answer::Retry(described()),
        // Any server may return these, or any proxy in front of it.
        413 => Answer::TooLarge(Refusal {
            error_type: "request_entity_too_large".into(),
            // Some servers mention their limit in the description.
            reason: format!("larger than the server accepts in one request ({})", described()),
        }),
        503 => Answer::Away(described()),
        504 => Answer::TooSlow(described()),
        408 | 429 | 500..=599 => Answer::Retry(described()),
        _ if reply.is_page() => Answer::Away(foreign_answer(&described())),
        401 => Answer::Unauthenticated(refused(format!(
            "Elasticsearch does not accept the credentials of this run ({})",
            described()
        ))),
        403 if reply.has_error() => error.not_allowed(LACKS_PRIVILEGE, GRANT_ALL),
        403 => Answer::Forbidden(refused(format!(
            "access is denied, but not by Elasticsearch itself ({}): {URL_ADVICE}",
            described()
        ))),
        404 if error.means_move() => Answer::Moved(refused(error.move_message())),
        400 => Answer::Divide(error.into_refusal(reply.status)),
        _ => Answer::Stop(Failure::run(format!("Elasticsearch answers {}: {URL_ADVICE}", described()))),
    })
}

/// Judges the items of a bulk answer to actions with these ids, and documents with these versions (none: they are not
/// compared). `holds` returns whether an index is known to be behind the name that the nth action was written to.
///
/// # Errors
///
/// Returns `Answer::Retry` if the answer cannot be read or does not fit the request: nothing is guessed. Other answers
/// come from items that concern the whole run, such as a missing privilege.
pub fn judge_items(
    body: &[u8],
    operation: Operation,
    ids: &[&str],
    versions: &[u64],
    holds: &dyn Fn(usize, &str) -> bool,
) -> Result<Vec<Item>, Answer> {
    let unreadable = |what: String| Answer::Retry(format!("an answer that does not fit the request: {what}"));
    let mut reply: BulkReply =
        serde_json::from_slice(body).map_err(|error| unreadable(what_instead(body, &error)))?;
    if reply.items.len() != ids.len() {
        return Err(unreadable(format!("{} items for {} actions", reply.items.len(), ids.len())));
    }
    if !put_in_order(&mut reply.items, ids) {
        return Err(unreadable("the items are in another order than the actions".into()));
    }
    reply
        .items
        .into_iter()
        .zip(ids)
        .enumerate()
        .map(|(nth, (item, id))| match (operation, item) {
            (Operation::Index, BulkItem::Index(result))
            | (Operation::Delete | Operation::DeleteFound, BulkItem::Delete(result)) => {
                judge_item(operation, result, (id, versions.get(nth).copied()), &|index| holds(nth, index))
            }
            // It writes nothing, whatever its outcome.
            (Operation::Delete, BulkItem::Index(_)) if *id == GUARD => Ok(Item::Done),
            _ => Err(unreadable("an item whose kind differs from its action".into())),
        })
        .collect()
}

/// Describes a body that is not the expected answer: by the error that it has instead, or by why it cannot be parsed.
fn what_instead(body: &[u8], error: &serde_json::Error) -> String {
    let found: Option<Value> = serde_json::from_slice(body).ok();
    match found.as_ref().and_then(|found| text_of_error(found.get("error")?, "reason")) {
        Some(reason) => {
            format!("it is an error: {}", reason.chars().take(LONGEST_REASON).collect::<String>())
        }
        None => error.to_string(),
    }
}

/// Puts the items in the order of the actions if they have the same ids in another order: OpenSearch swaps the items of
/// documents that fail in different processors of a pipeline (seen in 3.5.0). Returns whether the items can be trusted:
/// not if an id occurs several times. A pipeline that changes ids gives other ids, and no order.
fn put_in_order(items: &mut [BulkItem], ids: &[&str]) -> bool {
    let found: Vec<&str> = items.iter().filter_map(BulkItem::id).collect();
    if found == ids {
        return true;
    }
    let places: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(nth, id)| (*id, nth)).collect();
    let names: BTreeSet<&str> = found.iter().copied().collect();
    if found.len() != ids.len() || !names.iter().eq(places.keys()) {
        return true;
    }
    items.sort_by_key(|item| item.id().and_then(|id| places.get(id)));
    places.len() == ids.len()
}

/// Judges a confirmed item by where its document was written, and under which id and version. `sent` has the id and
/// version that were sent.
fn judge_confirmed(
    result: ItemResult,
    (id, sent): (&str, Option<u64>),
    holds: &dyn Fn(&str) -> bool,
) -> Item {
    let ItemResult { result, id: got, index, version, .. } = result;
    let is_other = |version: &Number| sent.is_some_and(|sent| version.as_u64() != Some(sent));
    match (result.as_deref(), got, index) {
        (Some("noop"), ..) => {
            Item::Dropped("the server answers noop: an ingest pipeline has dropped it".into())
        }
        (_, Some(got), _) if got != id => Item::Dropped(format!("it was written under another _id, {got:?}")),
        (.., Some(index)) if !holds(&index) => Item::Elsewhere(index),
        _ => match version.filter(is_other) {
            Some(version) => Item::Dropped(format!("it was written under another version, {version}")),
            None => Item::Done,
        },
    }
}

fn judge_item(
    operation: Operation,
    mut result: ItemResult,
    sent: (&str, Option<u64>),
    holds: &dyn Fn(&str) -> bool,
) -> Result<Item, Answer> {
    let is_error = result.error.is_some();
    let error = result.error.take().unwrap_or_default();
    Ok(match result.status {
        200..=299 if is_error => {
            Item::Retry(format!("status {} with an error: {}", result.status, error.describe()))
        }
        200..=299 if operation == Operation::Index => judge_confirmed(result, sent, holds),
        200..=299 => Item::Done,
        // There was nothing to delete. A missing index is an error instead.
        404 if operation != Operation::Index && !is_error => Item::Done,
        409 if operation == Operation::Index && error.is_of_internal_version() => {
            Item::Dropped(format!("its version type was changed ({})", error.describe()))
        }
        409 => Item::Superseded,
        408 | 429 | 500..=599 => Item::Retry(format!("status {}: {}", result.status, error.describe())),
        _ if operation == Operation::DeleteFound && error.is_lasting_block() => {
            Item::Refused(error.into_refusal(result.status))
        }
        _ if error.is_block() => Item::Retry(error.describe()),
        _ if error.means_move() => return Err(Answer::Moved(refused(error.move_message()))),
        401 | 403 => return Err(error.not_allowed(LACKS_PRIVILEGE, GRANT_ALL)),
        400..=499 => Item::Refused(error.into_refusal(result.status)),
        // No server answers with another status. It says neither that the action was carried out nor that it was not.
        status => Item::Retry(format!("status {status}: {}", error.describe())),
    })
}

/// Version of a tombstone that the server reports without one. No write of this program has this version, so the
/// tombstone counts as another program's.
pub const UNKNOWN_VERSION: u64 = u64::MAX;

/// Parses the answer to a multi get without `_source`. Returns the document of each id; None: there is none.
///
/// # Errors
///
/// Returns `Answer::Retry` if the answer cannot be read or does not fit the request. An error of a document becomes the
/// answer for the whole look-up.
pub fn judge_look_up(body: &[u8], ids: &[&str]) -> Result<Vec<Option<FoundDocument>>, Answer> {
    judge_documents(body, ids, |version, doc| FoundDocument {
        version,
        place: doc.seq_no.zip(doc.primary_term),
        has_routing: doc.routing.is_some(),
    })
}

/// Like [`judge_look_up`], with `_source`.
pub fn judge_contents<'b>(body: &'b [u8], ids: &[&str]) -> Result<Vec<Option<FoundContent<'b>>>, Answer> {
    judge_documents(body, ids, |version, doc| FoundContent { version, source: doc.source })
}

fn judge_documents<'b, T>(
    body: &'b [u8],
    ids: &[&str],
    found: impl Fn(u64, MultiGetDoc<'b>) -> T,
) -> Result<Vec<Option<T>>, Answer> {
    let unreadable = |what: String| Answer::Retry(format!("an answer that does not fit the look-up: {what}"));
    let reply: MultiGetReply<'b> =
        serde_json::from_slice(body).map_err(|error| unreadable(what_instead(body, &error)))?;
    if reply.docs.len() != ids.len() {
        return Err(unreadable(format!("{} documents for {} ids", reply.docs.len(), ids.len())));
    }
    let judge = |(doc, id): (MultiGetDoc<'b>, &&str)| match (&doc.error, doc.found) {
        (Some(error), _) => Err(error.look_up_answer()),
        (None, Some(is_found)) if doc.id == **id => {
            let version = doc.version.as_ref().and_then(Number::as_u64).unwrap_or(UNKNOWN_VERSION);
            Ok(is_found.then(|| found(version, doc)))
        }
        _ => Err(unreadable("a document that was not requested".into())),
    };
    reply.docs.into_iter().zip(ids).map(judge).collect()
}

/// A document that a look-up has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundDocument {
    /// Version of the document.
    pub version: u64,
    /// Its `_seq_no` and `_primary_term`. A delete with these succeeds only if the document has not changed.
    pub place: Option<(u64, u64)>,
    /// Whether the server says that it was written with a routing.
    pub has_routing: bool,
}

/// A document that was found, with its content.
#[derive(Clone, Copy, Debug)]
pub struct FoundContent<'b> {
    /// Version of the document.
    pub version: u64,
    /// `_source` as the server returns it; None: the server returns none.
    pub source: Option<&'b RawValue>,
}

/// Checks that a refresh or flush has reached every shard. Returns `Answer::Retry` if not.
pub fn judge_shards(body: &[u8]) -> Result<(), Answer> {
    match serde_json::from_slice::<ShardsReply>(body) {
        Ok(reply) if reply.shards.failed == 0 => Ok(()),
        Ok(reply) => Err(Answer::Retry(format!("{} shards failed", reply.shards.failed))),
        Err(error) => Err(Answer::Retry(format!("an answer without the outcome of its shards: {error}"))),
    }
}

/// Returns the ids on one page of a search, or `Answer::Retry` if the answer cannot be read or does not cover all
/// shards.
pub fn judge_search(body: &[u8]) -> Result<Vec<String>, Answer> {
    judge_shards(body)?;
    let reply: SearchReply = serde_json::from_slice(body)
        .map_err(|error| Answer::Retry(format!("an answer that is not from a search: {error}")))?;
    if reply.timed_out || (reply.hits.total.value > 0 && reply.hits.hits.is_empty()) {
        return Err(Answer::Retry("an answer without the hits of the search".into()));
    }
    Ok(reply.hits.hits.into_iter().map(|hit| hit.id).collect())
}

fn refused(message: String) -> Failure {
    Failure::new(ExitCode::Refused, message)
}

#[cfg(test)]
mod tests;
