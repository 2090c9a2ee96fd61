//! Classifies the answers of Elasticsearch. No other module decides what an answer means. Pure.
//!
//! Source: contract section 5; Elasticsearch, "Bulk API": the items of an answer are in the order of the request's
//! actions, and the HTTP status says nothing about them.

mod wire;

use self::wire::{
    BulkItem, BulkReply, ItemError, ItemResult, MultiGetDoc, MultiGetReply, SearchReply, ShardsReply,
};
use crate::exit::{ExitCode, Failure};
use crate::sink::elasticsearch::client::Reply;
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
    /// No request will succeed.
    Stop(Failure),
}

/// Why the server refuses an action for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Elasticsearch's `error.type`, or a name of this program in that style.
    pub error_type: String,
    /// Elasticsearch's `error.reason`.
    pub reason: String,
}

/// Outcome of one action.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Confirmed. A deleted document is gone or never existed.
    Done,
    /// Confirmed, but written to this index, which is not known to be behind the name.
    Elsewhere(String),
    /// Confirmed, but a pipeline changed or dropped the document. The text says what happened instead.
    Dropped(String),
    /// A newer version exists (status 409): a normal outcome.
    Superseded,
    /// The same action may succeed later. The text is the reason.
    Retry(String),
    /// The server refuses the action; retrying does not help.
    Refused(Refusal),
}

/// Judges the status and error of any answer. None: the request was carried out, and its body is to be read.
pub fn judge_answer(reply: &Reply) -> Option<Answer> {
    if (200..300).contains(&reply.status) {
        return reply.is_page().then(|| Answer::Away(foreign_answer(&reply.reason())));
    }
    let error = ItemError { kind: reply.error_type(), reason: reply.reason() };
    let described = || error.reason.clone();
    Some(match reply.status {
        400 | 401 | 403 if error.is_block() => Answer::Retry(described()),
        408 | 413 | 429 | 500..=599 => judge_outage(reply, described()),
        _ if reply.is_page() => Answer::Away(foreign_answer(&described())),
        401 => Answer::Unauthenticated(refused(format!(
            "Elasticsearch does not accept the credentials of this run ({})",
            described()
        ))),
        403 if reply.has_error() => Answer::Stop(refused(format!(
            "this run lacks a privilege ({}): grant it read, index, delete and view_index_metadata on posts and \
             post_tombstones",
            described()
        ))),
        403 => Answer::Stop(refused(format!(
            "access is denied, but not by Elasticsearch itself ({}): {URL_ADVICE}",
            described()
        ))),
        404 if error.means_move() => Answer::Moved(refused(error.move_message())),
        400 => Answer::Divide(error.into_refusal()),
        _ => Answer::Stop(Failure::run(format!("Elasticsearch answers {}: {URL_ADVICE}", described()))),
    })
}

/// Judges statuses that any server may return, or any proxy in front of it.
fn judge_outage(reply: &Reply, described: String) -> Answer {
    match reply.status {
        413 => Answer::TooLarge(Refusal {
            error_type: "request_entity_too_large".into(),
            // Some servers mention their limit in the description.
            reason: format!("larger than the server accepts in one request ({described})"),
        }),
        503 => Answer::Away(described),
        504 => Answer::TooSlow(described),
        _ => Answer::Retry(described),
    }
}

/// Judges the items of a bulk answer to actions with these ids. `holds` returns whether an index is known to be behind
/// the name that was written to.
///
/// # Errors
///
/// Returns `Answer::Retry` if the answer cannot be read or does not fit the request: nothing is guessed. Other answers
/// come from items that concern the whole run, such as a missing privilege.
pub fn judge_items(
    body: &[u8],
    operation: Operation,
    ids: &[&str],
    holds: &dyn Fn(&str) -> bool,
) -> Result<Vec<Item>, Answer> {
    let unreadable = |what: String| Answer::Retry(format!("an answer that does not fit the request: {what}"));
    let reply: BulkReply = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if reply.items.len() != ids.len() {
        return Err(unreadable(format!("{} items for {} actions", reply.items.len(), ids.len())));
    }
    reply
        .items
        .into_iter()
        .zip(ids)
        .map(|(item, id)| match (operation, item) {
            (Operation::Index, BulkItem::Index(result)) => judge_item(operation, result, id, holds),
            (Operation::Delete | Operation::DeleteFound, BulkItem::Delete(result)) => {
                judge_item(operation, result, id, holds)
            }
            _ => Err(unreadable("an item whose kind differs from its action".into())),
        })
        .collect()
}

/// Judges a confirmed item by the place that its document was written to.
fn judge_confirmed(result: ItemResult, id: &str, holds: &dyn Fn(&str) -> bool) -> Item {
    let ItemResult { result, id: got, index, .. } = result;
    match (result.as_deref(), got, index) {
        (Some("noop"), ..) => {
            Item::Dropped("the server answers noop: an ingest pipeline has dropped it".into())
        }
        (_, Some(got), _) if got != id => Item::Dropped(format!("it was written under another _id, {got:?}")),
        (.., Some(index)) if !holds(&index) => Item::Elsewhere(index),
        _ => Item::Done,
    }
}

fn judge_item(
    operation: Operation,
    mut result: ItemResult,
    id: &str,
    holds: &dyn Fn(&str) -> bool,
) -> Result<Item, Answer> {
    let is_error = result.error.is_some();
    let error = result.error.take().unwrap_or_default();
    Ok(match result.status {
        200..=299 if operation == Operation::Index => judge_confirmed(result, id, holds),
        200..=299 => Item::Done,
        // There was nothing to delete. A missing index is an error instead.
        404 if operation != Operation::Index && !is_error => Item::Done,
        409 => Item::Superseded,
        408 | 429 | 500..=599 => Item::Retry(format!("status {}: {}", result.status, error.describe())),
        _ if operation == Operation::DeleteFound && error.is_lasting_block() => {
            Item::Refused(error.into_refusal())
        }
        _ if error.is_block() => Item::Retry(error.describe()),
        _ if error.means_move() => return Err(Answer::Moved(refused(error.move_message()))),
        401 | 403 => {
            return Err(Answer::Stop(refused(format!("this run lacks a privilege ({})", error.describe()))));
        }
        _ => Item::Refused(error.into_refusal()),
    })
}

/// Version of a tombstone that the server reports without one. No write of this program has this version, so the
/// tombstone counts as another program's.
pub const UNKNOWN_VERSION: u64 = u64::MAX;

/// Parses the answer to a multi get. Returns the document of each id; None: there is none.
///
/// # Errors
///
/// Returns `Answer::Retry` if the answer cannot be read or does not fit the request. An error of a document becomes the
/// answer for the whole look-up.
pub fn judge_look_up(body: &[u8], ids: &[&str]) -> Result<Vec<Option<FoundDocument>>, Answer> {
    let unreadable = |what: String| Answer::Retry(format!("an answer that does not fit the look-up: {what}"));
    let reply: MultiGetReply = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if reply.docs.len() != ids.len() {
        return Err(unreadable(format!("{} documents for {} ids", reply.docs.len(), ids.len())));
    }
    reply
        .docs
        .into_iter()
        .zip(ids)
        .map(|(doc, id)| match doc {
            MultiGetDoc { error: Some(error), .. } => Err(error.look_up_answer()),
            MultiGetDoc { id: got, found: Some(false), .. } if got == *id => Ok(None),
            MultiGetDoc { id: got, found: Some(true), version, seq_no, primary_term, .. } if got == *id => {
                let version = version.and_then(|version| version.as_u64()).unwrap_or(UNKNOWN_VERSION);
                Ok(Some(FoundDocument { version, place: seq_no.zip(primary_term) }))
            }
            _ => Err(unreadable("a document that was not requested".into())),
        })
        .collect()
}

/// A document that a look-up has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundDocument {
    /// Version of the document.
    pub version: u64,
    /// Its `_seq_no` and `_primary_term`. A delete with these succeeds only if the document has not changed.
    pub place: Option<(u64, u64)>,
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

/// Maximum length of a server's text in a log line, in characters.
const LONGEST_REASON: usize = 500;

impl ItemError {
    fn describe(&self) -> String {
        let reason: String = self.reason.chars().take(LONGEST_REASON).collect();
        format!("{}: {reason}", self.kind)
    }

    /// Returns whether an index is blocked or closed. Both pass: blocks are lifted, and an index that is closed to
    /// change its settings is opened again. Neither is the document's fault.
    fn is_block(&self) -> bool {
        matches!(self.kind.as_str(), "cluster_block_exception" | "index_closed_exception")
    }

    /// Returns whether somebody set the block, so that it stays until somebody removes it. The block of a full disk is
    /// lifted automatically.
    fn is_lasting_block(&self) -> bool {
        self.is_block()
            && ["index write (api)", "index read-only (api)"].iter().any(|b| self.reason.contains(b))
    }

    /// Returns whether the error means that the indices behind a name have changed. Source: seen in Elasticsearch 8.12
    /// to 9.5 and OpenSearch 2.19 to 3.9.
    fn means_move(&self) -> bool {
        match self.kind.as_str() {
            "index_not_found_exception" | "routing_missing_exception" => true,
            "illegal_argument_exception" => {
                self.reason.contains("no write index is defined for alias")
                    || self.reason.contains("has more than one ind")
            }
            _ => false,
        }
    }

    /// Returns the message that stops the run if nothing has changed.
    fn move_message(&self) -> String {
        let what = self.describe();
        match self.kind.as_str() {
            "index_not_found_exception" if self.reason.contains("is not an alias") => format!(
                "an index is missing or is not an alias ({what}): create it, or run with --create-indices; \
                 if this run does not write to it, an ingest pipeline sends documents there: remove that \
                 pipeline"
            ),
            "index_not_found_exception" => {
                format!("an index is missing ({what}): create it, or run with --create-indices")
            }
            "routing_missing_exception" => {
                format!(
                    "an index requires routing, but this run cannot see that in its mapping ({what}): grant \
                     view_index_metadata"
                )
            }
            _ if self.reason.contains("has more than one ind") => format!(
                "an alias has several indices, but the server does not show them to this run ({what}): grant \
                 view_index_metadata"
            ),
            _ => format!("an alias cannot be used ({what}): mark one of its indices with is_write_index"),
        }
    }

    /// Classifies the error of one document of a look-up.
    fn look_up_answer(&self) -> Answer {
        match self.kind.as_str() {
            "security_exception" => Answer::Stop(refused(format!(
                "this run may not read an index ({}): grant read on it",
                self.describe()
            ))),
            _ if self.means_move() => Answer::Moved(refused(self.move_message())),
            _ => Answer::Retry(self.describe()),
        }
    }

    fn into_refusal(self) -> Refusal {
        let error_type = if self.kind.is_empty() { "refused".to_owned() } else { self.kind };
        Refusal { error_type, reason: self.reason }
    }
}

pub mod contents;

#[cfg(test)]
mod tests;
